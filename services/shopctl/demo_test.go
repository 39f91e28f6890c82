package shopctl

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestDemo(t *testing.T) {
	for _, tt := range []struct {
		name, card, stream string
		code               int
		told               string
	}{
		{"a good card", "tok_visa", states("", "PENDING", "CONFIRMED", "COMPLETED"), exitOK, "COMPLETED, as it should be"},
		{"a declined card", "tok_chargeDeclined", states("CARD_DECLINED", "PENDING", "REJECTED"), exitOK, "REJECTED, as it should be with tok_chargeDeclined: CARD_DECLINED"},
		{"a good card that is declined", "tok_visa", states("CARD_DECLINED", "PENDING", "REJECTED"), exitFailed, "the order is REJECTED: CARD_DECLINED"},
		{"a declined card that is charged", "tok_chargeDeclined", states("", "PENDING", "COMPLETED"), exitFailed, "the order is COMPLETED, and should not be with tok_chargeDeclined"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := answers()
			all["POST /v1/users"] = reply(user1)
			all["GET /v1/orders/"+order1+":watch"] = reply(tt.stream)
			all["GET /console/traces/"+trace1] = reply(`{"url":"","spans":[{"service":"gateway"},{"service":"order"},{"service":"gateway"}]}`)
			s := newShop(t, all)
			r := s.run(t, nil, "demo", "--card", tt.card)
			if r.code != tt.code || !strings.Contains(r.err, "shopctl: "+tt.told) {
				t.Errorf("%+v", r)
			}
			for _, want := range []string{
				`user     demo-[a-z0-9]{10}@example.com`, `product  KIT-001  Tall Mug, EUR 12.50, 7 available`, `\n +0s  PENDING\n`,
				`trace    ` + trace1 + `\n         3 spans in gateway, order\n         SHOP/console/traces/` + trace1, `SHOP/#/orders/` + order1,
			} {
				if !regexp.MustCompile(want).MatchString(r.out) {
					t.Errorf("no %q in\n%s", want, r.out)
				}
			}
		})
	}
}

func TestDemoLeavesWhoIsSignedIn(t *testing.T) {
	all := answers()
	all["POST /v1/users"] = reply(user1)
	s := newShop(t, all)
	if r := s.run(t, nil, "demo"); r.code != exitOK { // without a trace, which Jaeger may keep
		t.Errorf("%+v", r)
	}
	if r := s.run(t, nil, "whoami"); r.code != exitDenied {
		t.Errorf("%+v", r)
	}
}

func TestDemoInAnEmptyShop(t *testing.T) {
	s := newShop(t, map[string]http.HandlerFunc{"POST /v1/users": reply(user1), "GET /v1/products": reply(`{"products":[]}`)})
	if r := s.run(t, nil, "demo"); r.code != exitFailed || !strings.Contains(r.err, "nothing to buy") {
		t.Errorf("%+v", r)
	}
}
