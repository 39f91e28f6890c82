package payment

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

const stripeTestKey = "sk_test_secret0123"

// fakeStripe keeps charges as Stripe does, as far as the processor can tell: with
// the states of intents, idempotency keys and the errors of its test cards.
type fakeStripe struct {
	*httptest.Server

	mu      sync.Mutex
	intents map[string]*fakeIntent
	keys    map[string]*fakeAnswer // by idempotency key
	calls   []string               // "create", "confirm" and the like
	// fault is asked for each call, by its name and its number from 1.
	fault func(op string, n int) fakeFault
	// hold is called while a call is under way, before it has an effect.
	hold func(op string)
}

// fakeFault is what goes wrong with a call.
type fakeFault int

const (
	noFault    fakeFault = iota
	loseCall             // the request does not arrive
	loseAnswer           // it does, and the answer gets lost
	busy                 // 429, nothing was done
	brokenDown           // 500, nothing was done; Stripe keeps that answer
)

type fakeIntent struct {
	ID, Status, CancellationReason string
	Metadata                       map[string]string
	Amount, Currency               string
	LastError                      map[string]any
	Refunded                       bool
	Partly                         bool // part of it was given back
	captureDecline                 string
	confirmed                      int // how often the card was asked
	refunds                        int
}

type fakeAnswer struct {
	asked    string // what it was asked, once there is an answer
	status   int
	body     []byte
	underWay bool
}

func newFakeStripe(t testing.TB) *fakeStripe {
	f := &fakeStripe{intents: map[string]*fakeIntent{}, keys: map[string]*fakeAnswer{}}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.SetKeepAlivesEnabled(false) // on an old connection Go's client repeats by itself what was lost
	f.Start()
	t.Cleanup(f.Close)
	return f
}

// stripeOn returns the processor that is tested, with a book in d.
func (f *fakeStripe) stripeOn(t testing.TB, d *db.DB) *stripeProcessor {
	s := newStripe(&stripeBook{d}, &config{StripeURL: f.URL, StripeKey: stripeTestKey}, slog.New(slog.DiscardHandler), time.Now)
	t.Cleanup(s.api.http.CloseIdleConnections)
	return s
}

func fakeOp(r *http.Request) string {
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/"), "/")
	switch {
	case path[0] == "refunds":
		return "refund"
	case path[0] == "payment_methods":
		return "method"
	case len(path) == 3:
		return path[2]
	case r.Method == http.MethodPost:
		return "create"
	case path[1] == "search":
		return "search"
	}
	return "look"
}

func (f *fakeStripe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op := fakeOp(r)
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.calls = append(f.calls, op)
	fault, hold := noFault, f.hold
	if f.fault != nil {
		fault = f.fault(op, f.called(op))
	}
	f.mu.Unlock()
	if fault == loseCall {
		panic(http.ErrAbortHandler)
	}
	status, answer, replayed := f.keyed(op, r, body, fault, hold)
	if fault == loseAnswer {
		panic(http.ErrAbortHandler)
	}
	if replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	w.Header().Set("Request-Id", "req_1")
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

// called returns how many calls of op there were; mu is held.
func (f *fakeStripe) called(op string) (n int) {
	for _, c := range f.calls {
		if c == op {
			n++
		}
	}
	return n
}

// count is called for tests.
func (f *fakeStripe) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.called(op)
}

// keyed answers a call, or as it did before to the same key.
func (f *fakeStripe) keyed(op string, r *http.Request, body []byte, fault fakeFault, hold func(string)) (status int, answer []byte, replayed bool) {
	if r.Header.Get("Authorization") != "Bearer "+stripeTestKey {
		status, answer = fakeError(401, map[string]any{"type": "invalid_request_error", "message": "Invalid API Key provided: " + r.Header.Get("Authorization")})
		return status, answer, false
	}
	key, asked := r.Header.Get("Idempotency-Key"), r.URL.Path+"?"+string(body)
	if r.Method == http.MethodGet {
		key = ""
	} else if key == "" || r.Header.Get("Stripe-Version") == "" {
		panic("stripe-go sends both")
	}
	f.mu.Lock()
	kept := f.keys[key]
	switch {
	case fault == busy:
		status, answer = fakeError(429, map[string]any{"type": "invalid_request_error", "code": "lock_timeout"})
	case kept != nil && kept.underWay:
		status, answer = fakeError(409, map[string]any{"type": "idempotency_error", "code": "idempotency_key_in_use"})
	case kept != nil && kept.asked != asked:
		status, answer = fakeError(400, map[string]any{"type": "idempotency_error"})
	case kept != nil:
		status, answer, replayed = kept.status, kept.body, true
	}
	if status != 0 {
		f.mu.Unlock()
		return status, answer, replayed
	}
	kept = &fakeAnswer{asked: asked, underWay: true}
	if key != "" {
		f.keys[key] = kept
	}
	f.mu.Unlock()
	if hold != nil {
		hold(op)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault == brokenDown {
		status, answer = fakeError(500, map[string]any{"type": "api_error"})
	} else {
		status, answer = f.do(op, r, body)
	}
	kept.status, kept.body, kept.underWay = status, answer, false
	if status == 400 || status == 404 { // nothing was executed: not kept
		delete(f.keys, key)
	}
	return status, answer, false
}

func fakeError(status int, e map[string]any) (int, []byte) {
	answer, _ := json.Marshal(map[string]any{"error": e})
	return status, answer
}

// do answers a call; mu is held.
func (f *fakeStripe) do(op string, r *http.Request, body []byte) (int, []byte) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return fakeError(400, map[string]any{"type": "invalid_request_error"})
	}
	switch op {
	case "method":
		answer, _ := json.Marshal(map[string]string{"id": strings.Replace(form.Get("card[token]"), "tok_", "pm_card_", 1)})
		return 200, answer
	case "create":
		return f.create(form)
	case "search":
		return f.search(r.URL.Query().Get("query"))
	}
	id := form.Get("payment_intent")
	if op != "refund" {
		id = strings.Split(r.URL.Path, "/")[3]
	}
	i := f.intents[id]
	if i == nil {
		return fakeError(404, map[string]any{"type": "invalid_request_error", "code": "resource_missing", "param": "intent"})
	}
	switch op {
	case "look":
		return i.answer(r.URL.Query().Get("expand[0]") == "latest_charge")
	case "confirm":
		return i.confirm(form)
	case "capture":
		return i.capture()
	case "cancel":
		return i.cancel(form.Get("cancellation_reason"))
	}
	return i.refund()
}

func (f *fakeStripe) create(form url.Values) (int, []byte) {
	if form.Get("amount") == "1" {
		return fakeError(400, map[string]any{"type": "invalid_request_error", "code": "amount_too_small", "param": "amount"})
	}
	if form.Get("capture_method") != "manual" || form.Get("confirm") != "" {
		return fakeError(400, map[string]any{"type": "invalid_request_error", "param": "capture_method"})
	}
	i := &fakeIntent{
		ID: fmt.Sprintf("pi_%d", len(f.intents)+1), Status: "requires_payment_method",
		Metadata: map[string]string{"payment": form.Get("metadata[payment]")},
		Amount:   form.Get("amount"), Currency: form.Get("currency"),
	}
	f.intents[i.ID] = i
	return i.answer(false)
}

func (f *fakeStripe) search(query string) (int, []byte) {
	found := []json.RawMessage{}
	for _, i := range f.intents {
		if query == fmt.Sprintf("metadata[%q]:%q", "payment", i.Metadata["payment"]) {
			_, one := i.answer(false)
			found = append(found, one)
		}
	}
	answer, _ := json.Marshal(map[string]any{"data": found})
	return 200, answer
}

func (i *fakeIntent) answer(whole bool) (int, []byte) {
	m := map[string]any{
		"id": i.ID, "object": "payment_intent", "status": i.Status, "metadata": i.Metadata,
		"last_payment_error": i.LastError, "cancellation_reason": i.CancellationReason, "latest_charge": "ch_" + i.ID,
	}
	if whole {
		m["latest_charge"] = map[string]any{"id": "ch_" + i.ID, "refunded": i.Refunded}
	}
	answer, _ := json.Marshal(m)
	return 200, answer
}

func (i *fakeIntent) unexpected() (int, []byte) {
	return fakeError(400, map[string]any{"type": "invalid_request_error", "code": "payment_intent_unexpected_state", "message": "it is " + i.Status})
}

func (i *fakeIntent) confirm(form url.Values) (int, []byte) {
	if i.Status != "requires_payment_method" {
		return i.unexpected()
	}
	token := form.Get("payment_method")
	if token == "pm_card_askHolder" {
		i.Status = "requires_action"
		return i.answer(false)
	}
	if token == "pm_card_used" { // a PaymentMethod of another charge: Stripe has no code for that
		return fakeError(400, map[string]any{"type": "invalid_request_error"})
	}
	c := cardOf(testCards(), token)
	switch {
	case form.Get("error_on_requires_action") != "true":
		return fakeError(400, map[string]any{"type": "invalid_request_error"})
	case c.decline == invalidToken:
		return fakeError(400, map[string]any{"type": "invalid_request_error", "code": "resource_missing", "param": "payment_method",
			"message": "No such PaymentMethod: '" + token + "'"})
	}
	i.confirmed++
	if c.decline != "" {
		i.LastError = cardError(c.decline)
		return fakeError(402, i.LastError)
	}
	i.Status, i.captureDecline = "requires_capture", c.captureDecline
	return i.answer(false)
}

func cardError(reason string) map[string]any {
	code := strings.ToLower(reason)
	switch reason {
	case "EXPIRED_CARD", "INCORRECT_CVC", "PROCESSING_ERROR":
		return map[string]any{"type": "card_error", "code": code}
	case "CARD_DECLINED":
		return map[string]any{"type": "card_error", "code": "card_declined", "decline_code": "generic_decline", "message": "tell nobody"}
	}
	return map[string]any{"type": "card_error", "code": "card_declined", "decline_code": code}
}

func (i *fakeIntent) capture() (int, []byte) {
	if i.Status != "requires_capture" {
		return i.unexpected()
	}
	if i.captureDecline != "" {
		return fakeError(402, cardError(i.captureDecline))
	}
	i.Status = "succeeded"
	return i.answer(false)
}

func (i *fakeIntent) cancel(reason string) (int, []byte) {
	if i.Status == "succeeded" || i.Status == "canceled" {
		return i.unexpected()
	}
	i.Status, i.CancellationReason = "canceled", reason
	return i.answer(false)
}

func (i *fakeIntent) refund() (int, []byte) {
	switch {
	case i.Status != "succeeded":
		return i.unexpected()
	case i.Refunded:
		return fakeError(400, map[string]any{"type": "invalid_request_error", "code": "charge_already_refunded"})
	}
	i.Refunded = true
	i.refunds++
	return 200, []byte(`{"id":"re_1","object":"refund","status":"succeeded"}`)
}

// forgetKeys is what Stripe does after a day.
func (f *fakeStripe) forgetKeys() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.keys)
}

// change does something to an intent as the dashboard does.
func (f *fakeStripe) change(id string, fn func(i *fakeIntent)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f.intents[id])
}

// moved returns what was moved for the key: the state of the one charge that it may
// have, or an error if there is more than that.
func (f *fakeStripe) moved(key string) (state, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var states []state
	asked := 0
	for _, i := range f.intents {
		if i.Metadata["payment"] != key {
			continue
		}
		asked += i.confirmed
		if i.refunds > 1 {
			return "", fmt.Errorf("%d refunds", i.refunds)
		}
		if st := i.state(); st != "" {
			states = append(states, st)
		}
	}
	if asked > 1 || len(states) > 1 {
		return "", fmt.Errorf("the card was asked %d times, charges are %v", asked, states)
	}
	return append(states, "")[0], nil
}

// state returns what an intent has come to in the shop's words, "" if it moved
// nothing.
func (i *fakeIntent) state() state {
	switch {
	case i.confirmed == 0:
		return ""
	case i.LastError != nil:
		return declined
	case i.Status == "requires_capture":
		return authorized
	case i.Refunded:
		return refunded
	case i.Status == "succeeded":
		return captured
	}
	return voided
}

// logTo returns a logger whose lines are kept.
func logTo(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
