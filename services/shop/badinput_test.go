package shop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// testBadInput sends what is wrong in every way we know: each is a 4xx that
// names the field, and none has an effect.
func (m *market) testBadInput(t *testing.T) {
	m = m.in(t)
	user, admin, product := m.customer(), m.admin(), m.product(5)
	before := m.stock(product)
	order := func(change func(object)) object {
		o := orderOf(product, 1, "tok_visa")
		change(o)
		return o
	}
	items := func(n int) (list []object) {
		for range n {
			list = append(list, object{"product_id": uuid.NewString(), "quantity": 1})
		}
		return list
	}
	newProduct := func(price any) object {
		return object{"product": object{"sku": "bad-" + uuid.NewString()[:8], "name": "Bad", "category": "bad", "price": price}}
	}
	tests := []struct {
		name         string
		method, path string
		token        string
		body         any
		status       int
		field        string // has to be in the reply
	}{
		{"malformed JSON", "POST", "/v1/orders", user, `{"items": [`, 400, ""},
		{"not an object", "POST", "/v1/orders", user, `[1]`, 400, ""},
		{"empty body", "POST", "/v1/orders", user, ``, 400, ""},
		{"unknown field", "POST", "/v1/orders", user, order(func(o object) { o["coupon"] = "FREE" }), 400, "coupon"},
		{"negative quantity", "POST", "/v1/orders", user, orderOf(product, -1, "tok_visa"), 400, "items[0].quantity"},
		{"no quantity", "POST", "/v1/orders", user, orderOf(product, 0, "tok_visa"), 400, "items[0].quantity"},
		{"huge quantity", "POST", "/v1/orders", user, orderOf(product, 1_000_000, "tok_visa"), 400, "items[0].quantity"},
		{"overflowing quantity", "POST", "/v1/orders", user, order(func(o object) {
			o["items"] = []object{{"product_id": product, "quantity": 99999999999}}
		}), 400, "quantity"},
		{"fraction of a product", "POST", "/v1/orders", user, order(func(o object) {
			o["items"] = []object{{"product_id": product, "quantity": 1.5}}
		}), 400, "quantity"},
		{"no items", "POST", "/v1/orders", user, order(func(o object) { o["items"] = []object{} }), 400, "items"},
		{"10,000 items", "POST", "/v1/orders", user, order(func(o object) { o["items"] = items(10_000) }), 400, "items"},
		{"a product twice", "POST", "/v1/orders", user, order(func(o object) {
			o["items"] = []object{{"product_id": product, "quantity": 1}, {"product_id": product, "quantity": 1}}
		}), 400, "items"},
		{"unknown product", "POST", "/v1/orders", user, orderOf(uuid.NewString(), 1, "tok_visa"), 400, "items"},
		{"product id that is none", "POST", "/v1/orders", user, orderOf("7", 1, "tok_visa"), 400, "items[0].product_id"},
		{"no request id", "POST", "/v1/orders", user, order(func(o object) { o["request_id"] = "again" }), 400, "request_id"},
		{"a card number", "POST", "/v1/orders", user, orderOf(product, 1, "4242424242424242"), 400, "payment_token"},
		{"order id that is none", "GET", "/v1/orders/7", user, nil, 400, "id"},
		{"unknown order", "GET", "/v1/orders/" + uuid.NewString(), user, nil, 404, ""},
		{"unknown product page", "GET", "/v1/products/" + uuid.NewString(), "", nil, 404, ""},
		{"empty name", "POST", "/v1/products", admin, object{"product": object{"sku": "x", "name": "", "category": "c", "price": object{"currency_code": "EUR"}}}, 400, "name"},
		{"huge name", "POST", "/v1/greetings", "", object{"name": strings.Repeat("x", 100_000)}, 400, "name"},
		{"invalid UTF-8", "POST", "/v1/greetings", "", "{\"name\": \"\xff\xfe\"}", 400, ""},
		{"negative price", "POST", "/v1/products", admin, newProduct(object{"currency_code": "EUR", "units": "-1"}), 400, "price"},
		{"overflowing price", "POST", "/v1/products", admin, newProduct(object{"currency_code": "EUR", "units": "9223372036854775807"}), 400, "price"},
		{"price past an integer", "POST", "/v1/products", admin, newProduct(object{"currency_code": "EUR", "units": "92233720368547758070"}), 400, "units"},
		{"unsupported currency", "POST", "/v1/products", admin, newProduct(object{"currency_code": "XXX", "units": "1"}), 400, "currency_code"},
		{"part of a cent", "POST", "/v1/products", admin, newProduct(object{"currency_code": "EUR", "units": "1", "nanos": 1}), 400, "nanos"},
		{"negative stock", "PUT", "/v1/stock/" + product, admin, object{"available": -1}, 400, "available"},
		{"stock by a customer", "PUT", "/v1/stock/" + product, user, object{"available": 1}, 403, ""},
		{"filter that is none", "GET", "/v1/products?filter=" + "category+%3D+%3D", "", nil, 400, "filter"},
		{"filter of an unknown field", "GET", "/v1/products?filter=" + "password+%3D+%22x%22", "", nil, 400, "password"},
		{"order by an unknown field", "GET", "/v1/products?order_by=password", "", nil, 400, "order_by"},
		{"page token that is none", "GET", "/v1/products?page_token=zzz", "", nil, 400, "page_token"},
		{"negative page size", "GET", "/v1/products?page_size=-1", "", nil, 400, "page_size"},
		{"page size that is no number", "GET", "/v1/products?page_size=many", "", nil, 400, "page_size"},
		{"unknown parameter", "GET", "/v1/products?colour=red", "", nil, 400, "colour"},
		{"email that is none", "POST", "/v1/users", "", object{"email": "ada", "password": userPassword}, 400, "email"},
		{"short password", "POST", "/v1/users", "", object{"email": "a@example.com", "password": "short"}, 400, "password"},
		{"wrong password", "POST", "/v1/auth:login", "", object{"email": adminEmail, "password": "wrong-password"}, 401, ""},
		{"refresh token that is none", "POST", "/v1/auth:refresh", "", object{"refresh_token": "zzz"}, 401, ""},
		{"unknown path", "GET", "/v1/nothing", "", nil, 404, ""},
		{"wrong method", "DELETE", "/v1/orders", user, nil, 405, ""},
		{"no token", "GET", "/v1/orders", "", nil, 401, ""},
		{"huge body", "POST", "/v1/greetings", "", `{"name": "` + strings.Repeat("x", 20<<20) + `"}`, 413, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := m.in(t)
			code, out := m.call(tt.method, tt.path, tt.token, tt.body)
			if code != tt.status || !strings.Contains(fmt.Sprint(out), tt.field) || out["message"] == "" {
				t.Errorf("%s %s: %d %v, want %d naming %q", tt.method, tt.path, code, out, tt.status, tt.field)
			}
		})
	}
	m.testForgedTokens(t, user)
	if after := m.stock(product); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("bad input changed the stock from %v to %v", before, after)
	}
	if list := m.must("GET", "/v1/orders", user, nil); len(list["orders"].([]any)) != 0 {
		t.Errorf("bad input made orders: %v", list)
	}
}

// testForgedTokens tries the attacks on tokens that are known (RFC 8725).
func (m *market) testForgedTokens(t *testing.T, good string) {
	jwks := m.must("GET", "/.well-known/jwks.json", "", nil)["keys"].([]any)[0].(object)
	kid := jwks["kid"].(string)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{
		"iss": "meshmart", "aud": "meshmart", "sub": uuid.NewString(), "sid": uuid.NewString(), "roles": []string{"admin"},
		"iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	sign := func(method jwt.SigningMethod, key any) string {
		token := jwt.NewWithClaims(method, claims)
		token.Header["kid"] = kid
		s, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	parts := strings.Split(good, ".")
	forged := map[string]string{
		"no algorithm":                sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"HS256 with the public key":   sign(jwt.SigningMethodHS256, publicPEM(t, jwks)),
		"another's key":               sign(jwt.SigningMethodES256, stranger),
		"no signature":                parts[0] + "." + parts[1] + ".",
		"another payload":             parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"x","roles":["admin"]}`)) + "." + parts[2],
		"not a token":                 "zzz",
		"a token of a hundred kBytes": strings.Repeat("x", 100_000),
	}
	for name, token := range forged {
		t.Run(name, func(t *testing.T) {
			m := m.in(t)
			for _, path := range []string{"/v1/orders", "/v1/users/me", "/v1/products"} {
				code, out := m.call("GET", path, token, nil)
				// Go's HTTP server refuses headers that are too large by itself.
				if code != http.StatusUnauthorized && code != http.StatusRequestHeaderFieldsTooLarge {
					t.Errorf("GET %s: %d %v", path, code, out)
				}
			}
		})
	}
}

func publicPEM(t *testing.T, jwk object) []byte {
	t.Helper()
	point := []byte{4} // uncompressed
	for _, name := range []string{"x", "y"} {
		b, err := base64.RawURLEncoding.DecodeString(jwk[name].(string))
		if err != nil {
			t.Fatal(err)
		}
		point = append(point, b...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
