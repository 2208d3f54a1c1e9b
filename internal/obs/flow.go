package obs

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/broadcaster"
	"millrace/storage"
	"millrace/stream"
)

// Stream counts what goes into the log and comes out of it.
func (m *Metrics) Stream() stream.Events {
	appended := m.counters("log_appends_total", "Appends that ended, by whether the log has acknowledged them.", "topic", "ok")
	bytes := m.counters("log_append_bytes_total", "Bytes of acknowledged values.", "topic")
	took := m.histograms("log_append_seconds", "From an append to its end.", "topic")
	tookOf := remember(func(topic string) prometheus.Observer { return took.WithLabelValues(topic) })
	bytesOf := remember(func(topic string) prometheus.Counter { return bytes.WithLabelValues(topic) })
	keptOf := remember(func(topic string) prometheus.Counter { return appended.WithLabelValues(topic, "true") })
	claimed := m.gauges("log_partitions_claimed", "Partitions that this process consumes.", "topic", "group")
	handled := m.counters("log_records_handled_total", "Records consumed and kept.", "topic", "group")
	handling := m.histograms("log_handle_seconds", "A batch of records, as its handler took it.", "topic", "group")
	lag := m.gauges("log_lag_records", "Records behind the end of the partition.", "topic", "group", "partition")
	retried := m.counters("log_retries_total", "Times that a handler or its group failed and was asked again.", "topic", "group")
	skipped := m.counters("log_skipped_records_total", "Records that retention removed before they were consumed.", "topic", "group")
	return stream.Events{
		Appended: func(topic string, n int, d time.Duration, err error) {
			since(tookOf.of(topic), d)
			if err != nil {
				appended.WithLabelValues(topic, "false").Inc()
				return
			}
			keptOf.of(topic).Inc()
			bytesOf.of(topic).Add(float64(n))
		},
		Claimed: func(topic, group string, partitions int) {
			claimed.WithLabelValues(topic, group).Set(float64(partitions))
		},
		Handled: func(topic, group string, records int, d time.Duration) {
			handled.WithLabelValues(topic, group).Add(float64(records))
			since(handling.WithLabelValues(topic, group), d)
		},
		Lag: func(topic, group string, partition int32, records int64) {
			lag.WithLabelValues(topic, group, strconv.Itoa(int(partition))).Set(float64(records))
		},
		Retried: func(topic, group string, _ error) { retried.WithLabelValues(topic, group).Inc() },
		Skipped: func(topic, group string, _ int32, records int64) {
			skipped.WithLabelValues(topic, group).Add(float64(records))
		},
	}
}

// Storage counts what the sink keeps.
func (m *Metrics) Storage() storage.Events {
	records := m.counters("sink_records_total", "Records kept, by what became of them: stored, duplicate, dead.", "topic", "outcome")
	values := m.counters("sink_values_total", "Values stored.", "topic")
	late := m.counters("sink_late_values_total", "Values looked up one by one, because they were not their series' newest.", "topic")
	took := m.histograms("sink_commit_seconds", "A transaction, from its first record to its commit.", "topic")
	lag := m.gauges("sink_lag_seconds", "From the receipt of the last record stored to its commit.", "topic")
	failed := m.counters("sink_failed_total", "Transactions that failed and are done again.", "topic")
	missed := m.counters("sink_missed_records_total", "Records that the log lost before the sink could read them.", "topic")
	rolled := m.histogram("rollup_seconds", "Rounds of rolling up what has changed.")
	return storage.Events{
		Committed: func(b storage.Batch) {
			records.WithLabelValues(b.Topic, "stored").Add(float64(b.Stored))
			records.WithLabelValues(b.Topic, "duplicate").Add(float64(b.Duplicates))
			records.WithLabelValues(b.Topic, "dead").Add(float64(b.Dead))
			values.WithLabelValues(b.Topic).Add(float64(b.Values))
			late.WithLabelValues(b.Topic).Add(float64(b.Late))
			since(took.WithLabelValues(b.Topic), b.Took)
			lag.WithLabelValues(b.Topic).Set(b.Lag.Seconds())
		},
		Failed: func(topic string, _ error) { failed.WithLabelValues(topic).Inc() },
		Missed: func(topic string, _ int32, n int64) { missed.WithLabelValues(topic).Add(float64(n)) },
		Rolled: func(_ int, d time.Duration) { since(rolled, d) },
	}
}

// Hub counts what the screens get.
func (m *Metrics) Hub() broadcaster.Events {
	records := m.counter("hub_records_total", "Records read from the log.")
	malformed := m.counter("hub_malformed_total", "Records that are no readings and were left out.")
	round := m.histogram("hub_round_seconds", "Rounds of offering new readings to live subscriptions.")
	clients := m.gauges("hub_clients", "Clients that are connected.", "kind")
	closed := m.counters("hub_closed_total", "Clients that went, and why.", "kind", "reason")
	lagging := m.counter("hub_lagging_total", "Times that a live subscription did not keep up.")
	skipped := m.counter("hub_skipped_total", "Readings that slow clients were told they did not get.")
	gaps := m.counter("hub_gaps_total", "Cursors that pointed at what is gone.")
	refused := m.counters("hub_refused_total", "Times that a limit was reached.", "limit")
	return broadcaster.Events{
		Appended:  func(n, bad int) { records.Add(float64(n)); malformed.Add(float64(bad)) },
		Round:     func(_, _ int, took time.Duration) { since(round, took) },
		Connected: func(kind string) { clients.WithLabelValues(kind).Inc() },
		Closed: func(kind string, reason broadcaster.Reason) {
			clients.WithLabelValues(kind).Dec()
			closed.WithLabelValues(kind, reason.Name()).Inc()
		},
		Lagging: lagging.Inc,
		Skipped: func(n uint64) { skipped.Add(float64(n)) },
		Gap:     gaps.Inc,
		Refused: func(limit string) { refused.WithLabelValues(limit).Inc() },
	}
}
