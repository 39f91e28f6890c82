package idem_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	userv1 "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

type receipt struct {
	Number int
	Time   time.Time
}

var key = idem.Key{Scope: "/shop/Buy", ID: "r1", Fingerprint: []byte{1, 2}}

// each runs a test with buy, which has an effect that is counted: its receipt
// bears the number of effects there are then.
func each(t *testing.T, fn func(t *testing.T, d *db.DB, buy func(idem.Key, error) (receipt, error))) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		if _, err := d.Exec(t.Context(), `CREATE TABLE effect (at BIGINT)`); err != nil {
			t.Fatal(err)
		}
		fn(t, d, func(key idem.Key, result error) (receipt, error) {
			return idem.Do(t.Context(), d, key, func(tx *db.DB) (r receipt, err error) {
				if _, err := tx.Exec(t.Context(), `INSERT INTO effect VALUES (1)`); err != nil {
					return r, err
				}
				r.Time = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
				return r, errors.Join(tx.Row(t.Context(), `SELECT COUNT(*) FROM effect`).Scan(&r.Number), result)
			})
		})
	}, idem.Schema)
}

func TestRepetitionsTakeEffectOnce(t *testing.T) {
	each(t, func(t *testing.T, _ *db.DB, buy func(idem.Key, error) (receipt, error)) {
		want := receipt{1, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
		check := func() {
			got, err := buy(key, nil)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		}
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(check)
		}
		calls.Wait()
		for range 3 {
			check()
		}
	})
}

func TestOtherRequestWithTheSameIDIsRefused(t *testing.T) {
	each(t, func(t *testing.T, _ *db.DB, buy func(idem.Key, error) (receipt, error)) {
		if _, err := buy(key, nil); err != nil {
			t.Fatal(err)
		}
		other := key
		other.Fingerprint = []byte{3}
		got, err := buy(other, nil)
		if fault.Code(err) != codes.InvalidArgument || got != (receipt{}) {
			t.Fatalf("got %v, %v", got, err)
		}
		if f := fault.As(err).Fields(); len(f) != 1 || f[0].Field != "request_id" || f[0].Reason != "REQUEST_ID_REUSED" {
			t.Errorf("got %v", f)
		}
		other.Scope += " somebody else"
		if got, err := buy(other, nil); err != nil || got.Number != 2 {
			t.Errorf("in another scope: %v, %v", got, err)
		}
	})
}

func TestFailureStoresNothing(t *testing.T) {
	each(t, func(t *testing.T, _ *db.DB, buy func(idem.Key, error) (receipt, error)) {
		refused := fault.Refused("OUT_OF_STOCK", "no tea left")
		if got, err := buy(key, refused); fault.Reason(err) != "OUT_OF_STOCK" || got != (receipt{}) {
			t.Errorf("got %v, %v", got, err)
		}
		if got, err := buy(key, nil); err != nil || got.Number != 1 {
			t.Errorf("again: %v, %v", got, err)
		}
	})
}

func TestWithoutIDRunsEachTime(t *testing.T) {
	each(t, func(t *testing.T, _ *db.DB, buy func(idem.Key, error) (receipt, error)) {
		for n := 1; n <= 2; n++ {
			if got, err := buy(idem.Key{Scope: "/shop/Buy"}, nil); err != nil || got.Number != n {
				t.Errorf("got %v, %v; want %d", got, err, n)
			}
		}
	})
}

func TestMessageComesBackWhole(t *testing.T) {
	want, err := structpb.NewValue(map[string]any{"a": []any{1.0, "b", nil}}) // nested oneofs
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for range 2 {
			got, err := idem.Do(t.Context(), d, key, func(*db.DB) (*structpb.Value, error) { return want, nil })
			if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
				t.Error(err, diff)
			}
		}
	}, idem.Schema)
}

func TestPruneForgetsTheOldOnes(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, buy func(idem.Key, error) (receipt, error)) {
		if _, err := d.Exec(t.Context(), `
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
			INSERT INTO idem SELECT 'old', CAST(i AS TEXT), $1, '', i FROM n`, []byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := buy(key, nil); err != nil {
			t.Fatal(err)
		}
		if n, err := idem.Prune(t.Context(), d, db.Time(2500)); err != nil || n != 2499 {
			t.Errorf("pruned %d, %v; want 2499", n, err)
		}
		if got, err := buy(key, nil); err != nil || got.Number != 1 {
			t.Errorf("the new one: %v, %v", got, err)
		}
	})
}

// call is the context of a call to method by user.
type call struct {
	grpc.ServerTransportStream
	method string
}

func (c call) Method() string { return c.method }

func inCall(t *testing.T, method, user string) context.Context {
	ctx := grpc.NewContextWithServerTransportStream(t.Context(), call{method: method})
	if user == "" {
		return ctx
	}
	return auth.With(ctx, &auth.Principal{Subject: user})
}

func TestKeyOf(t *testing.T) {
	const method = "/user.v1.UserService/CreateUser"
	ann := inCall(t, method, "ann")
	request := func(change func(*userv1.CreateUserRequest)) *userv1.CreateUserRequest {
		r := &userv1.CreateUserRequest{RequestId: "r1", Email: "ann@example.com", Password: "secret"}
		change(r)
		return r
	}
	same := request(func(*userv1.CreateUserRequest) {})
	base := idem.KeyOf(ann, same, "password")
	if base.ID != "r1" || base.Scope != method+" ann" || len(base.Fingerprint) != 32 {
		t.Errorf("got %q %q %x", base.ID, base.Scope, base.Fingerprint)
	}
	tests := map[string]struct {
		ctx                    context.Context
		req                    proto.Message
		scope, id, fingerprint bool // are as those of base
	}{
		"the same":       {ann, same, true, true, true},
		"other password": {ann, request(func(r *userv1.CreateUserRequest) { r.Password = "?" }), true, true, true},
		"other id":       {ann, request(func(r *userv1.CreateUserRequest) { r.RequestId = "r2" }), true, false, true},
		"other field":    {ann, request(func(r *userv1.CreateUserRequest) { r.Email = "?" }), true, true, false},
		"other user":     {inCall(t, method, "bob"), same, false, true, true},
		"no user":        {inCall(t, method, ""), same, false, true, true},
		"other method":   {inCall(t, "/x/Y", "ann"), same, false, true, true},
		"outside gRPC":   {t.Context(), same, false, true, true},
	}
	for name, test := range tests {
		got := idem.KeyOf(test.ctx, test.req, "password")
		same := fmt.Sprint(got.Scope == base.Scope, got.ID == base.ID, cmp.Equal(got.Fingerprint, base.Fingerprint))
		if want := fmt.Sprint(test.scope, test.id, test.fingerprint); same != want {
			t.Errorf("%s: same scope, id, fingerprint: %s, want %s", name, same, want)
		}
	}
	if same.GetPassword() != "secret" {
		t.Error("the request was changed")
	}
	if got := idem.KeyOf(ann, &userv1.GetUserRequest{Id: "1"}); got.ID != "" {
		t.Errorf("a request without the field has the id %q", got.ID)
	}
}
