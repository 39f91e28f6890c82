package payment

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestMoneyIsCountedOnceByKindAndCurrency(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		for _, do := range []struct{ order, word string }{
			{"a", "authorize"}, {"a", "capture"}, {"a", "capture"}, {"b", "authorize"}, {"b", "void"},
			{"c", "authorize"}, {"c", "capture"}, {"c", "refund"}, {"d", "decline"}, {"e", "void"},
		} {
			if _, err := b.step(t.Context(), do.word, do.order); err != nil {
				t.Fatal(do, err)
			}
		}
		late := b.get(t, "a") // as somebody has read it who is overtaken
		late.State = capturing
		if _, err := b.settle(t.Context(), late, result{state: captured}); err != nil {
			t.Fatal(err)
		}
		var all metricdata.ResourceMetrics
		if err := b.metrics.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, p := range all.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[float64]).DataPoints {
			currency, _ := p.Attributes.Value("payment.currency")
			entry, _ := p.Attributes.Value("payment.entry")
			got[entry.AsString()+" "+currency.AsString()] = p.Value
		}
		want := map[string]float64{"AUTHORIZE EUR": 37.5, "CAPTURE EUR": 25, "VOID EUR": 12.5, "REFUND EUR": 12.5}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Error(diff)
		}
	})
}
