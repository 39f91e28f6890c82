package shop

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/meshmart/meshmart/services/internal/rpc"
)

// typed is in every text that somebody types in, where the contract lets them.
const typed = "swordfish"

// TestSpansHoldNothingThatWasTypedIn tells stories in which every text has
// something in it that must be in no span, and then asks every RPC for it, most
// of which refuse: their words may repeat it, and the spans must not.
func TestSpansHoldNothingThatWasTypedIn(t *testing.T) {
	eachEngine(t, func(t *testing.T, databases map[string]string) {
		environ := map[string]string{"CATALOG_FILE": "", "TRUST_NETWORK": "true"}
		for k, v := range databases {
			environ[k] = v
		}
		c := newCaller(t, environ)
		c.reach("GREETER", environ)
		m := open(t, t.TempDir(), environ)
		token := m.typedStories()
		c.admin = c.login(adminEmail, adminPassword).GetAccessToken()
		c.traceCalls(m.spans)
		for _, d := range methods() {
			c.askEverything(d, token)
		}
		m.stop()
		m.wantNothingTyped()
	})
}

// typedStories has a product, an account and three orders made, one of which is
// declined and one refused, and returns the customer's token.
func (m *market) typedStories() string {
	m.t.Helper()
	admin, me := m.admin(), typed+uuid.NewString()[:8]
	p := object{"sku": strings.ToUpper(me), "name": typed + " mug", "description": "a " + typed, "category": typed, "price": object{"currency_code": "EUR", "units": "5"}}
	product := m.must("POST", "/v1/products", admin, object{"product": p, "initial_stock": 10})
	m.wantRefused("POST", "/v1/products", admin, object{"product": p, "initial_stock": 10})
	m.must("GET", "/v1/products?filter="+url.QueryEscape(`name = "`+typed+`"`), "", nil)
	m.wantRefused("GET", "/v1/products?filter="+url.QueryEscape(typed+` = "`+typed+`"`), "", nil)

	account := object{"email": me + "@example.com", "password": typed + userPassword, "display_name": typed}
	m.must("POST", "/v1/users", "", account)
	m.wantRefused("POST", "/v1/users", "", account)
	m.wantRefused("POST", "/v1/auth:login", "", object{"email": me + "@example.com", "password": typed})
	token := m.login(me+"@example.com", typed+userPassword)
	m.stocked(product["id"].(string))
	for _, card := range []string{"tok_visa", "tok_" + typed} {
		code, order := m.call("POST", "/v1/orders", token, orderOf(product["id"].(string), 1, card))
		if code == http.StatusOK {
			m.await(token, order["id"].(string), map[string]string{"tok_visa": "COMPLETED"}[card])
		}
	}
	m.wantRefused("POST", "/v1/orders", token, orderOf(typed, 1, "tok_visa"))
	m.wantRefused("GET", "/v1/users/me", typed, nil)
	return token
}

// stocked waits until the inventory has heard of a product.
func (m *market) stocked(id string) {
	m.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if code, _ := m.call("GET", "/v1/stock/"+id, "", nil); code == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			m.t.Fatalf("nothing is known of the stock of %s", id)
		}
	}
}

func (m *market) wantRefused(method, path, token string, body any) {
	m.t.Helper()
	if code, out := m.call(method, path, token, body); code < 400 || code >= 500 {
		m.t.Errorf("%s %s: %d %v, want a refusal", method, path, code, out)
	}
}

// traceCalls has the caller call as services do, with spans of its own: a refusal
// is a failure only there.
func (c *caller) traceCalls(spans *tracetest.InMemoryExporter) {
	c.t.Helper()
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	for name, plain := range c.conns {
		conn, err := rpc.Dial(rpc.ClientConfig{
			Name: name, Target: plain.Target(), Log: slog.New(slog.DiscardHandler), Traces: traces, Meters: noop.NewMeterProvider(),
		})
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() { conn.Close() })
		c.conns[name] = conn
	}
}

// askEverything makes a call with the text in every field, on behalf of the
// administrator, of a customer and of nobody that is known.
func (c *caller) askEverything(d protoreflect.MethodDescriptor, customer string) {
	c.t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.Input().FullName())
	if err != nil {
		c.t.Fatal(err)
	}
	req := kind.New()
	if !fillTexts(req, 3) {
		return // nothing can be typed in
	}
	send := []proto.Message{req.Interface()}
	if d.IsStreamingClient() {
		send = append(send, proto.Clone(send[0]))
	}
	for _, token := range []string{"", customer, typed} {
		_, _ = c.try(token, send...)
	}
}

// fillTexts puts the text into all fields of m that can hold it, those of messages
// in it too, down to a depth, and reports whether there are any.
func fillTexts(m protoreflect.Message, depth int) (filled bool) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsMap() || f.Kind() != protoreflect.StringKind && f.Kind() != protoreflect.MessageKind:
		case f.Kind() == protoreflect.StringKind && f.IsList():
			m.Mutable(f).List().Append(protoreflect.ValueOfString(typed))
			filled = true
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(typed))
			filled = true
		case depth == 0:
		case f.IsList():
			filled = fillTexts(m.Mutable(f).List().AppendMutable().Message(), depth-1) || filled
		default:
			filled = fillTexts(m.Mutable(f).Message(), depth-1) || filled
		}
	}
	return filled
}

// wantNothingTyped looks through all that the spans say.
func (m *market) wantNothingTyped() {
	m.t.Helper()
	failed, kinds := 0, map[string]bool{}
	for _, s := range m.spans.GetSpans() {
		kinds[s.InstrumentationScope.Name] = true
		if s.Status.Code == codes.Error {
			failed++
		}
		for _, text := range said(s) {
			if strings.Contains(strings.ToLower(text), typed) {
				m.t.Errorf("the span %q of %s says %q", s.Name, s.InstrumentationScope.Name, text)
			}
		}
	}
	m.t.Logf("figure: of %d spans from %d instrumentations, %d of failures, none holds what was typed in", len(m.spans.GetSpans()), len(kinds), failed)
	if failed < 50 || len(kinds) < 6 {
		m.t.Errorf("%d spans of failures, of %v: too few to tell", failed, kinds)
	}
}

// said returns all texts of a span.
func said(s tracetest.SpanStub) []string {
	all := []string{s.Name, s.Status.Description}
	add := func(attrs []attribute.KeyValue) {
		for _, a := range attrs {
			all = append(all, fmt.Sprintf("%s=%s", a.Key, a.Value.String()))
		}
	}
	add(s.Attributes)
	for _, e := range s.Events {
		all = append(all, e.Name)
		add(e.Attributes)
	}
	for _, l := range s.Links {
		add(l.Attributes)
	}
	return append(all, s.SpanContext.TraceState().String())
}
