package obs_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"millrace/internal/obs"
	"millrace/storage"
	"millrace/telemetry"
	"millrace/telemetry/format"
)

func scrape(t *testing.T, m *obs.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET /metrics: %d", w.Code)
	}
	return w.Body.String()
}

// everything wires each package's events once, as 'millrace up' does.
func everything(m *obs.Metrics) {
	m.Gate().Accepted("mqtt", format.JSON, 3, time.Millisecond)
	m.Gate().Refused("http", telemetry.ReasonTime)
	m.HTTP().Answered(503, 7, time.Second)
	m.MQTT().Received(1, 70)
	m.Devices().Login(false)
	m.Buffered(func() (int64, int64) { return 2, 140 })
	m.Stream().Appended("millrace.readings", 100, time.Millisecond, nil)
	m.Stream().Appended("millrace.readings", 100, time.Millisecond, errors.New("away"))
	m.Storage().Committed(storage.Batch{Topic: "millrace.readings", Stored: 5, Duplicates: 2, Dead: 1, Values: 9})
	m.Hub().Skipped(4)
	m.Bridge().Acknowledged(6)
	m.EmbeddedLog().Refused("the disk is full")
	m.EmbeddedPostgres().Up(time.Second)
}

func TestEventsBecomeMetrics(t *testing.T) {
	m := obs.NewMetrics("1.2.3")
	everything(m)
	text := scrape(t, m)
	for _, want := range []string{
		`millrace_build_info{version="1.2.3"} 1`,
		`millrace_ingest_readings_total{form="json",source="mqtt"} 3`,
		`millrace_ingest_refused_total{reason="time",source="http"} 1`,
		`millrace_http_ingest_seconds_count{status="503"} 1`,
		`millrace_mqtt_messages_total{qos="1"} 1`,
		`millrace_device_logins_total{ok="false"} 1`,
		`millrace_log_appends_pending 2`,
		`millrace_log_appends_total{ok="true",topic="millrace.readings"} 1`,
		`millrace_log_appends_total{ok="false",topic="millrace.readings"} 1`,
		`millrace_sink_records_total{outcome="duplicate",topic="millrace.readings"} 2`,
		`millrace_sink_values_total{topic="millrace.readings"} 9`,
		`millrace_hub_skipped_total 4`,
		`millrace_bridge_acknowledged_total 6`,
		`millrace_embedded_log_refusing 1`,
		`millrace_embedded_postgres_up 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	m := obs.NewMetrics("1.2.3")
	everything(m)
	problems, err := promlint.New(strings.NewReader(scrape(t, m))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Two sinks in one process count together; wiring twice must not fail.
func TestWiringTwiceCountsTogether(t *testing.T) {
	m := obs.NewMetrics("1.2.3")
	everything(m)
	m.Storage().Committed(storage.Batch{Topic: "millrace.readings", Values: 1})
	if text := scrape(t, m); !strings.Contains(text, `millrace_sink_values_total{topic="millrace.readings"} 10`+"\n") {
		t.Error("the second wiring's values are not counted with the first's")
	}
}

func ready(t *testing.T, h *obs.Health) (int, map[string]string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.Ready().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	var answer struct{ Failing map[string]string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	return w.Code, answer.Failing
}

func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := obs.NewHealth()
		if code, _ := ready(t, h); code != http.StatusOK {
			t.Errorf("without checks: %d, want 200", code)
		}
		h.Check("kafka", func(context.Context) error { return errors.New("no broker answers") })
		h.Check("postgres", func(ctx context.Context) error {
			<-ctx.Done() // a database that hangs is not ready either, and holds nobody up
			return ctx.Err()
		})
		h.Check("hub", func(context.Context) error { return nil })
		code, failing := ready(t, h)
		if code != http.StatusServiceUnavailable || failing["kafka"] != "no broker answers" || failing["postgres"] == "" || failing["hub"] != "" {
			t.Errorf("answered %d %v", code, failing)
		}
	})
}

func TestLiveAsksNobody(t *testing.T) {
	h := obs.NewHealth()
	h.Check("kafka", func(context.Context) error { t.Error("liveness asked a check"); return nil })
	w := httptest.NewRecorder()
	h.Live().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusOK {
		t.Errorf("answered %d", w.Code)
	}
}
