// Package price reads and writes prices as people do.
package price

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	moneypb "google.golang.org/genproto/googleapis/type/money"

	"github.com/meshmart/meshmart/services/internal/money"
)

var decimal = regexp.MustCompile(`^([0-9]{1,18})(?:\.([0-9]{1,9}))?$`)

// Parse reads a decimal number such as "12.50". Whether the shop has the
// currency, and coins so small, is for the shop to say.
func Parse(amount, currency string) (*moneypb.Money, error) {
	m := decimal.FindStringSubmatch(strings.TrimSpace(amount))
	if m == nil {
		return nil, fmt.Errorf("%q is not a price such as 12.50", amount)
	}
	units, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is not a price such as 12.50", amount)
	}
	nanos, err := strconv.ParseInt((m[2] + "000000000")[:9], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q is not a price such as 12.50", amount)
	}
	return &moneypb.Money{CurrencyCode: strings.ToUpper(strings.TrimSpace(currency)), Units: units, Nanos: int32(nanos)}, nil
}

// Show writes an amount for people: "EUR 12.50".
func Show(m *moneypb.Money) string {
	if m == nil {
		return ""
	}
	sign, units, nanos := "", m.GetUnits(), m.GetNanos()
	if units < 0 || nanos < 0 {
		sign, nanos = "-", -nanos
	}
	digits, known := money.Exponent(m.GetCurrencyCode())
	if !known {
		digits = 2
	}
	fraction := fmt.Sprintf("%09d", nanos)
	for len(fraction) > digits && strings.HasSuffix(fraction, "0") {
		fraction = fraction[:len(fraction)-1]
	}
	if fraction != "" {
		fraction = "." + fraction
	}
	whole := strings.TrimPrefix(strconv.FormatInt(units, 10), "-")
	return strings.TrimSpace(m.GetCurrencyCode() + " " + sign + whole + fraction)
}
