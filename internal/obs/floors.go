package obs

import (
	"time"

	"millrace/bridge"
	postgres "millrace/storage/embedded"
	kafka "millrace/stream/embedded"
)

// Bridge counts what comes over from another broker.
func (m *Metrics) Bridge() bridge.Events {
	connected := m.gauge("bridge_connected", "1 while the other broker is connected.")
	lost := m.counter("bridge_lost_total", "Times that the connection to the other broker ended or could not be made.")
	received := m.counter("bridge_messages_total", "Messages received from the other broker.")
	bytes := m.counter("bridge_payload_bytes_total", "Their payload bytes.")
	acknowledged := m.counter("bridge_acknowledged_total", "Messages acknowledged to the other broker.")
	failed := m.counter("bridge_failed_total", "Messages that the log did not take; the broker sends them again.")
	dropped := m.counter("bridge_dropped_total", "QoS 0 messages for which there was no room.")
	return bridge.Events{
		Connected:    func(bool) { connected.Set(1) },
		Lost:         func(error) { connected.Set(0); lost.Inc() },
		Received:     func(n int) { received.Inc(); bytes.Add(float64(n)) },
		Acknowledged: func(n int) { acknowledged.Add(float64(n)) },
		Failed:       func(error) { failed.Inc() },
		Dropped:      func(n int) { dropped.Add(float64(n)) },
	}
}

// EmbeddedLog shows the state of the embedded log.
func (m *Metrics) EmbeddedLog() kafka.Events {
	refusing := m.gauge("embedded_log_refusing", "1 while the embedded log refuses appends, as when the disk is nearly full.")
	removed := m.counter("embedded_log_removed_bytes_total", "Bytes that retention has removed.")
	size := m.gauges("embedded_log_bytes", "The embedded log on disk, its index in memory, and what is free on the disk.", "of")
	return kafka.Events{
		Refused: func(why string) {
			refusing.Set(0)
			if why != "" {
				refusing.Set(1)
			}
		},
		Removed: func(n int64) { removed.Add(float64(n)) },
		Size: func(log, index, free int64) {
			size.WithLabelValues("log").Set(float64(log))
			size.WithLabelValues("index").Set(float64(index))
			size.WithLabelValues("free").Set(float64(free))
		},
	}
}

// EmbeddedPostgres shows the state of the embedded database server.
func (m *Metrics) EmbeddedPostgres() postgres.Events {
	up := m.gauge("embedded_postgres_up", "1 while the embedded PostgreSQL answers.")
	down := m.counter("embedded_postgres_crashes_total", "Times that it ended without being asked to.")
	return postgres.Events{
		Up:   func(time.Duration) { up.Set(1) },
		Down: func(error) { up.Set(0); down.Inc() },
	}
}
