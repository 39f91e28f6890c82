package db

import (
	"context"
	"database/sql"

	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// measure has the use of the connections in the metrics until unmeasure is
// called. SQLite has one pool for reads and one for writes.
func (c *core) measure(meters metric.MeterProvider) (unmeasure func() error, err error) {
	if meters == nil {
		return func() error { return nil }, nil
	}
	meter := meters.Meter(scope)
	count, err := meter.Int64ObservableUpDownCounter("db.client.connection.count", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections to the database that are open, by whether they are in use."))
	if err != nil {
		return nil, err
	}
	most, err := meter.Int64ObservableUpDownCounter("db.client.connection.max", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections to the database that may be open at once."))
	if err != nil {
		return nil, err
	}
	reg, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for name, pool := range c.pools() {
			use := pool.Stats()
			if c.writer != nil && pool == c.writes {
				use.InUse, use.Idle = c.writer.use()
			}
			in := semconv.DBClientConnectionPoolName(name)
			o.ObserveInt64(count, int64(use.Idle), metric.WithAttributes(in, semconv.DBClientConnectionStateIdle))
			o.ObserveInt64(count, int64(use.InUse), metric.WithAttributes(in, semconv.DBClientConnectionStateUsed))
			o.ObserveInt64(most, int64(use.MaxOpenConnections), metric.WithAttributes(in))
		}
		return nil
	}, count, most)
	if err != nil {
		return nil, err
	}
	return reg.Unregister, nil
}

func (e *engine) pools() map[string]*sql.DB {
	if e.reads == e.writes {
		return map[string]*sql.DB{"all": e.reads}
	}
	return map[string]*sql.DB{"reads": e.reads, "writes": e.writes}
}
