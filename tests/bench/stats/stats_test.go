package stats

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantilesOfAKnownSample(t *testing.T) {
	h, other := NewHistogram(), NewHistogram()
	for i := 1; i <= 10_000; i++ { // 1 to 10,000 us, half of them counted elsewhere
		to := h
		if i%2 == 0 {
			to = other
		}
		to.Record(time.Duration(i) * time.Microsecond)
	}
	h.Add(other)
	if got := h.Count(); got != 10_000 {
		t.Errorf("counted %d, want 10000", got)
	}
	for q, want := range map[float64]time.Duration{0.5: 5000, 0.95: 9500, 0.99: 9900, 0.999: 9990, 1: 10000} {
		want *= time.Microsecond
		if got := h.Quantile(q); got < want-want/500 || got > want+want/500 {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
}

func TestWhatIsOutsideCountsAsTheNearest(t *testing.T) {
	h := NewHistogram()
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("of nothing: got %v, want 0", got)
	}
	h.Record(time.Hour)
	if got := h.Quantile(0.5); got < most-most/500 {
		t.Errorf("an hour: got %v, want %v", got, most)
	}
	h = NewHistogram()
	h.Record(-time.Second)
	if got := h.Quantile(0.5); got != least {
		t.Errorf("less than nothing: got %v, want %v", got, least)
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b []float64
		want Spread
	}{
		// The second round ran on a machine that was half as fast; the ratio of
		// the medians would be 1.5.
		{"slow round", []float64{20, 40, 30}, []float64{10, 20, 10}, Spread{Min: 2, Median: 2, Max: 3, Rounds: 3}},
		{"even", []float64{1, 4}, []float64{1, 2}, Spread{Min: 1, Median: 1.5, Max: 2, Rounds: 2}},
		{"nothing to divide by", []float64{1, 4}, []float64{0, 2}, Spread{Min: 2, Median: 2, Max: 2, Rounds: 1}},
		{"a round is missing", []float64{1}, nil, Spread{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(Ratios(tt.a, tt.b), tt.want); diff != "" {
				t.Errorf("ratios (-got +want):\n%s", diff)
			}
		})
	}
}

func TestSpreadIsPrintedWithItsRange(t *testing.T) {
	for want, s := range map[string]Spread{
		"-":                {},
		"1.25":             Of([]float64{1.25}),
		"12.0 [0.50-1234]": Of([]float64{1234, 0.5, 12}),
	} {
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
