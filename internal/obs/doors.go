package obs

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/devices"
	"millrace/ingest"
	"millrace/ingest/mqttd"
	"millrace/telemetry"
	"millrace/telemetry/format"
)

// Gate counts what the gate accepts and refuses.
func (m *Metrics) Gate() ingest.Events {
	accepted := m.counters("ingest_readings_total", "Readings that the log has acknowledged.", "source", "form")
	took := m.histograms("ingest_append_seconds", "From the receipt of a message to the log's acknowledgement.", "source")
	refused := m.counters("ingest_refused_total", "Items that became dead letters.", "source", "reason")
	failed := m.counters("ingest_failed_total", "Messages whose append failed and that were not acknowledged.", "source")
	panicked := m.counters("ingest_decoder_panics_total", "Defects in a decoder that were contained.", "form")
	tookFrom := remember(func(source string) prometheus.Observer { return took.WithLabelValues(source) })
	acceptedFrom := remember(func(source string) *[16]prometheus.Counter {
		var forms [16]prometheus.Counter // more than there are: the index below is masked
		for form := range format.Form(len(forms)) {
			forms[form] = accepted.WithLabelValues(source, min(form, format.Sparkplug).String())
		}
		return &forms
	})
	return ingest.Events{
		Accepted: func(source string, form format.Form, readings int, d time.Duration) {
			acceptedFrom.of(source)[form&15].Add(float64(readings))
			since(tookFrom.of(source), d)
		},
		Refused: func(source string, reason telemetry.Reason) {
			refused.WithLabelValues(source, string(reason)).Inc()
		},
		Failed:   func(source string, _ error) { failed.WithLabelValues(source).Inc() },
		Panicked: func(form format.Form) { panicked.WithLabelValues(form.String()).Inc() },
	}
}

// HTTP counts the answers of the HTTP door.
func (m *Metrics) HTTP() ingest.HTTPEvents {
	answered := m.histograms("http_ingest_seconds", "Requests to the HTTP door, from the first byte to the answer.", "status")
	bytes := m.counter("http_ingest_bytes_total", "Bytes of bodies taken in by the HTTP door.")
	return ingest.HTTPEvents{Answered: func(status int, n int64, took time.Duration) {
		since(answered.WithLabelValues(strconv.Itoa(status)), took)
		bytes.Add(float64(n))
	}}
}

// MQTT counts what happens at the MQTT door.
func (m *Metrics) MQTT() mqttd.Events {
	open := m.gauge("mqtt_connections", "MQTT clients that are connected.")
	opened := m.counters("mqtt_logins_total", "MQTT clients that logged in.", "version")
	refused := m.counters("mqtt_refused_total", "Connections and clients turned away, by the limit they reached.", "limit")
	received := m.counters("mqtt_messages_total", "Telemetry messages received.", "qos")
	receivedBy := [3]prometheus.Counter{received.WithLabelValues("0"), received.WithLabelValues("1"), received.WithLabelValues("2")}
	bytes := m.counter("mqtt_payload_bytes_total", "Payload bytes of telemetry messages.")
	acknowledged := m.counter("mqtt_acknowledged_total", "PUBACK and PUBREC sent.")
	waited := m.histogram("mqtt_acknowledge_seconds", "From a message's receipt to its acknowledgement, the oldest of each write.")
	plain := m.counter("mqtt_plain_total", "Messages outside every telemetry topic, passed on as a broker does.")
	duplicates := m.counter("mqtt_duplicates_total", "Re-sent messages that were recognised and not appended again.")
	dropped := m.counter("mqtt_dropped_total", "QoS 0 messages that were not appended.")
	failed := m.counter("mqtt_failed_total", "Messages whose append failed; the client was closed so that it sends again.")
	panicked := m.counter("mqtt_panics_total", "Defects in handling one connection that were contained.")
	return mqttd.Events{
		Opened:  func(version byte) { open.Inc(); opened.WithLabelValues(strconv.Itoa(int(version))).Inc() },
		Closed:  open.Dec,
		Refused: func(limit string) { refused.WithLabelValues(limit).Inc() },
		Received: func(qos byte, size int) {
			receivedBy[min(qos, 2)].Inc()
			bytes.Add(float64(size))
		},
		Acknowledged: func(n int, oldest time.Duration) { acknowledged.Add(float64(n)); since(waited, oldest) },
		Plain:        plain.Inc,
		Duplicate:    duplicates.Inc,
		Dropped:      func(error) { dropped.Inc() },
		Failed:       func(error) { failed.Inc() },
		Panicked:     panicked.Inc,
	}
}

// Devices counts logins and how the registry's copy keeps up.
func (m *Metrics) Devices() devices.Events {
	known := m.gauge("devices_known", "Devices in the registry's copy.")
	logins := m.counters("device_logins_total", "Logins of devices, ok or not.", "ok")
	failed := m.counter("devices_refresh_failed_total", "Times that the registry could not be read; the last copy went on.")
	revoked := m.counter("devices_revoked_total", "Devices that lost their login.")
	return devices.Events{
		Refreshed: func(n int, _ time.Duration) { known.Set(float64(n)) },
		Failed:    func(error) { failed.Inc() },
		Login:     func(ok bool) { logins.WithLabelValues(strconv.FormatBool(ok)).Inc() },
		Revoked:   func(string) { revoked.Inc() },
	}
}

// Buffered shows what waits for the log's acknowledgement, asked at each scrape.
func (m *Metrics) Buffered(ask func() (appends, bytes int64)) {
	gauge := func(name, help string, value func() int64) {
		register(m, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "millrace", Name: name, Help: help},
			func() float64 { return float64(value()) }))
	}
	gauge("log_appends_pending", "Appends that the log has not acknowledged yet.", func() int64 { n, _ := ask(); return n })
	gauge("log_bytes_pending", "Their bytes.", func() int64 { _, n := ask(); return n })
}
