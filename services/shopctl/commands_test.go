package shopctl

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// answers is a shop that grants everything.
func answers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /v1/users/me":                       reply(user1),
		"GET /v1/users":                          reply(`{"users":[` + user1 + `],"next_page_token":"","total_size":1}`),
		"POST /v1/auth:logout":                   reply(`{}`),
		"GET /v1/products/" + product1:           reply(mug),
		"POST /v1/products":                      reply(mug),
		"PATCH /v1/products/" + product1:         reply(mug),
		"DELETE /v1/products/" + product1:        reply(`{}`),
		"GET /v1/products:watch":                 reply(": open\n\nid: a\ndata: {\"change\":\"CHANGE_UPDATED\",\"product\":" + mug + ",\"resume_token\":\"a\"}\n\nevent: end\ndata: {}\n\n"),
		"GET /v1/stock/" + product1:              reply(stock1),
		"GET /v1/stock:batchGet":                 reply(`{"stocks":[` + stock1 + `,` + stock1 + `]}`),
		"PUT /v1/stock/" + product1:              reply(stock1),
		"POST /v1/stock/" + product1 + ":adjust": reply(stock1),
		"POST /v1/orders":                        reply(order("CONFIRMED", "", "")),
		"GET /v1/orders":                         reply(`{"orders":[` + order("REJECTED", "OUT_OF_STOCK", "") + `],"next_page_token":"more","total_size":7}`),
		"GET /v1/orders/" + order1:               reply(order("COMPLETED", "", "")),
		"GET /v1/orders/" + order1 + ":watch":    reply(states("", "PENDING", "CONFIRMED", "COMPLETED")),
		"POST /v1/orders/" + order1 + ":cancel":  reply(order("CANCELLED", "CANCELLED_BY_USER", "cancelled as you asked")),
	}
}

const (
	findMug   = "GET /v1/products?filter=sku+%3D+%22KIT-001%22"
	requestID = "01890000-0000-4000-8000-0000000000ff"

	productShown = `id           ` + product1 + `
sku          KIT-001
name         Tall Mug
description  A mug
category     kitchen
price        EUR 12.50
image        ☕
created      TIME
updated      TIME
etag         v1
`
	stockShown = `PRODUCT  AVAILABLE  RESERVED  SOLD  STOCKED  UPDATED
KIT-001          7         1     2       10  TIME
`
	orderShown = `id       ` + order1 + `
state    COMPLETED
items    2 x KIT-001  EUR 12.50  Tall Mug
total    EUR 25.00
payment  pay-1
created  TIME
updated  TIME
trace    ` + trace1 + `
`
)

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		args  string
		asked []string
		want  ran
	}{
		{"whoami", []string{"GET /v1/users/me"}, ran{out: `id       ` + product1 + `
email    a@example.com
name     Ann
roles    user, admin
created  TIME
`}},
		{"whoami -o json", []string{"GET /v1/users/me"}, ran{out: user1 + "\n"}},
		{"users list --limit 10", []string{"GET /v1/users?page_size=10"}, ran{out: `ID                                    EMAIL          NAME  ROLES       CREATED
` + product1 + `  a@example.com  Ann   user,admin  TIME
`}},
		{"logout", []string{`POST /v1/auth:logout {"refresh_token":"refresh-secret"}`}, ran{err: "shopctl: signed out of SHOP\n"}},

		{
			"products list --category kitchen --filter price.units<20 --order-by name",
			[]string{"GET /v1/products?filter=%28price.units%3C20%29+AND+category+%3D+%22kitchen%22&order_by=name&page_size=50"},
			ran{out: `SKU      NAME      CATEGORY      PRICE  ID
KIT-001  Tall Mug  kitchen   EUR 12.50  ` + product1 + `
`},
		},
		{"products get KIT-001", []string{findMug, "GET /v1/products/" + product1}, ran{out: productShown}},
		{"product get " + product1 + " --output=json", []string{"GET /v1/products/" + product1}, ran{out: mug + "\n"}},
		{
			"products create KIT-001 --name Mug --category kitchen --price 3 --currency USD --stock 4 --request-id " + requestID,
			[]string{`POST /v1/products {"product":{"sku":"KIT-001","name":"Mug","category":"kitchen","price":{"currency_code":"USD","units":"3"}},"initial_stock":4,"request_id":"` + requestID + `"}`},
			ran{out: productShown},
		},
		{"products delete KIT-001", []string{findMug, "DELETE /v1/products/" + product1}, ran{err: "shopctl: deleted KIT-001\n"}},
		{"products watch", []string{"GET /v1/products:watch"}, ran{out: "TIME  updated  KIT-001       EUR 12.50     Tall Mug\n"}},

		{"stock get KIT-001", []string{findMug, "GET /v1/stock/" + product1}, ran{out: stockShown}},
		{
			"stock get KIT-001 " + order1,
			[]string{findMug, "GET /v1/stock:batchGet?product_ids=" + product1 + "&product_ids=" + order1},
			ran{out: `PRODUCT                               AVAILABLE  RESERVED  SOLD  STOCKED  UPDATED
KIT-001                                       7         1     2       10  TIME
` + order1 + `          7         1     2       10  TIME
`},
		},
		{
			"stock set KIT-001 7 --request-id " + requestID,
			[]string{findMug, "PUT /v1/stock/" + product1 + ` {"available":7,"request_id":"` + requestID + `"}`}, ran{out: stockShown},
		},
		{
			"stock adjust KIT-001 -3 --request-id " + requestID,
			[]string{findMug, "POST /v1/stock/" + product1 + `:adjust {"delta":-3,"request_id":"` + requestID + `"}`}, ran{out: stockShown},
		},

		{
			"order create --item KIT-001=2 --request-id " + requestID + " --watch",
			[]string{
				findMug,
				`POST /v1/orders {"request_id":"` + requestID + `","items":[{"product_id":"` + product1 + `","quantity":2}],"payment_token":"tok_visa"}`,
				"GET /v1/orders/" + order1 + ":watch",
			},
			ran{out: "TIME  PENDING\nTIME  CONFIRMED\nTIME  COMPLETED\n\n" + orderShown},
		},
		{
			"order create -i " + product1 + " --card tok_amex -o json --request-id " + requestID,
			[]string{`POST /v1/orders {"request_id":"` + requestID + `","items":[{"product_id":"` + product1 + `","quantity":1}],"payment_token":"tok_amex"}`},
			ran{out: order("CONFIRMED", "", "") + "\n"},
		},
		{"order get " + order1, []string{"GET /v1/orders/" + order1}, ran{out: orderShown}},
		{
			"order list --state rejected --limit 1", []string{"GET /v1/orders?filter=state+%3D+%22REJECTED%22&page_size=1"},
			ran{out: `ID                                    STATE     REASON        ITEMS      TOTAL  CREATED
` + order1 + `  REJECTED  OUT_OF_STOCK      2  EUR 25.00  TIME
`, err: "shopctl: 1 of 7 orders; see more with --limit or --all\n"},
		},
		{"order watch " + order1, []string{"GET /v1/orders/" + order1 + ":watch"}, ran{out: "TIME  PENDING\nTIME  CONFIRMED\nTIME  COMPLETED\n"}},
		{
			"order cancel " + order1, []string{"POST /v1/orders/" + order1 + ":cancel {}"},
			ran{out: strings.Replace(orderShown, "COMPLETED\n", "CANCELLED\nreason   CANCELLED_BY_USER: cancelled as you asked\n", 1)},
		},
		{"version", nil, ran{out: "shopctl devel\n"}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			s := newShop(t, answers())
			s.signIn(t)
			got := s.run(t, nil, strings.Fields(tt.args)...)
			if diff := cmp.Diff(got, tt.want, cmp.AllowUnexported(ran{})); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(s.asked, tt.asked); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUpdateSendsWhatChanges(t *testing.T) {
	s := newShop(t, answers())
	s.signIn(t)
	if r := s.run(t, nil, "products", "update", "KIT-001", "--price", "5", "--name", "Mug"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	got := s.asked[len(s.asked)-1]
	// The currency and the etag are those of the product as it was.
	for _, want := range []string{"PATCH /v1/products/" + product1, "update_mask=name%2Cprice", `"name":"Mug"`, `"price":{"currency_code":"EUR","units":"5"}`, `"etag":"v1"`} {
		if !strings.Contains(got, want) {
			t.Errorf("asked %q without %q", got, want)
		}
	}
}

func TestListsGoThroughAllPages(t *testing.T) {
	s := newShop(t, map[string]http.HandlerFunc{"GET /v1/products": func(w http.ResponseWriter, r *http.Request) {
		next := map[string]string{"": "p2", "p2": "p3", "p3": ""}[r.URL.Query().Get("page_token")]
		reply(`{"products":[`+mug+`],"next_page_token":"`+next+`","total_size":3}`)(w, r)
	}})
	r := s.run(t, nil, "products", "list", "--all", "-o", "json")
	if r.code != exitOK || strings.Count(r.out, "\n") != 3 || len(s.asked) != 3 || r.err != "" {
		t.Errorf("asked %q: %+v", s.asked, r)
	}
}

func TestRegisterSignsIn(t *testing.T) {
	s := newShop(t, map[string]http.HandlerFunc{"POST /v1/users": reply(user1), "GET /v1/users/me": reply(user1)})
	s.env["SHOPCTL_PASSWORD"] = "correct horse"
	if r := s.run(t, nil, "register", "a@example.com", "--name", "Ann"); r.code != exitOK || !strings.Contains(s.asked[0], `"display_name":"Ann"`) {
		t.Errorf("asked %q: %+v", s.asked, r)
	}
	if r := s.run(t, nil, "whoami"); r.code != exitOK {
		t.Errorf("%+v", r)
	}
}

func TestExitCodesTellWhatHappened(t *testing.T) {
	refused := map[string]http.HandlerFunc{
		"POST /v1/auth:login": status(http.StatusUnauthorized, `{"code":16,"message":"the email or the password is wrong"}`),
		"GET /v1/products": status(http.StatusBadRequest, `{"code":3,"message":"the request is not valid","details":[{"@type":"type.googleapis.com/google.rpc.BadRequest",
			"fieldViolations":[{"field":"filter","description":"is no filter\u001b[31m"}]}]}`),
		"GET /v1/products/" + product1: status(http.StatusNotFound, `{"code":5,"message":"there is no such product"}`),
		"GET /v1/stock/" + product1: status(http.StatusTooManyRequests, `{"code":8,"message":"too many requests",
			"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"2s"}]}`),
	}
	for _, tt := range []struct {
		args string
		want ran
	}{
		{"whoami", ran{exitDenied, "", "shopctl: not signed in; sign in with: shopctl login\n"}},
		{"login a@example.com", ran{exitDenied, "", "shopctl: the email or the password is wrong\n"}},
		{"products list", ran{exitFailed, "", "shopctl: the request is not valid\n  filter: is no filter?[31m\n"}},
		{"products get " + product1, ran{exitNotFound, "", "shopctl: there is no such product\n"}},
		{"stock get " + product1, ran{exitFailed, "", "shopctl: too many requests\n  try again in 2s\n"}},
		{"products import nowhere.csv", ran{exitFailed, "", "shopctl: open nowhere.csv: no such file or directory\n"}},

		{"products get a/b", ran{exitUsage, "", "shopctl: \"a/b\" is neither the sku nor the id of a product\n  see: shopctl products get --help\n"}},
		{"prodcts", ran{exitUsage, "", "shopctl: unknown command \"prodcts\" for \"shopctl\"\n  see: shopctl --help\n"}},
		{"products lst", ran{exitUsage, "", "shopctl: unknown command \"lst\" for \"shopctl products\"\n  see: shopctl products --help\n"}},
		{"products list --no", ran{exitUsage, "", "shopctl: unknown flag: --no\n  see: shopctl products list --help\n"}},
		{"products list --limit 0", ran{exitUsage, "", "shopctl: --limit must be positive\n  see: shopctl products list --help\n"}},
		{"order create", ran{exitUsage, "", "shopctl: order what? give --item PRODUCT=QUANTITY\n  see: shopctl order create --help\n"}},
		{"order create -i KIT-001=x", ran{exitUsage, "", "shopctl: --item KIT-001=x: \"x\" is not a quantity\n  see: shopctl order create --help\n"}},
		{"order get 7", ran{exitUsage, "", "shopctl: \"7\" is not the id of an order\n  see: shopctl order get --help\n"}},
		{"stock adjust KIT-001 five", ran{exitUsage, "", "shopctl: \"five\" is not a whole number\n  see: shopctl stock adjust --help\n"}},
		{"whoami -o yaml", ran{exitUsage, "", "shopctl: --output is table or json, not \"yaml\"\n  see: shopctl whoami --help\n"}},
		{"whoami --server ftp://x", ran{exitUsage, "", "shopctl: --server: \"ftp://x\" is not an address such as http://localhost:8080\n  see: shopctl whoami --help\n"}},
		{"whoami --timeout -1s", ran{exitUsage, "", "shopctl: --timeout must be positive\n  see: shopctl whoami --help\n"}},
		{"login", ran{exitUsage, "", "shopctl: say who signs in: shopctl login EMAIL\n  see: shopctl login --help\n"}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			s := newShop(t, refused)
			got := s.run(t, strings.NewReader("wrong\n"), strings.Fields(tt.args)...)
			if diff := cmp.Diff(got, tt.want, cmp.AllowUnexported(ran{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestARejectedOrderFails(t *testing.T) {
	s := newShop(t, map[string]http.HandlerFunc{"POST /v1/orders": reply(order("REJECTED", "CARD_DECLINED", "The card was declined."))})
	s.signIn(t)
	r := s.run(t, nil, "order", "create", "-i", "KIT-001")
	if r.code != exitFailed || !strings.HasSuffix(r.err, "shopctl: the order is REJECTED: CARD_DECLINED: The card was declined.\n") {
		t.Errorf("%+v", r)
	}
}

func TestAnOrderInDoubtNamesItsRequest(t *testing.T) {
	s := newShop(t, map[string]http.HandlerFunc{"POST /v1/orders": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }})
	s.signIn(t)
	r := s.run(t, nil, "order", "create", "-i", "KIT-001", "--request-id", requestID)
	if r.code != exitFailed || strings.Count(r.err, "it takes effect once") != 5 || !strings.Contains(r.err, "--request-id "+requestID+" finds out") {
		t.Errorf("%+v", r)
	}
}

func TestInterruptedCommandsSaySo(t *testing.T) {
	began := make(chan struct{})
	s := newShop(t, map[string]http.HandlerFunc{"GET /v1/products:watch": func(w http.ResponseWriter, r *http.Request) {
		reply(": open\n\n")(w, r)
		_ = http.NewResponseController(w).Flush()
		close(began)
		<-r.Context().Done()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if r := s.runContext(t, ctx, nil, "products", "watch"); r != (ran{exitInterrupted, "", "shopctl: interrupted\n"}) {
		t.Errorf("%+v", r)
	}
}

func TestPasswordsOverTheNetworkInClearAreWarnedOf(t *testing.T) {
	s := newShop(t, nil)
	s.env["SHOPCTL_PASSWORD"] = "correct horse"
	if r := s.run(t, nil, "login", "a@example.com"); strings.Contains(r.err, "warning") {
		t.Errorf("on this machine: %s", r.err)
	}
	r := s.run(t, nil, "login", "a@example.com", "--server", "http://shop.invalid")
	if !strings.Contains(r.err, "warning: http://shop.invalid is not encrypted") {
		t.Errorf("far away: %s", r.err)
	}
}

func TestHelpTellsExitCodesAndVariables(t *testing.T) {
	r := newShop(t, nil).run(t, nil, "help")
	for _, want := range []string{"SHOPCTL_SERVER", "NO_COLOR", "not signed in, or not allowed", "completion", "demo "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("help without %q", want)
		}
	}
	for _, args := range [][]string{{"-help"}, {"stock", "adjust", "-help"}} {
		if r := newShop(t, nil).run(t, nil, args...); r.code != exitOK || !strings.Contains(r.out, "Usage:") {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
