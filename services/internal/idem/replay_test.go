package idem_test

import (
	"errors"
	"slices"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/idem"
)

func TestOnlyWhatIsAnsweredFromTheFirstTimeIsReplayed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		spans := tracetest.NewInMemoryExporter()
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("")
		other := idem.Key{Scope: key.Scope, ID: key.ID, Fingerprint: []byte{9}}
		for _, tt := range []struct {
			about  string
			key    idem.Key
			result error
			want   bool
		}{
			{"fails", key, errors.New("no"), false},
			{"the first that works", key, nil, false},
			{"a repetition", key, errors.New("is not asked"), true},
			{"another request", other, nil, false},
			{"without an id", idem.Key{}, nil, false},
		} {
			ctx, span := tracer.Start(t.Context(), tt.about)
			_, _ = idem.Do(ctx, d, tt.key, func(*db.DB) (receipt, error) { return receipt{}, tt.result })
			span.End()
			all := spans.GetSpans()
			if got := slices.Contains(all[len(all)-1].Attributes, idem.ReplayedKey.Bool(true)); got != tt.want {
				t.Errorf("%s: replayed %v, want %v", tt.about, got, tt.want)
			}
		}
	}, idem.Schema)
}
