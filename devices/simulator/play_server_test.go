package simulator_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"millrace/devices/simulator"
	"millrace/internal/testkit"
)

// recording is a file of ../shared/data beside the repository; it is not part of
// the project, so where it is absent, and only then, the test is skipped.
func recording(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		t.Skip("shared/data absent")
	}
	return path
}

func suez(t *testing.T, broker string) simulator.PlayConfig {
	return simulator.PlayConfig{
		Broker: simulator.Broker{URL: broker},
		File:   recording(t, "suez-ais.csv"), Device: "id", Time: "ais_pos_timestamp",
		TimeLayout: "02/01/2006 15:04", Rename: map[string]string{"longitude": "lon", "latitude": "lat"},
	}
}

func TestPlayShipsToMosquitto(t *testing.T) {
	broker := testkit.Mosquitto(t, "max_queued_messages 0", "max_inflight_messages 0")
	report, err := simulator.Play(t.Context(), suez(t, broker.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", report.String())
	if report.Rows != 22287 || report.Acknowledged != 22287 || report.Devices != 256 || len(report.Rejected) != 0 {
		t.Errorf("report is %+v", report)
	}
}

// A broker that is killed in the middle and comes back: the play goes on, and
// all of it is acknowledged.
func TestPlayOutlivesMosquitto(t *testing.T) {
	t.Parallel()
	broker := testkit.Mosquitto(t)
	config := suez(t, broker.Addr())
	var acknowledged, lost atomic.Int64
	half := make(chan struct{})
	config.Events.Acknowledged = func(n int) {
		if before := acknowledged.Add(int64(n)) - int64(n); before < 5000 && before+int64(n) >= 5000 {
			close(half)
		}
	}
	config.Events.Lost = func(string, error) { lost.Add(1) }
	type result struct {
		report simulator.Report
		err    error
	}
	over := make(chan result)
	go func() {
		report, err := simulator.Play(t.Context(), config)
		over <- result{report, err}
	}()
	<-half
	broker.Kill()
	testkit.Wait(t, "the play to notice", func() bool { return lost.Load() > 0 })
	broker.Start()
	end := <-over
	if end.err != nil || end.report.Acknowledged != 22287 || acknowledged.Load() != 22287 {
		t.Errorf("%v; report is %+v", end.err, end.report)
	}
}

func TestPlayParkingToMosquitto(t *testing.T) {
	broker := testkit.Mosquitto(t, "max_queued_messages 0")
	report, err := simulator.Play(t.Context(), simulator.PlayConfig{
		Broker: simulator.Broker{URL: broker.Addr()},
		File:   recording(t, "birmingham-parking.csv"), Device: "SystemCodeNumber", Time: "LastUpdated",
		Connections: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Rows != 35717 || report.Acknowledged != 35717 || report.Devices != 30 || len(report.Rejected) != 0 ||
		report.Renamed["NIA North"] != "NIA-North" {
		t.Errorf("report is %+v", report)
	}
}

// The ships' times leave no doubt which number is the month.
func TestTheLayoutOfShipsIsFound(t *testing.T) {
	broker := newRecorder(t)
	config := suez(t, broker.addr)
	config.TimeLayout = ""
	report, err := simulator.Play(t.Context(), config)
	if err != nil || report.TimeLayout != "02/01/2006 15:04" || report.Acknowledged != 22287 {
		t.Errorf("%v; report is %+v", err, report)
	}
}
