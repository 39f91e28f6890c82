package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func TestPointsAreWhereTheScaleHasThem(t *testing.T) {
	s := over([]float64{10, 1000, 0, -3})
	if s.at(10) != 0 || math.Abs(s.at(100)-0.5) > 1e-9 || math.Abs(s.at(1000)-1) > 1e-9 {
		t.Errorf("10, 100 and 1000 are at %v, %v and %v, want 0, 0.5 and 1", s.at(10), s.at(100), s.at(1000))
	}
	if got := s.ticks(); len(got) != 7 { // 10 20 50 100 200 500 1000
		t.Errorf("ticks are %v", got)
	}
}

func TestPictureIsWellFormed(t *testing.T) {
	for name, panels := range map[string][]Panel{
		"none":      nil,
		"no points": {{Title: "empty", Lines: []Line{{Name: "a"}}}},
		"one point": {{Title: "one", Lines: []Line{{Name: "a", Points: []Point{{5, 5}}}}}},
		"two lines": {{Title: `"<&`, Lines: []Line{{Name: "a<b", Points: []Point{{1, 2}, {100, 2000}}}, {Name: "z", Dashed: true, Points: []Point{{0, 1}}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			svg := SVG(panels)
			for d := xml.NewDecoder(strings.NewReader(svg)); ; {
				_, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%v in\n%s", err, svg)
				}
			}
			if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
				t.Errorf("a point is nowhere:\n%s", svg)
			}
		})
	}
}
