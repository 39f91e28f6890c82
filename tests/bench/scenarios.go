package main

import "slices"

// scenario compares contenders that do the same work, at several numbers of
// clients. The first is the yardstick: every other is divided by it.
type scenario struct {
	name, what string
	clients    func(Config) []int
	contenders []contender
	// open also has the contenders at rates in place of clients.
	open bool
}

// contender is one way to do the work.
type contender struct {
	name string
	on   where
	make maker
	// settles says that a call leaves work behind: a run has ended, and is paid
	// for, when that is done.
	settles bool
	slow    bool // left out of an open loop
}

// where is the target of a contender.
type where string

const (
	onBare       where = "bare"          // a gRPC server with nothing around it
	onPostgres   where = "postgres"      // the services, each a process
	onSQLite     where = "sqlite"        // the shop in one process
	onBarePG     where = "bare postgres" // the database and nothing else
	onBareSQLite where = "bare sqlite"
	onAddr       where = "addr" // what -addr says
)

func reads(c Config) []int { return c.Clients }

func orders(c Config) []int { return slices.Concat(c.Clients, c.OrderClients) }

// few is for what is long, or is done one after another.
func few(c Config) []int {
	return slices.DeleteFunc(slices.Clone(c.Clients), func(n int) bool { return n > 16 })
}

// ends are the fewest and the most.
func ends(c Config) []int {
	all := orders(c)
	return slices.Compact([]int{all[0], all[len(all)-1]})
}

// scenarios are all there are. With -addr only what is there is measured, and
// the bare server beside it.
var scenarios = []scenario{
	{name: "GetProduct", what: "one product; sampled is the share of traces", clients: reads, open: true, contenders: []contender{
		{name: "bare", on: onBare, make: getProduct(0)},
		{name: "postgres 1%", on: onPostgres, make: getProduct(1)},
		{name: "postgres 100%", on: onPostgres, make: getProduct(100), slow: true},
		{name: "sqlite 1%", on: onSQLite, make: getProduct(1), slow: true},
		{name: "REST postgres", on: onPostgres, make: getREST},
		{name: "addr 1%", on: onAddr, make: getProduct(1)},
		{name: "REST addr", on: onAddr, make: getREST},
	}},
	{name: "ListProducts", what: "a page of 20", clients: reads, contenders: []contender{
		{name: "bare", on: onBare, make: listProducts},
		{name: "postgres", on: onPostgres, make: listProducts},
		{name: "sqlite", on: onSQLite, make: listProducts},
		{name: "addr", on: onAddr, make: listProducts},
	}},
	{name: "Greet", what: "no store", clients: reads, contenders: []contender{
		{name: "bare", on: onBare, make: greet},
		{name: "service", on: onPostgres, make: greet},
		{name: "addr", on: onAddr, make: greet},
	}},
	{name: "ListGreetings", what: "streams of 10,000 messages from the server", clients: few, contenders: []contender{
		{name: "bare", on: onBare, make: listGreetings},
		{name: "service", on: onPostgres, make: listGreetings},
		{name: "addr", on: onAddr, make: listGreetings},
	}},
	{name: "RecordGreetings", what: "streams of 10,000 messages to the server", clients: few, contenders: []contender{
		{name: "bare", on: onBare, make: recordGreetings},
		{name: "service", on: onPostgres, make: recordGreetings},
		{name: "addr", on: onAddr, make: recordGreetings},
	}},
	{name: "Login", what: "a password checked with argon2id", clients: few, contenders: []contender{
		{name: "postgres", on: onPostgres, make: login},
		{name: "sqlite", on: onSQLite, make: login},
		{name: "addr", on: onAddr, make: login},
	}},
	{name: "CreateOrder", what: "to the decision; bare: the statements alone", clients: orders, open: true, contenders: []contender{
		{name: "bare alone", on: onBarePG, make: bareAlone, slow: true},
		{name: "bare grouped", on: onBarePG, make: bareGrouped, slow: true},
		{name: "postgres", on: onPostgres, make: createOrder, settles: true},
		{name: "postgres hot", on: onPostgres, make: createHotOrder, settles: true, slow: true},
		{name: "addr", on: onAddr, make: createOrder},
		{name: "REST addr", on: onAddr, make: createOrderREST},
	}},
	{name: "CreateOrder, one process", what: "the same on SQLite", clients: orders, open: true, contenders: []contender{
		{name: "bare alone", on: onBareSQLite, make: bareAlone, slow: true},
		{name: "bare grouped", on: onBareSQLite, make: bareGrouped, slow: true},
		{name: "sqlite", on: onSQLite, make: createOrder, settles: true},
	}},
	{name: "Order to COMPLETED", what: "stock sold, payment captured, followed by WatchOrder", clients: ends, contenders: []contender{
		{name: "postgres", on: onPostgres, make: completeOrder, settles: true},
		{name: "sqlite", on: onSQLite, make: completeOrder, settles: true},
		{name: "addr", on: onAddr, make: completeOrder},
	}},
}
