package money

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	moneypb "google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/services/internal/fault"
)

func TestGoodMoneyIsReadExactly(t *testing.T) {
	for _, c := range []struct {
		m    *moneypb.Money
		want Amount
		text string
	}{
		{&moneypb.Money{CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000}, Amount{"EUR", 12_500_000}, "12.50 EUR"},
		{&moneypb.Money{CurrencyCode: "USD", Nanos: 10_000_000}, Amount{"USD", 10_000}, "0.01 USD"},
		{&moneypb.Money{CurrencyCode: "GBP", Units: -3, Nanos: -990_000_000}, Amount{"GBP", -3_990_000}, "-3.99 GBP"},
		{&moneypb.Money{CurrencyCode: "CHF", Nanos: -50_000_000}, Amount{"CHF", -50_000}, "-0.05 CHF"},
		{&moneypb.Money{CurrencyCode: "JPY", Units: 1500}, Amount{"JPY", 1_500_000_000}, "1500 JPY"},
		{&moneypb.Money{CurrencyCode: "EUR"}, Amount{"EUR", 0}, "0.00 EUR"},
		{&moneypb.Money{CurrencyCode: "EUR", Units: 9_223_372_036_853, Nanos: 990_000_000},
			Amount{"EUR", 9_223_372_036_853_990_000}, "9223372036853.99 EUR"},
	} {
		got, err := FromProto("price", c.m)
		if err != nil || got != c.want {
			t.Errorf("%v: got %+v, %v, want %+v", c.m, got, err, c.want)
		}
		if got.String() != c.text {
			t.Errorf("got %q, want %q", got, c.text)
		}
		if back := got.Proto(); back.GetUnits() != c.m.GetUnits() || back.GetNanos() != c.m.GetNanos() || back.GetCurrencyCode() != c.m.GetCurrencyCode() {
			t.Errorf("got %v back, want %v", back, c.m)
		}
	}
}

func TestBadMoneyNamesTheField(t *testing.T) {
	for _, c := range []struct {
		m     *moneypb.Money
		field string
	}{
		{nil, "price"},
		{&moneypb.Money{Units: 1}, "price.currency_code"},
		{&moneypb.Money{CurrencyCode: "eur", Units: 1}, "price.currency_code"},
		{&moneypb.Money{CurrencyCode: "XAU", Units: 1}, "price.currency_code"},
		{&moneypb.Money{CurrencyCode: "EUR", Units: 1, Nanos: -10_000_000}, "price.nanos"},
		{&moneypb.Money{CurrencyCode: "EUR", Units: -1, Nanos: 10_000_000}, "price.nanos"},
		{&moneypb.Money{CurrencyCode: "EUR", Nanos: 1_000_000_000}, "price.nanos"},
		{&moneypb.Money{CurrencyCode: "EUR", Nanos: math.MinInt32}, "price.nanos"},
		{&moneypb.Money{CurrencyCode: "EUR", Nanos: 1_000_000}, "price.nanos"},
		{&moneypb.Money{CurrencyCode: "EUR", Nanos: 10_000_001}, "price.nanos"},
		{&moneypb.Money{CurrencyCode: "JPY", Nanos: 500_000_000}, "price.nanos"},
		{&moneypb.Money{CurrencyCode: "EUR", Units: 9_223_372_036_854}, "price.units"},
		{&moneypb.Money{CurrencyCode: "EUR", Units: math.MaxInt64}, "price.units"},
		{&moneypb.Money{CurrencyCode: "EUR", Units: math.MinInt64}, "price.units"},
	} {
		got, err := FromProto("price", c.m)
		f := fault.As(err)
		if f == nil || f.Code() != codes.InvalidArgument || len(f.Fields()) != 1 {
			t.Errorf("%v: got %v, %v", c.m, got, err)
			continue
		}
		if f.Fields()[0].Field != c.field {
			t.Errorf("%v: got field %s, want %s", c.m, f.Fields()[0].Field, c.field)
		}
	}
}

func TestTotalStartsFromNothing(t *testing.T) {
	var total Amount
	for range 3 {
		line, err := Amount{"EUR", 4_990_000}.Times(2)
		if err != nil {
			t.Fatal(err)
		}
		if total, err = total.Add(line); err != nil {
			t.Fatal(err)
		}
	}
	if want := (Amount{"EUR", 29_940_000}); total != want {
		t.Errorf("got %v, want %v", total, want)
	}
}

func TestCurrenciesDoNotMix(t *testing.T) {
	for _, b := range []Amount{{"USD", 1}, {"USD", 0}, {"", 1}} {
		if got, err := (Amount{"EUR", 1}).Add(b); !errors.Is(err, ErrMixed) {
			t.Errorf("%+v: got %v, %v", b, got, err)
		}
	}
}

func TestEveryCurrencyHasAnExponent(t *testing.T) {
	got := map[string]int{}
	for _, c := range Currencies() {
		exp, ok := Exponent(c)
		if !ok {
			t.Errorf("%s is not supported", c)
		}
		got[c] = exp
	}
	if diff := cmp.Diff(got, map[string]int{"CHF": 2, "EUR": 2, "GBP": 2, "JPY": 0, "USD": 2}); diff != "" {
		t.Error(diff)
	}
}

// edges are where arithmetic goes wrong.
var edges = []int64{0, 1, -1, 2, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64, math.MaxInt64 / 2, math.MinInt64 / 2}

// TestTextIsExact reads what String writes with exact arithmetic.
func TestTextIsExact(t *testing.T) {
	for _, micros := range append(edges, 10, 123_456, -5_000_001) {
		text := Amount{"JPY", micros}.String()
		number, found := strings.CutSuffix(text, " JPY")
		got, ok := new(big.Rat).SetString(number)
		if !found || !ok || got.Cmp(big.NewRat(micros, micro)) != 0 {
			t.Errorf("%d micros: got %q", micros, text)
		}
	}
	if got := (Amount{}).String(); got != "0" {
		t.Errorf("nothing: got %q", got)
	}
}
