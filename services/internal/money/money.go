// Package money is exact amounts of money, checked where they come in.
package money

import (
	"errors"
	"fmt"
	"math"
	"strings"

	moneypb "google.golang.org/genproto/googleapis/type/money"

	"github.com/meshmart/meshmart/services/internal/fault"
)

const (
	micro        = 1_000_000     // micros of a unit
	nano         = 1_000_000_000 // nanos of a unit
	nanoPerMicro = nano / micro
)

// ErrOverflow says that a result is more than an Amount can hold, which is
// about nine trillion units.
var ErrOverflow = errors.New("the amount is too large")

// ErrMixed says that amounts of different currencies don't add up.
var ErrMixed = errors.New("the currencies differ")

// Amount is an amount of money. It is comparable, and stored as it is: TEXT and
// BIGINT. The zero Amount is nothing, of no currency yet.
type Amount struct {
	Currency string // ISO 4217, such as "EUR"
	Micros   int64  // millionths of the currency's unit, of either sign
}

// Currencies returns the supported currencies.
func Currencies() []string { return []string{"CHF", "EUR", "GBP", "JPY", "USD"} }

// Exponent returns how many decimals the currency has, as the smallest coin
// shows, and whether it is supported at all.
func Exponent(currency string) (int, bool) {
	switch currency {
	case "CHF", "EUR", "GBP", "USD":
		return 2, true
	case "JPY":
		return 0, true
	}
	return 0, false
}

// FromProto returns the amount in m, which came in the field of a request. A
// fault (INVALID_ARGUMENT) names the part of it that is wrong: nothing there, a
// currency that isn't supported, units and nanos that don't belong together or
// are too large, or a fraction of the smallest coin.
func FromProto(field string, m *moneypb.Money) (Amount, error) {
	if m == nil {
		return Amount{}, fault.Invalid(field, "is required")
	}
	units, nanos := m.GetUnits(), int64(m.GetNanos())
	exp, ok := Exponent(m.GetCurrencyCode())
	switch {
	case !ok:
		return Amount{}, fault.Invalid(field+".currency_code", "must be one of %s", strings.Join(Currencies(), ", "))
	case nanos <= -nano || nanos >= nano:
		return Amount{}, fault.Invalid(field+".nanos", "must be between -999999999 and 999999999")
	case units > 0 && nanos < 0 || units < 0 && nanos > 0:
		return Amount{}, fault.Invalid(field+".nanos", "must have the sign of units")
	case nanos%coin(exp) != 0:
		return Amount{}, fault.Invalid(field+".nanos", "must be a multiple of %d, the smallest coin of %s", coin(exp), m.GetCurrencyCode())
	case units > math.MaxInt64/micro-1 || units < math.MinInt64/micro+1:
		return Amount{}, fault.Invalid(field+".units", "is too large")
	}
	return Amount{Currency: m.GetCurrencyCode(), Micros: units*micro + nanos/nanoPerMicro}, nil
}

// coin returns the smallest coin in nanos of the unit.
func coin(exponent int) int64 {
	c := int64(nano)
	for range exponent {
		c /= 10
	}
	return c
}

// Proto returns the amount as a message.
func (a Amount) Proto() *moneypb.Money {
	return &moneypb.Money{
		CurrencyCode: a.Currency, Units: a.Micros / micro, Nanos: int32(a.Micros % micro * nanoPerMicro),
	}
}

// Times returns n times the amount, or ErrOverflow.
func (a Amount) Times(n int32) (Amount, error) {
	p := a.Micros * int64(n)
	// The one product that overflows without a trace in the division is -2^63 times -1.
	if n != 0 && p/int64(n) != a.Micros || n == -1 && a.Micros == math.MinInt64 {
		return Amount{}, ErrOverflow
	}
	return Amount{Currency: a.Currency, Micros: p}, nil
}

// Add returns the sum, or ErrMixed or ErrOverflow. The zero Amount changes
// nothing, so a total can start with it.
func (a Amount) Add(b Amount) (Amount, error) {
	switch {
	case a == Amount{}:
		return b, nil
	case b == Amount{}:
		return a, nil
	case a.Currency != b.Currency:
		return Amount{}, ErrMixed
	}
	sum := a.Micros + b.Micros
	if (sum > a.Micros) != (b.Micros > 0) {
		return Amount{}, ErrOverflow
	}
	return Amount{Currency: a.Currency, Micros: sum}, nil
}

// String returns the amount for people, such as "12.50 EUR". Decimals finer
// than the smallest coin show only if there are any.
func (a Amount) String() string {
	sign, abs := "", uint64(a.Micros)
	if a.Micros < 0 {
		sign, abs = "-", -abs
	}
	exp, _ := Exponent(a.Currency)
	decimals := fmt.Sprintf("%06d", abs%micro)
	for len(decimals) > exp && decimals[len(decimals)-1] == '0' {
		decimals = decimals[:len(decimals)-1]
	}
	if decimals != "" {
		decimals = "." + decimals
	}
	return strings.TrimRight(fmt.Sprintf("%s%d%s %s", sign, abs/micro, decimals, a.Currency), " ")
}
