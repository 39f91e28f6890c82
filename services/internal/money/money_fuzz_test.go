package money

import (
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	moneypb "google.golang.org/genproto/googleapis/type/money"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// agrees holds a result against that of exact arithmetic.
func agrees(t *testing.T, what string, got Amount, err error, exact *big.Int) {
	t.Helper()
	switch {
	case exact.IsInt64() && (err != nil || got != Amount{"EUR", exact.Int64()}):
		t.Errorf("%s: got %+v, %v, want %v", what, got, err, exact)
	case !exact.IsInt64() && !errors.Is(err, ErrOverflow):
		t.Errorf("%s: got %+v, %v, want an overflow (%v)", what, got, err, exact)
	}
}

// FuzzArithmeticIsExact adds and multiplies as math/big does.
func FuzzArithmeticIsExact(f *testing.F) {
	for _, a := range edges {
		for _, b := range edges {
			f.Add(a, b)
		}
	}
	f.Fuzz(func(t *testing.T, a, b int64) {
		x, y := Amount{"EUR", a}, Amount{"EUR", b}
		sum, err := x.Add(y)
		agrees(t, "sum", sum, err, new(big.Int).Add(big.NewInt(a), big.NewInt(b)))
		product, err := x.Times(int32(b))
		agrees(t, "product", product, err, new(big.Int).Mul(big.NewInt(a), big.NewInt(int64(int32(b)))))
		if other, err := x.Add(Amount{"USD", b}); a != 0 && b != 0 && !errors.Is(err, ErrMixed) {
			t.Errorf("euros and dollars are %v, %v", other, err)
		}
	})
}

// FuzzTotalIsExact adds up lines as an order does: price times quantity each.
func FuzzTotalIsExact(f *testing.F) {
	f.Add(int64(2_500_000), int32(3), int64(10_000), int32(1000), int64(1), int32(-1))
	f.Add(int64(1)<<62, int32(1), int64(1)<<62, int32(1), int64(-1), int32(1))
	f.Fuzz(func(t *testing.T, p1 int64, n1 int32, p2 int64, n2 int32, p3 int64, n3 int32) {
		var total Amount
		exact := new(big.Int)
		for _, line := range []struct {
			price int64
			n     int32
		}{{p1, n1}, {p2, n2}, {p3, n3}} {
			exact.Add(exact, new(big.Int).Mul(big.NewInt(line.price), big.NewInt(int64(line.n))))
			cost, err := Amount{"EUR", line.price}.Times(line.n)
			if err == nil {
				total, err = total.Add(cost)
			}
			if err != nil { // a part is too large, even if the whole were not
				if !errors.Is(err, ErrOverflow) {
					t.Error(err)
				}
				return
			}
		}
		agrees(t, "total", total, nil, exact)
	})
}

// FuzzFromProto accepts exactly what is a whole number of coins that fits, and
// writes it as it was.
func FuzzFromProto(f *testing.F) {
	for _, units := range edges {
		f.Add("EUR", units, int32(990_000_000))
		f.Add("JPY", units, int32(0))
	}
	f.Fuzz(func(t *testing.T, currency string, units int64, nanos int32) {
		m := &moneypb.Money{CurrencyCode: currency, Units: units, Nanos: nanos}
		a, err := FromProto("price", m)
		if micros, ok := exactly(m); ok != (err == nil) || ok && micros.Cmp(big.NewRat(a.Micros, 1)) != 0 {
			t.Errorf("%v: got %+v, %v; want %v micros, %v", m, a, err, micros, ok)
		}
		if err != nil {
			if fault.As(err) == nil || !strings.HasPrefix(fault.As(err).Fields()[0].Field, "price.") {
				t.Errorf("%v: %v", m, err)
			}
			return
		}
		if back := a.Proto(); back.GetUnits() != units || back.GetNanos() != nanos || back.GetCurrencyCode() != currency {
			t.Errorf("%v came back as %v", m, back)
		}
	})
}

// exactly tells by exact arithmetic how many micros m is, and whether it is an
// amount at all.
func exactly(m *moneypb.Money) (*big.Rat, bool) {
	const most = (1<<63-1)/micro - 1 // units: one is left as room, so that no caller meets the edge
	units, nanos := m.GetUnits(), m.GetNanos()
	decimals, ok := map[string]int64{"CHF": 2, "EUR": 2, "GBP": 2, "USD": 2, "JPY": 0}[m.GetCurrencyCode()]
	if !ok || nanos <= -nano || nanos >= nano || units > 0 && nanos < 0 || units < 0 && nanos > 0 || units > most || units < -most {
		return nil, false
	}
	value := new(big.Rat).Add(big.NewRat(units, 1), big.NewRat(int64(nanos), nano))
	coins := new(big.Int).Exp(big.NewInt(10), big.NewInt(decimals), nil) // of a unit
	return new(big.Rat).Mul(value, big.NewRat(micro, 1)), new(big.Rat).Mul(value, new(big.Rat).SetInt(coins)).IsInt()
}

// FuzzText reads what String writes with exact arithmetic.
func FuzzText(f *testing.F) {
	for _, micros := range edges {
		f.Add(micros, "EUR")
		f.Add(micros, "JPY")
	}
	f.Fuzz(func(t *testing.T, micros int64, currency string) {
		if !slices.Contains(Currencies(), currency) {
			currency = "JPY"
		}
		number, found := strings.CutSuffix(Amount{currency, micros}.String(), " "+currency)
		got, ok := new(big.Rat).SetString(number)
		if !found || !ok || got.Cmp(big.NewRat(micros, micro)) != 0 {
			t.Errorf("%d micros: got %q", micros, number)
		}
	})
}
