package observability

import "fmt"

// poolRow is the service's connections to its database.
func poolRow(d *dashboard, of string) {
	d.section("Database", "One pool, or with SQLite one for reads and one for writes.")
	d.add(7,
		graph(8, "Connections", "short", "Open ones of all replicas, in use or idle.", line{
			fmt.Sprintf("sum by (db_client_connection_pool_name, db_client_connection_state) (db_client_connection_count{%s})", of),
			"{{db_client_connection_pool_name}} {{db_client_connection_state}}",
		}).stacked(),
		graph(8, "In use", "percentunit", "Of those that may be open at once, in the replica that has the most. At 100 % calls wait for a connection.", line{used(of), "{{db_client_connection_pool_name}}"}).limit(from(0.9, "red")),
	)
}

// used is the share of each pool that is in use, in the fullest replica.
func used(of string) string {
	const pool = "job, instance, service_name, db_client_connection_pool_name"
	return fmt.Sprintf("max by (db_client_connection_pool_name) (sum by (%s) (db_client_connection_count{%s}) / sum by (%s) (db_client_connection_max{%s}))",
		pool, join(of, `db_client_connection_state="used"`), pool, of)
}

// eventRow is what the service publishes and consumes.
func eventRow(d *dashboard, of string) {
	d.section("Events", "All replicas share an outbox; each counts the duplicates that it was given.")
	d.add(7,
		graph(8, "Waiting", "short", "Events that are committed and not yet with the broker.", line{most("outbox_waiting", of), "events"}),
		graph(8, "Age of the oldest", "s", "Grows while the broker is away, and only then.", line{most("outbox_age_seconds", of), "oldest"}),
		graph(8, "Duplicates", "short", "Events a minute that came again after they had taken effect, and were dropped. None for a service that consumes nothing.",
			line{fmt.Sprintf("60 * sum by (messaging_consumer_group_name) (rate(inbox_duplicates_total{%s}[$__rate_interval]))", of), "{{messaging_consumer_group_name}}"}),
	)
}

// processRow is what the service runs on; told is what it tells of its calls.
func processRow(d *dashboard, name string, told calls) {
	own := func(title, unit, about, format string) weighted {
		return graph(6, title, unit, about, line{process(fmt.Sprintf(format, runs(name)), name, told), "{{instance}}"})
	}
	d.section("Process", "By replica. Where all services run in one process it is that one.")
	d.add(7,
		own("CPU", "short", "Cores in use.", "rate(process_cpu_seconds_total{%s}[$__rate_interval])"),
		own("Memory", "bytes", "Resident.", "process_resident_memory_bytes{%s}"),
		own("Heap", "bytes", "In use by Go.", "go_memstats_heap_inuse_bytes{%s}"),
		own("Goroutines", "short", "A number that only grows is a leak.", "go_goroutines{%s}"),
	)
	d.add(7,
		own("Allocated", "Bps", "By Go, a second.", "rate(go_memstats_alloc_bytes_total{%s}[$__rate_interval])"),
		own("Longest pause", "s", "Of the collector, in the newest cycles.", `go_gc_duration_seconds{%s,quantile=~"1([.]0)?"}`),
		own("Files and sockets", "short", "Open descriptors.", "process_open_fds{%s}"),
		own("Running for", "s", "Falls to 0 when the process starts again.", "time() - process_start_time_seconds{%s}"),
	)
}
