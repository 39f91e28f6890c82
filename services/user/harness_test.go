package user

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
)

func TestMain(m *testing.M) { apptest.Main(m) }

const (
	password  = "correct horse battery"
	rootEmail = "root@example.com"
)

// watch is a clock that stands still until it is set forward.
type watch struct {
	mu  sync.Mutex
	now time.Time
}

func newWatch() *watch { return &watch{now: time.Now().Truncate(time.Second)} }

func (w *watch) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *watch) forward(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// house is a user service that runs, and its clients.
type house struct {
	t     *testing.T
	world *apptest.World
	watch *watch
	url   string
	log   *buffer
	stop  func()
	users userpb.UserServiceClient
	auth  userpb.AuthServiceClient
}

// each calls fn with a service on each database engine.
func each(t *testing.T, fn func(t *testing.T, h *house)) {
	t.Helper()
	dbtest.EachURL(t, func(t *testing.T, url string) { fn(t, open(t, url, nil)) })
}

// open starts a service on a database, with an administrator.
func open(t *testing.T, url string, env map[string]string) *house {
	t.Helper()
	return newHouse(apptest.New(t), t, url).start(env)
}

func newHouse(w *apptest.World, t *testing.T, url string) *house {
	return &house{t: t, world: w, watch: newWatch(), url: url, log: &buffer{}}
}

func (h *house) start(env map[string]string) *house {
	h.t.Helper()
	environ := map[string]string{"DATABASE_URL": h.url, "ADMIN_EMAIL": rootEmail, "ADMIN_PASSWORD": password}
	for k, v := range env {
		environ[k] = v
	}
	h.world.Clock, h.world.Log = h.watch.time, h.log
	h.stop = h.world.Start(New(), environ)
	cc := h.world.Conn("user")
	h.users, h.auth = userpb.NewUserServiceClient(cc), userpb.NewAuthServiceClient(cc)
	return h
}

// replica starts another service on the same database, PostgreSQL, and broker.
func (h *house) replica() *house {
	h.t.Helper()
	r := newHouse(apptest.New(h.t), h.t, h.url)
	r.world.Broker, r.watch = h.world.Broker, h.watch
	return r.start(nil)
}

// database opens the service's database beside it.
func (h *house) database() *db.DB {
	h.t.Helper()
	return dbtest.Open(h.t, h.url)
}

// count returns what a SELECT COUNT(*) says.
func (h *house) count(query string) int {
	h.t.Helper()
	var n int
	if err := h.database().Row(h.t.Context(), query).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// join opens an account.
func (h *house) join(email string) *userpb.User {
	h.t.Helper()
	r, err := h.users.CreateUser(h.t.Context(), &userpb.CreateUserRequest{Email: email, Password: password, DisplayName: "Some One"})
	if err != nil {
		h.t.Fatal(err)
	}
	return r.GetUser()
}

func (h *house) login(email string) *userpb.LoginResponse {
	h.t.Helper()
	r, err := h.auth.Login(h.t.Context(), &userpb.LoginRequest{Email: email, Password: password})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// as returns a context for calls with the access token of a new sign-in.
func (h *house) as(email string) context.Context {
	h.t.Helper()
	return bearing(h.t, h.login(email).GetAccessToken())
}

func bearing(t *testing.T, token string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

func (h *house) me(token string) (*userpb.User, error) {
	r, err := h.users.GetUser(bearing(h.t, token), &userpb.GetUserRequest{Id: "me"})
	return r.GetUser(), err
}

func (h *house) renew(token, requestID string) (*userpb.RefreshResponse, error) {
	return h.auth.Refresh(h.t.Context(), &userpb.RefreshRequest{RefreshToken: token, RequestId: requestID})
}

func (h *house) mustRenew(token, requestID string) *userpb.RefreshResponse {
	h.t.Helper()
	r, err := h.renew(token, requestID)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// announced returns the messages with a subject, once there are n of them, and
// fails if there are more.
func (h *house) announced(subject string, n int, m proto.Message) []proto.Message {
	h.t.Helper()
	bus, err := events.Connect(events.Config{Conn: h.world.Broker, Name: "test"})
	if err != nil {
		h.t.Fatal(err)
	}
	defer bus.Close()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	var all []proto.Message
	fence := h.fence()
	err = bus.Tail(ctx, events.Tail{Subjects: []string{"user.>"}, Since: time.Unix(1, 0)}, func(_ context.Context, e events.Event) error {
		if e.Subject == subject {
			got := proto.Clone(m)
			if err := e.Unmarshal(got); err != nil {
				return err
			}
			all = append(all, got)
		}
		var c userpb.UserCreated
		if e.Subject == "user.created" && e.Unmarshal(&c) == nil && c.GetUserId() == fence {
			return errFence
		}
		return nil
	})
	if err != errFence || len(all) != n {
		h.t.Fatalf("%d events %s, want %d (%v): %v", len(all), subject, n, err, all)
	}
	return all
}

var errFence = fault.Malformed("enough")

// fence does something that is announced after all that was done before.
func (h *house) fence() string {
	h.t.Helper()
	r, err := h.users.CreateUser(h.t.Context(), &userpb.CreateUserRequest{Email: "fence-" + encode(random(6)) + "@example.com", Password: password})
	if err != nil {
		h.t.Fatal(err)
	}
	return r.GetUser().GetId()
}

// refused checks how a call was refused.
func refused(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	if got := fault.FromStatus(err); status.Code(err) != code || fault.Reason(got) != reason {
		t.Errorf("got %v (%s), want %v %s", err, fault.Reason(got), code, reason)
	}
}

// invalid checks that a call was refused for the value of a field.
func invalid(t *testing.T, err error, field string) {
	t.Helper()
	f := fault.As(fault.FromStatus(err))
	if f == nil || f.Code() != codes.InvalidArgument || len(f.Fields()) == 0 || f.Fields()[0].Field != field {
		t.Errorf("got %v, want INVALID_ARGUMENT for %s", err, field)
	}
}

// race calls fn n times at once and returns what came of it.
func race[T any](n int, fn func(i int) (T, error)) ([]T, []error) {
	values, errs := make([]T, n), make([]error, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-start; values[i], errs[i] = fn(i) })
	}
	close(start)
	wg.Wait()
	return values, errs
}
