// Package obs makes visible what the other packages report: their Events
// become Prometheus metrics, and checks become health pages.
//
//	stream.Events ─┐
//	ingest.Events ─┼─▶ Metrics ─▶ /metrics
//	…              ┘     Health  ─▶ /healthz, /readyz
//
// Its invariant: no label takes a value that a client chose. Devices, topics
// and client ids never become labels, so the number of series stays what it is.
package obs

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are all metrics of one process, on a registry of their own. Safe for
// concurrent use. Each method that answers Events is called once, by the role
// that wires the package.
type Metrics struct {
	registry *prometheus.Registry
}

// NewMetrics makes the metrics of a process of this version.
func NewMetrics(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauges("build_info", "The version that runs; always 1.", "version").WithLabelValues(version).Set(1)
	return m
}

// Handler serves the metrics in Prometheus' forms.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, MaxRequestsInFlight: 4})
}

// seconds are buckets from half a millisecond to half a minute.
func seconds() []float64 { return prometheus.ExponentialBucketsRange(0.0005, 30, 17) }

// remembered finds what belongs to a label's value without building the
// label's key again: a message costs a few nanoseconds here, not hundreds.
type remembered[T any] struct {
	found sync.Map // string → T
	find  func(label string) T
}

func remember[T any](find func(label string) T) *remembered[T] { return &remembered[T]{find: find} }

func (r *remembered[T]) of(label string) T {
	if v, ok := r.found.Load(label); ok {
		return v.(T)
	}
	v, _ := r.found.LoadOrStore(label, r.find(label))
	return v.(T)
}

// register adds a collector, or answers the one that was added before: a
// process may run two sinks, and both count together.
func register[C prometheus.Collector](m *Metrics, c C) C {
	err := m.registry.Register(c)
	if already, ok := err.(prometheus.AlreadyRegisteredError); ok {
		return already.ExistingCollector.(C)
	}
	if err != nil {
		panic("impossible, because names and labels stand in this package: " + err.Error())
	}
	return c
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return register(m, prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "millrace", Name: name, Help: help}, labels))
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	return register(m, prometheus.NewCounter(prometheus.CounterOpts{Namespace: "millrace", Name: name, Help: help}))
}

func (m *Metrics) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return register(m, prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "millrace", Name: name, Help: help}, labels))
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	return register(m, prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "millrace", Name: name, Help: help}))
}

func (m *Metrics) histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return register(m, prometheus.NewHistogramVec(
		prometheus.HistogramOpts{Namespace: "millrace", Name: name, Help: help, Buckets: seconds()}, labels))
}

func (m *Metrics) histogram(name, help string) prometheus.Histogram {
	return register(m, prometheus.NewHistogram(
		prometheus.HistogramOpts{Namespace: "millrace", Name: name, Help: help, Buckets: seconds()}))
}

// since counts a duration into a histogram.
func since(h prometheus.Observer, took time.Duration) { h.Observe(took.Seconds()) }
