package auth

import (
	"context"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// publisher publishes keys, and counts how often it is asked.
type publisher struct {
	mu    sync.Mutex
	now   time.Time
	keys  []JWK
	err   error
	asked int
}

func (p *publisher) fetch(context.Context) ([]JWK, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.keys, p.err
}

func (p *publisher) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// after lets time pass, then publishes keys, or fails with err.
func (p *publisher) after(d time.Duration, err error, keys ...JWK) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.keys, p.err = p.now.Add(d), keys, err
}

func (p *publisher) want(t *testing.T, asked int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked != asked {
		t.Errorf("asked %d times, want %d", p.asked, asked)
	}
}

func published(t testing.TB, kid string) JWK {
	t.Helper()
	k, err := NewJWK(kid, &newKey(t, elliptic.P256()).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRemote(keys ...JWK) (*publisher, *RemoteKeys) {
	p := &publisher{now: start, keys: keys}
	return p, NewRemoteKeys(p.fetch, p.clock)
}

// settle waits for the fetch under way, if there is one.
func settle(r *RemoteKeys) {
	r.mu.Lock()
	flight := r.flight
	r.mu.Unlock()
	if flight != nil {
		<-flight
	}
}

func TestJWKSurvivesJSONAndProto(t *testing.T) {
	key := &newKey(t, elliptic.P256()).PublicKey
	k, err := NewJWK("k1", key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(FromProto(k.Proto()))
	if err != nil {
		t.Fatal(err)
	}
	var back JWK
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	got, err := back.PublicKey()
	if err != nil || !got.Equal(key) {
		t.Errorf("got %v, %v from %s", got, err, text)
	}
}

func TestBadJWKIsRefused(t *testing.T) {
	for name, change := range map[string]func(*JWK){
		"RSA":                func(k *JWK) { k.Kty = "RSA" },
		"P-384":              func(k *JWK) { k.Crv = "P-384" },
		"for encryption":     func(k *JWK) { k.Use = "enc" },
		"ES384":              func(k *JWK) { k.Alg = "ES384" },
		"no id":              func(k *JWK) { k.Kid = "" },
		"not on the curve":   func(k *JWK) { k.X, k.Y = k.Y, k.X },
		"point at infinity":  func(k *JWK) { k.X, k.Y = strings.Repeat("A", 43), strings.Repeat("A", 43) },
		"above the modulus":  func(k *JWK) { k.X = strings.Repeat("_", 42) + "8" },
		"short coordinate":   func(k *JWK) { k.X = k.X[:40] },
		"no coordinate":      func(k *JWK) { k.Y = "" },
		"standard alphabet":  func(k *JWK) { k.X = "+/" + k.X[2:] },
		"padded coordinate":  func(k *JWK) { k.X += "=" },
		"trailing bits used": func(k *JWK) { k.X = k.X[:42] + "9" },
	} {
		k := published(t, "k1")
		change(&k)
		if key, err := k.PublicKey(); err == nil {
			t.Errorf("%s: got %v", name, key)
		}
	}
	if k, err := NewJWK("k1", &newKey(t, elliptic.P384()).PublicKey); err == nil {
		t.Errorf("P-384: got %v", k)
	}
}

// user is a connection to a user service that publishes keys.
type user struct {
	grpc.ClientConnInterface
	keys []*userpb.JsonWebKey
}

func (u user) Invoke(_ context.Context, method string, _, reply any, _ ...grpc.CallOption) error {
	if method != userpb.AuthService_GetJwks_FullMethodName {
		return fmt.Errorf("unexpected call of %s", method)
	}
	proto.Merge(reply.(proto.Message), &userpb.GetJwksResponse{Keys: u.keys})
	return nil
}

func TestKeysOfTheUserServiceVerifyItsTokens(t *testing.T) {
	key := newKey(t, elliptic.P256())
	k, err := NewJWK("k1", &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	token, err := Sign(key, "k1", ann())
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return start }
	v := NewVerifier(UserKeys(user{keys: []*userpb.JsonWebKey{nil, k.Proto()}}, clock), nil, clock)
	if p, err := v.Verify(t.Context(), token); err != nil || p.Subject != "ann" {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestFloodOfForgedKidsIsOneFetch(t *testing.T) {
	p, r := newRemote(published(t, "k1"))
	flood := func() {
		var g sync.WaitGroup
		for i := range 500 {
			g.Go(func() {
				if _, err := r.Key(t.Context(), fmt.Sprintf("forged-%d", i)); !errors.Is(err, ErrUnknownKey) {
					t.Errorf("got %v", err)
				}
				if _, err := r.Key(t.Context(), "k1"); err != nil {
					t.Error(err)
				}
			})
		}
		g.Wait()
	}
	flood()
	p.want(t, 1)
	p.after(keysInterval-1, nil, p.keys...)
	flood()
	p.want(t, 1)
	p.after(1, nil, p.keys...)
	flood()
	p.want(t, 2)
}

func TestRotatedKeysOverlap(t *testing.T) {
	k1, k2, k3 := published(t, "k1"), published(t, "k2"), published(t, "k3")
	p, r := newRemote(k1, k2)
	knows := func(kids ...string) {
		t.Helper()
		for _, kid := range kids {
			if _, err := r.Key(t.Context(), kid); err != nil {
				t.Errorf("%s: %v", kid, err)
			}
		}
	}
	knows("k1", "k2")
	p.after(keysInterval, nil, k2, k3)
	knows("k1") // it is there, nobody asks
	p.want(t, 1)
	knows("k3", "k2")
	p.want(t, 2)
	if _, err := r.Key(t.Context(), "k1"); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("the withdrawn key: got %v", err)
	}
}

func TestOldKeysStandWhilePublisherIsAway(t *testing.T) {
	p, r := newRemote(published(t, "k1"))
	if _, err := r.Key(t.Context(), "k1"); err != nil {
		t.Fatal(err)
	}
	for n, err := range []error{errors.New("away"), nil /* and no keys */, errors.New("away")} {
		p.after(keysFresh, err)
		if _, err := r.Key(t.Context(), "k1"); err != nil {
			t.Error(err)
		}
		settle(r)
		p.want(t, 2+n)
	}
	if _, err := r.Key(t.Context(), "k2"); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("got %v", err)
	}
}

func TestNoKeysAtAllIsUnavailableUntilThereAreSome(t *testing.T) {
	p, r := newRemote()
	p.err = errors.New("away")
	v := NewVerifier(r, nil, p.clock)
	key := newKey(t, elliptic.P256())
	token, err := Sign(key, "k1", ann())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := v.Verify(t.Context(), token); fault.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	}
	p.want(t, 1)
	k, err := NewJWK("k1", &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	p.after(keysRetry, nil, JWK{Kty: "RSA", Kid: "k0"}, k)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestWaitForKeysEndsWithTheCall(t *testing.T) {
	hold := make(chan struct{})
	k1 := published(t, "k1")
	r := NewRemoteKeys(func(context.Context) ([]JWK, error) { <-hold; return []JWK{k1}, nil }, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Key(ctx, "k1"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(hold)
	if _, err := r.Key(t.Context(), "k1"); err != nil { // the fetch went on
		t.Error(err)
	}
}

func TestRevocationsEndWithTheTokens(t *testing.T) {
	now := start
	r := NewRevocations(func() time.Time { return now })
	for i := range 10 * minPrune {
		r.Add(fmt.Sprint(i), now.Add(time.Minute))
		now = now.Add(time.Second)
		if len(r.until) > minPrune {
			t.Fatalf("%d sessions kept, of which 60 matter", len(r.until))
		}
	}
	if !r.Revoked(fmt.Sprint(10*minPrune-1)) || r.Revoked("0") {
		t.Error("the last one must be revoked, the first one forgotten")
	}
	r.Add("late", now)
	if r.Revoked("late") {
		t.Error("kept what has expired already")
	}
}

func TestRevocationIsNeverShortened(t *testing.T) {
	r := NewRevocations(func() time.Time { return start })
	r.Add("s1", start.Add(time.Hour))
	r.Add("s1", start.Add(time.Minute))
	if got := r.until["s1"]; !got.Equal(start.Add(time.Hour)) {
		t.Errorf("got %v", got)
	}
}

func TestAnnouncedRevocationIsApplied(t *testing.T) {
	r := NewRevocations(func() time.Time { return start })
	r.Apply(&userpb.SessionRevoked{SessionId: "s1", ExpireTime: timestamppb.New(start.Add(time.Minute))})
	r.Apply(&userpb.SessionRevoked{SessionId: "s2"})
	r.Apply(&userpb.SessionRevoked{})
	r.Apply(nil)
	if !r.Revoked("s1") || !r.Revoked("s2") || r.Revoked("") || len(r.until) != 2 {
		t.Errorf("got %v", r.until)
	}
}
