package observability

// line is one query and what its series are called.
type line struct{ expr, legend string }

// graph is a panel of lines over time.
func graph(weight int, title, unit, about string, lines ...line) weighted {
	p := &panel{Type: "timeseries", Title: title, Description: about, FieldConfig: &fieldConfig{Overrides: []any{}}}
	for i, l := range lines {
		p.Targets = append(p.Targets, query{RefID: refID(i), Expr: l.expr, Legend: l.legend, Range: true})
	}
	zero := 0.0
	p.FieldConfig.Defaults = field{Unit: unit, Min: &zero, Custom: map[string]any{"fillOpacity": 8, "lineWidth": 1, "showPoints": "never"}}
	p.Options = map[string]any{
		"legend":  map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true},
		"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
	}
	return weighted{weight, p}
}

// stacked has the lines add up.
func (w weighted) stacked() weighted {
	w.FieldConfig.Defaults.Custom["stacking"] = map[string]any{"mode": "normal", "group": "A"}
	w.FieldConfig.Defaults.Custom["fillOpacity"] = 30
	return w
}

// traced has exemplars, which lead to the traces of single calls.
func (w weighted) traced() weighted {
	for i := range w.Targets {
		w.Targets[i].Exemplar = true
	}
	return w
}

// below lets values be negative.
func (w weighted) below() weighted {
	w.FieldConfig.Defaults.Min = nil
	return w
}

// limit draws a line for each step.
func (w weighted) limit(steps ...step) weighted {
	w.FieldConfig.Defaults.Thresholds = scale("green", steps...)
	w.FieldConfig.Defaults.Custom["thresholdsStyle"] = map[string]any{"mode": "dashed"}
	return w
}

// from is a step from a value on.
func from(v float64, color string) step { return step{color, &v} }

func scale(lowest string, steps ...step) *thresholds {
	return &thresholds{"absolute", append([]step{{lowest, nil}}, steps...)}
}

// figure is a panel of the newest values, coloured by the steps.
func figure(weight int, title, unit, about, lowest string, steps []step, lines ...line) weighted {
	w := graph(weight, title, unit, about, lines...)
	w.Type = "stat"
	w.FieldConfig.Defaults = field{Unit: unit, Thresholds: scale(lowest, steps...)}
	w.Options = map[string]any{
		"colorMode": "value", "graphMode": "area", "textMode": "auto", "justifyMode": "auto", "orientation": "auto",
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	}
	return w
}

// states is a panel of what each series is at, over time.
func states(weight int, title, about string, names []string, colors []string, l line) weighted {
	w := graph(weight, title, "", about, l)
	w.Type = "state-timeline"
	options := map[string]any{}
	for i, name := range names {
		options[string(rune('0'+i))] = map[string]any{"text": name, "color": colors[i], "index": i}
	}
	w.FieldConfig.Defaults = field{
		Custom:   map[string]any{"fillOpacity": 70, "lineWidth": 0},
		Mappings: []any{map[string]any{"type": "value", "options": options}},
	}
	w.Options = map[string]any{"mergeValues": true, "showValue": "never", "rowHeight": 0.9, "legend": map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true}}
	return w
}

// table is a panel with a row for each series, as it is now.
func table(weight int, title, unit, about, lowest string, steps []step, expr string) weighted {
	w := graph(weight, title, unit, about, line{expr, ""})
	w.Type = "table"
	w.Targets[0].Range, w.Targets[0].Instant, w.Targets[0].Format = false, true, "table"
	w.FieldConfig.Defaults = field{Unit: unit, Thresholds: scale(lowest, steps...)}
	w.FieldConfig.Overrides = []any{map[string]any{
		"matcher":    map[string]any{"id": "byName", "options": "Value"},
		"properties": []any{map[string]any{"id": "custom.cellOptions", "value": map[string]any{"type": "color-text"}}},
	}}
	w.Options = map[string]any{"showHeader": true, "cellHeight": "sm", "sortBy": []any{map[string]any{"displayName": "Value", "desc": false}}}
	w.Transforms = []transform{{"organize", map[string]any{"excludeByName": map[string]any{"Time": true, "__name__": true}}}}
	return w
}

func refID(i int) string { return string(rune('A' + i)) }
