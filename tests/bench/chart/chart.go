// Package chart draws lines on logarithmic scales as SVG.
package chart

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Line is a series of points.
type Line struct {
	Name   string
	Dashed bool
	Color  int // the same for lines that belong together, from 0
	Points []Point
}

// Point is in the units of the axes; what is not positive has no place.
type Point struct{ X, Y float64 }

// Panel is a chart with its title.
type Panel struct {
	Title, XLabel, YLabel string
	Lines                 []Line
}

// The measures of a panel in pixels.
const (
	width, height      = 560, 380
	left, right        = 70, 150
	top, bottom        = 36, 46
	plotWide, plotHigh = width - left - right, height - top - bottom
)

var colors = []string{"#1b6ca8", "#c8553d", "#2e8540", "#7a4ea3", "#8a6d1d", "#555555"}

// SVG draws panels, one beside the other.
func SVG(panels []Panel) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" font-family="sans-serif" font-size="11">`+"\n",
		max(1, len(panels))*width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d 0)">`+"\n", i*width)
		p.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// scale maps values onto pixels.
type scale struct{ from, to float64 } // decimal logarithms

// over returns the scale of whole decades, or of thirds of them, that has all
// values.
func over(values []float64) scale {
	s := scale{math.Inf(1), math.Inf(-1)}
	for _, v := range values {
		if v > 0 {
			s.from, s.to = min(s.from, math.Log10(v)), max(s.to, math.Log10(v))
		}
	}
	if s.from > s.to {
		return scale{0, 1}
	}
	return scale{math.Floor(3*s.from) / 3, math.Max(math.Ceil(3*s.to), math.Floor(3*s.from)+1) / 3}
}

// at returns where a value is, from 0 to 1.
func (s scale) at(v float64) float64 { return (math.Log10(v) - s.from) / (s.to - s.from) }

// ticks are the values 1, 2 and 5 times a power of ten within the scale.
func (s scale) ticks() []float64 {
	var ticks []float64
	for e := math.Floor(s.from); e <= s.to; e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := m * math.Pow(10, e); s.at(v) >= -1e-9 && s.at(v) <= 1+1e-9 {
				ticks = append(ticks, v)
			}
		}
	}
	return ticks
}

func (p Panel) draw(b *strings.Builder) {
	var xs, ys []float64
	for _, l := range p.Lines {
		for _, pt := range l.Points {
			xs, ys = append(xs, pt.X), append(ys, pt.Y)
		}
	}
	x, y := over(xs), over(ys)
	text(b, left, 20, "start", p.Title, `font-size="14" font-weight="bold"`)
	text(b, left+plotWide/2, height-10, "middle", p.XLabel, "")
	text(b, 14, top+plotHigh/2, "middle", p.YLabel, fmt.Sprintf(`transform="rotate(-90 14 %d)"`, top+plotHigh/2))
	for _, v := range x.ticks() {
		at := left + x.at(v)*plotWide
		fmt.Fprintf(b, `<path d="M%.1f %d v%d" stroke="#ddd"/>`+"\n", at, top, plotHigh)
		text(b, at, top+plotHigh+15, "middle", short(v), "")
	}
	for _, v := range y.ticks() {
		at := top + (1-y.at(v))*plotHigh
		fmt.Fprintf(b, `<path d="M%d %.1f h%d" stroke="#ddd"/>`+"\n", left, at, plotWide)
		text(b, left-6, at+4, "end", short(v), "")
	}
	for i, l := range p.Lines {
		l.draw(b, x, y, i)
	}
}

func (l Line) draw(b *strings.Builder, x, y scale, place int) {
	var d strings.Builder
	for _, pt := range l.Points {
		if pt.X <= 0 || pt.Y <= 0 {
			continue
		}
		verb := "L"
		if d.Len() == 0 {
			verb = "M"
		}
		fmt.Fprintf(&d, "%s%.1f %.1f", verb, left+x.at(pt.X)*plotWide, top+(1-y.at(pt.Y))*plotHigh)
	}
	style := fmt.Sprintf(`fill="none" stroke="%s" stroke-width="2"`, colors[l.Color%len(colors)])
	if l.Dashed {
		style += ` stroke-dasharray="5 4"`
	}
	fmt.Fprintf(b, `<path d="%s" %s/>`+"\n", d.String(), style)
	at := top + 8 + 17*place
	fmt.Fprintf(b, `<path d="M%d %d h22" %s/>`+"\n", width-right+12, at, style)
	text(b, width-right+40, float64(at+4), "start", l.Name, "")
}

func text[X, Y int | float64](b *strings.Builder, x X, y Y, anchor, s, more string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="#222" %s>%s</text>`+"\n", float64(x), float64(y), anchor, more, html.EscapeString(s))
}

// short prints a tick: 200, 5k, 1M.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%.3g", v)
}
