package price

import (
	"testing"

	moneypb "google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/protobuf/proto"
)

func TestParseIsExact(t *testing.T) {
	for text, want := range map[string]*moneypb.Money{
		"12.50":                        {CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000},
		" 3 ":                          {CurrencyCode: "EUR", Units: 3},
		"0.1":                          {CurrencyCode: "EUR", Nanos: 100_000_000},
		"0.000000001":                  {CurrencyCode: "EUR", Nanos: 1},
		"999999999999999999.999999999": {CurrencyCode: "EUR", Units: 999_999_999_999_999_999, Nanos: 999_999_999},
	} {
		got, err := Parse(text, "eur")
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("Parse(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestParseRefusesWhatIsNoPrice(t *testing.T) {
	for _, text := range []string{"", "abc", "12,50", "-1", "+1", "1e3", "1.", ".5", "1.0000000001", "1000000000000000000", "0x10", "１", "1 000"} {
		if got, err := Parse(text, "EUR"); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", text, got)
		}
	}
}

func TestShow(t *testing.T) {
	for want, m := range map[string]*moneypb.Money{
		"EUR 12.50":  {CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000},
		"EUR 0.00":   {CurrencyCode: "EUR"},
		"EUR 0.001":  {CurrencyCode: "EUR", Nanos: 1_000_000},
		"JPY 300":    {CurrencyCode: "JPY", Units: 300},
		"JPY 300.5":  {CurrencyCode: "JPY", Units: 300, Nanos: 500_000_000},
		"USD -1.05":  {CurrencyCode: "USD", Units: -1, Nanos: -50_000_000},
		"USD -0.05":  {CurrencyCode: "USD", Nanos: -50_000_000},
		"XXX 1.00":   {CurrencyCode: "XXX", Units: 1},
		"7.00":       {Units: 7},
		"":           nil,
		"CHF 1.0625": {CurrencyCode: "CHF", Units: 1, Nanos: 62_500_000},
	} {
		if got := Show(m); got != want {
			t.Errorf("Show(%v) = %q, want %q", m, got, want)
		}
	}
}
