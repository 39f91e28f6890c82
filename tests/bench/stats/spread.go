package stats

import (
	"fmt"
	"slices"
)

// Spread is a figure that was measured once per round.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
	Rounds int     `json:"rounds"`
}

// Of returns the spread of some values; zero if there are none.
func Of(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	s := slices.Sorted(slices.Values(values))
	mid := len(s) / 2
	median := s[mid]
	if len(s)%2 == 0 {
		median = (s[mid-1] + s[mid]) / 2
	}
	return Spread{Min: s[0], Median: median, Max: s[len(s)-1], Rounds: len(s)}
}

// Ratios returns the spread of a[i]/b[i]: of rounds that were run one after the
// other, so that what slows the machine for a while slows both. A round in which
// b is 0 has no ratio.
func Ratios(a, b []float64) Spread {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if b[i] != 0 {
			ratios = append(ratios, a[i]/b[i])
		}
	}
	return Of(ratios)
}

// String prints the median, and the range in brackets.
func (s Spread) String() string {
	if s.Rounds == 0 {
		return "-"
	}
	if s.Rounds == 1 {
		return Digits(s.Median)
	}
	return fmt.Sprintf("%s [%s-%s]", Digits(s.Median), Digits(s.Min), Digits(s.Max))
}

// Digits prints a figure with three digits, or all before the point.
func Digits(v float64) string {
	switch a := max(v, -v); {
	case a >= 100 || a == 0:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
