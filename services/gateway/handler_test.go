package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
)

func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString(err.Error())
		code = 1
	}
	os.Exit(code)
}

const anID = "0192a000-0000-7000-8000-00000000000a"

func TestUnaryCallsTravelBothWays(t *testing.T) {
	s := start(t, nil)
	r := s.do("GET", "/v1/products/"+anID, "", "Authorization: Bearer abc", "Grpc-Metadata-Evil: 1", "Cookie: c=1", "Grpc-Timeout: 1n")
	if r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %d %s", r.StatusCode, r.Header)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(r.body), &got); err != nil {
		t.Fatal(err)
	}
	price := map[string]any{"currency_code": "EUR", "units": "12", "nanos": 5e8}
	if diff := cmp.Diff(got["price"], any(price)); diff != "" || got["sku"] != "MUG-1" || got["description"] != "" {
		t.Errorf("got %s", r.body)
	}
	asked, meta := s.heard()
	if diff := cmp.Diff(asked, &productpb.GetProductRequest{Id: anID}, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	for _, k := range []string{"evil", "grpcgateway-cookie", "grpcgateway-authorization", "cookie"} {
		if meta.Get(k) != nil {
			t.Errorf("the service is told %s", k)
		}
	}
	if got := meta.Get("authorization"); !slices.Equal(got, []string{"Bearer abc"}) {
		t.Errorf("authorization is %q", got)
	}
	if got := meta.Get("x-forwarded-for"); !slices.Equal(got, []string{"127.0.0.1"}) {
		t.Errorf("x-forwarded-for is %q", got)
	}
}

func TestHeadIsAGetWithoutABody(t *testing.T) {
	s := start(t, nil)
	r := s.do("HEAD", "/v1/products/"+anID, "")
	if r.StatusCode != 200 || r.body != "" || r.ContentLength == 0 {
		t.Errorf("got %d %q of %d bytes", r.StatusCode, r.body, r.ContentLength)
	}
	if r := s.do("HEAD", "/v1/products:batchGet?ids="+anID, ""); r.StatusCode != 501 { // which these fakes do not have
		t.Errorf("of a custom method: got %d", r.StatusCode)
	}
}

func TestAStreamHasNoHead(t *testing.T) {
	r := start(t, nil).do("HEAD", "/v1/orders/"+anID+":watch", "")
	if r.StatusCode != 405 || r.Header.Get("Allow") != "GET" {
		t.Errorf("got %d, allowed is %q", r.StatusCode, r.Header.Get("Allow"))
	}
}

func TestBadRequestsAreRefusedByName(t *testing.T) {
	s := start(t, map[string]string{"HTTP_MAX_BODY": "2000"})
	const orders, json = "/v1/orders", "Content-Type: application/json"
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		code                     int
		field, text              string
	}{
		{name: "malformed JSON", method: "POST", path: orders, body: "{\n \"items\": [}", code: 400, text: "line 2, column 12"},
		{name: "cut off", method: "POST", path: orders, body: `{"items": [`, code: 400, text: "not valid JSON"},
		{name: "two values", method: "POST", path: orders, body: `{} {}`, code: 400, text: "not valid JSON"},
		{name: "no object", method: "POST", path: orders, body: `[]`, code: 400, text: "must be a JSON object"},
		{name: "null", method: "POST", path: orders, body: `null`, code: 400, text: "must be a JSON object"},
		{name: "empty", method: "POST", path: orders, code: 400, text: "needs a JSON body"},
		{name: "blank", method: "POST", path: orders, body: " \n", code: 400, text: "needs a JSON body"},
		{name: "unknown field", method: "POST", path: orders, body: `{"items":[{"quantity":1},{"colour":"red"}]}`, code: 400, field: "items[1].colour", text: "no such field"},
		{name: "wrong type", method: "POST", path: orders, body: `{"items":[{"quantity":"many"}]}`, code: 400, field: "items[0].quantity", text: "not a valid int32"},
		{name: "fraction", method: "POST", path: orders, body: `{"items":[{"quantity":1.5}]}`, code: 400, field: "items[0].quantity"},
		{name: "overflow", method: "POST", path: orders, body: `{"items":[{"quantity":4294967297}]}`, code: 400, field: "items[0].quantity"},
		{name: "object for text", method: "POST", path: orders, body: `{"payment_token":{}}`, code: 400, field: "payment_token"},
		{name: "object for list", method: "POST", path: orders, body: `{"items":{}}`, code: 400, field: "items"},
		{name: "twice", method: "POST", path: orders, body: `{"request_id":"a","request_id":"b"}`, code: 400, field: "request_id", text: "more than once"},
		{name: "invalid UTF-8", method: "POST", path: orders, body: "{\"items\":[{\"product_id\":\"\xff\"}]}", code: 400, field: "items[0].product_id", text: "UTF-8"},
		{name: "money", method: "PATCH", path: "/v1/products/" + anID, body: `{"price":{"units":"9223372036854775808"}}`, code: 400, field: "product.price.units"},
		{name: "nothing to change", method: "PATCH", path: "/v1/products/" + anID, body: `{"etag":"v1"}`, code: 400, field: "product", text: "nothing"},
		{name: "too large", method: "POST", path: orders, body: `{"request_id":"` + strings.Repeat("x", 2000) + `"}`, code: 413, text: "larger than 2000 bytes"},
		{name: "form", method: "POST", path: orders, body: `a=b`, headers: []string{"Content-Type: application/x-www-form-urlencoded"}, code: 415},
		{name: "charset", method: "POST", path: orders, body: `{}`, headers: []string{"Content-Type: application/json; charset=latin1"}, code: 415},
		{name: "body of a GET", method: "GET", path: orders, body: `{}`, code: 400, text: "takes no body"},
		{name: "unknown parameter", method: "GET", path: "/v1/products?page_size=2&colour=red", code: 400, field: "colour"},
		{name: "parameter's type", method: "GET", path: "/v1/products?page_size=two", code: 400, field: "page_size", text: "int32"},
		{name: "parameter twice", method: "GET", path: "/v1/products?page_size=1&page_size=2", code: 400, field: "page_size", text: "more than once"},
		{name: "parameter by both names", method: "GET", path: "/v1/products?page_size=1&pageSize=2", code: 400, field: "page_size", text: "more than once"},
		{name: "parameter of the path by its other name", method: "GET", path: "/v1/stock/" + anID + "?productId=" + anID, code: 400, field: "productId", text: "in the path"},
		{name: "parameter's UTF-8", method: "GET", path: "/v1/products?filter=%ff", code: 400, field: "filter", text: "UTF-8"},
		{name: "parameter of the path", method: "GET", path: "/v1/products/" + anID + "?id=" + anID, code: 400, field: "id"},
		{name: "parameter of the body", method: "POST", path: orders + "?payment_token=tok_visa", body: `{}`, code: 400, field: "payment_token"},
		{name: "parameter of a stream", method: "GET", path: orders + "/" + anID + ":watch?after_version=x", code: 400, field: "after_version"},
		{name: "encoding of the query", method: "GET", path: "/v1/products?filter=%zz", code: 400, text: "encoded"},
		{name: "path's UTF-8", method: "GET", path: "/v1/products/%ff", code: 400, field: "id", text: "UTF-8"},
		{name: "token's characters", method: "GET", path: "/v1/products", headers: []string{"Authorization: Bearer ä"}, code: 401},
		{name: "wrong path", method: "GET", path: "/v1/nothing", code: 404},
		{name: "wrong verb", method: "GET", path: "/v1/products:fly", code: 404},
		{name: "unknown parameter's UTF-8", method: "GET", path: "/v1/products?%ff=1", code: 400, field: "\uFFFD", text: "no such parameter"},
		{name: "wrong path's UTF-8", method: "GET", path: "/v1/products/%2F%E8", code: 404, text: "there is nothing"},
		{name: "no verb", method: "GET", path: "/v1/products:", code: 404},
		{name: "no verb of a POST", method: "POST", path: orders + ":", body: `{}`, code: 404},
		{name: "no id", method: "GET", path: "/v1/products/", code: 404},
		{name: "wrong path outside", method: "GET", path: "/nothing", code: 404},
		{name: "wrong method", method: "PUT", path: "/v1/products/" + anID, body: `{}`, code: 405},
		{name: "wrong method of a page", method: "POST", path: "/docs", body: `{}`, code: 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &site{backend: s.backend, t: t, url: s.url}
			headers := tt.headers
			if headers == nil && tt.body != "" {
				headers = []string{json}
			}
			r := s.do(tt.method, tt.path, tt.body, headers...)
			if r.StatusCode != tt.code || r.status.Code == 0 || r.status.Message == "" {
				t.Fatalf("got %d %s, want %d", r.StatusCode, r.body, tt.code)
			}
			if got := strings.Join(r.fields(), " "); got != tt.field {
				t.Errorf("got field %q, want %q: %s", got, tt.field, r.body)
			}
			if !strings.Contains(r.status.Message, tt.text) {
				t.Errorf("got %q, want something with %q", r.status.Message, tt.text)
			}
		})
	}
}

func TestWrongMethodTellsTheRightOnes(t *testing.T) {
	s := start(t, nil)
	for path, want := range map[string]string{
		"/v1/products/" + anID: "DELETE, GET, PATCH, HEAD",
		"/v1/auth:login":       "POST",
		"/healthz":             "GET, HEAD",
	} {
		if got := s.do("PUT", path, "").Header.Get("Allow"); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestFaultsOfServicesArriveWhole(t *testing.T) {
	s := start(t, nil)
	for _, tt := range []struct {
		err           error
		code, grpc    int
		reason        string
		header, value string
	}{
		{fault.Invalid("id", "is wrong"), 400, 3, "INVALID_FIELD", "", ""},
		{fault.NotFound("no such product"), 404, 5, "NOT_FOUND", "", ""},
		{fault.Refused("OUT_OF_STOCK", "gone"), 400, 9, "OUT_OF_STOCK", "", ""},
		{fault.Aborted("STALE", "too late"), 409, 10, "STALE", "", ""},
		{fault.Denied("ADMIN_REQUIRED", "no"), 403, 7, "ADMIN_REQUIRED", "", ""},
		{fault.Unauthenticated("TOKEN_MISSING", "sign in"), 401, 16, "TOKEN_MISSING", "WWW-Authenticate", `Bearer realm="meshmart"`},
		{fault.Exhausted(1500*time.Millisecond, "slow down"), 429, 8, "RATE_LIMITED", "Retry-After", "2"},
		{fault.Unavailable(time.Second, "later"), 503, 14, "UNAVAILABLE", "Retry-After", "1"},
	} {
		s.refuse(tt.err)
		r := s.do("GET", "/v1/products/"+anID, "")
		if r.StatusCode != tt.code || r.status.Code != tt.grpc || r.status.Details[0].Reason != tt.reason || r.status.Message != tt.err.Error() {
			t.Errorf("%v: got %d %s", tt.err, r.StatusCode, r.body)
		}
		if got := r.Header.Get(tt.header); got != tt.value {
			t.Errorf("%v: got %s %q, want %q", tt.err, tt.header, got, tt.value)
		}
	}
}

func TestChallengeNamesTheErrorOfATokenThatCame(t *testing.T) {
	s := start(t, nil)
	s.refuse(fault.Unauthenticated("TOKEN_EXPIRED", `the "token" has expired`))
	got := s.do("GET", "/v1/products", "", "Authorization: Bearer old").Header.Get("WWW-Authenticate")
	if want := `Bearer realm="meshmart", error="invalid_token", error_description="the 'token' has expired"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFailuresOfServicesStayInside(t *testing.T) {
	s := start(t, nil)
	for _, tt := range []struct {
		err  error
		code int
	}{
		{status.Error(codes.Unavailable, "dial tcp 10.1.2.3"), 503},
		{status.Error(codes.DeadlineExceeded, "10.1.2.3"), 504},
		{status.Error(codes.Internal, "pq: 10.1.2.3"), 500},
		{errors.New("pq: 10.1.2.3"), 500},
	} {
		s.refuse(tt.err)
		r := s.do("GET", "/v1/products/"+anID, "")
		if r.StatusCode != tt.code || strings.Contains(r.body, "10.1.2.3") {
			t.Errorf("%v: got %d %s", tt.err, r.StatusCode, r.body)
		}
		if got, _ := s.log.find(t, "trace_id", r.Header.Get("X-Trace-Id"))["err"].(string); !strings.Contains(got, "10.1.2.3") {
			t.Errorf("%v: logged as %q", tt.err, got)
		}
	}
}

func TestPatchChangesWholeFieldsOfTheBody(t *testing.T) {
	s := start(t, nil)
	for body, want := range map[string][]string{
		`{"price":{"units":"5","currency_code":"EUR"},"etag":"x","id":"y"}`: {"price"},
		`{"name":"Cup","category":"kitchen"}`:                               {"name", "category"},
	} {
		s.do("PATCH", "/v1/products/"+anID, body)
		asked, _ := s.heard()
		r := asked.(*productpb.UpdateProductRequest)
		if diff := cmp.Diff(r.GetUpdateMask().GetPaths(), want); diff != "" || r.GetProduct().GetId() != anID {
			t.Errorf("%s: %v", body, r)
		}
	}
	s.do("PATCH", "/v1/products/"+anID+"?update_mask=name", `{"name":"Cup","category":"kitchen"}`)
	asked, _ := s.heard()
	if got := asked.(*productpb.UpdateProductRequest).GetUpdateMask().GetPaths(); !slices.Equal(got, []string{"name"}) {
		t.Errorf("got %q, want what the query says", got)
	}
}

func TestBodyIsOptionalWhereThePathSaysAll(t *testing.T) {
	s := start(t, nil)
	for _, body := range []string{"", "{}"} {
		if r := s.do("POST", "/v1/orders/"+anID+":cancel", body); r.StatusCode != 200 {
			t.Errorf("body %q: got %d %s", body, r.StatusCode, r.body)
		}
		asked, _ := s.heard()
		if got := asked.(*orderpb.CancelOrderRequest).GetId(); got != anID {
			t.Errorf("got id %q", got)
		}
	}
}

func TestKeysAreAJWKSet(t *testing.T) {
	r := start(t, nil).do("GET", "/.well-known/jwks.json", "")
	want := `{"keys":[{"kty":"EC","crv":"P-256","x":"eA","y":"eQ","use":"sig","alg":"ES256","kid":"k1"}]}`
	if strings.TrimSpace(r.body) != want || r.Header.Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("got %s %s", r.Header.Get("Content-Type"), r.body)
	}
	if got := r.Header.Get("Cache-Control"); got != "public, max-age=300" {
		t.Errorf("got Cache-Control %q", got)
	}
}

func TestPathsAndMethodsOfContractsAllLeadSomewhere(t *testing.T) {
	rs, err := newRoutes(contracts())
	if err != nil {
		t.Fatal(err)
	}
	var api struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal(openAPI, &api); err != nil {
		t.Fatal(err)
	}
	n := 0
	for path, methods := range api.Paths {
		for m := range methods {
			n++
			rt, _, _ := rs.find(strings.ToUpper(m), strings.NewReplacer("{", "", "}", "").Replace(path))
			if rt == nil || rt.template != path {
				t.Errorf("%s %s leads to %v", m, path, rt)
			}
		}
	}
	if n != len(rs) || n < 30 {
		t.Errorf("%d operations are described, and there are %d routes", n, len(rs))
	}
}
