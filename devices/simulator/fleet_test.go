package simulator_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/devices/simulator"
	"millrace/internal/testkit"
	"millrace/telemetry"
)

func runFleet(t *testing.T, f *simulator.Fleet, until func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- f.Run(ctx) }()
	until()
	cancel()
	if err := <-over; err != nil {
		t.Fatal(err)
	}
}

// Each device speaks, on its own connection with its own login, and no time
// comes twice; what was published is acknowledged when Run returns.
func TestFleetOfOwnConnections(t *testing.T) {
	broker := newRecorder(t)
	f, err := simulator.NewFleet(simulator.FleetConfig{
		Broker: simulator.Broker{URL: broker.addr}, Devices: 12, Interval: 20 * time.Millisecond, Connections: 12,
		Name: "test", Login: func(device string) (string, string) { return device + "-user", "secret" },
	})
	if err != nil {
		t.Fatal(err)
	}
	runFleet(t, f, func() { <-broker.received(120) })
	if c := f.Counts(); c.Published < 120 || c.Published != c.Acknowledged || c.Skipped != 0 {
		t.Errorf("counts are %+v", c)
	}
	devices := broker.devices()
	if len(devices) != 12 || !slices.Contains(devices, "test-truck-1") || !slices.Contains(devices, "test-station-1") {
		t.Fatalf("devices are %q", devices)
	}
	for _, device := range devices {
		if user := broker.clients[device]; user != device+"-user" {
			t.Errorf("%s logged in as %q", device, user)
		}
		checkSaid(t, broker, device)
	}
}

func checkSaid(t *testing.T, broker *recorder, device string) {
	t.Helper()
	all, _ := broker.said(device)
	last := time.Time{}
	for _, payload := range all {
		var r telemetry.Reading
		if err := telemetry.ParseReading([]byte(payload), &r); err != nil {
			t.Fatal(err)
		}
		if err := r.Check(time.Now()); err != nil {
			t.Error(err)
		}
		if !r.Time.After(last) {
			t.Errorf("%s: %s comes after %s", device, r.Time, last)
		}
		if _, _, ok := r.Place(); !ok {
			t.Errorf("%s has no place: %s", device, payload)
		}
		if string(r.AppendJSON(nil)) != payload {
			t.Errorf("%s is not canonical", payload)
		}
		last = r.Time
	}
}

// A fleet outlives its broker, also one that is not there yet.
func TestFleetWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	broker := newRecorder(t)
	broker.kill()
	f, err := simulator.NewFleet(simulator.FleetConfig{
		Broker: simulator.Broker{URL: broker.addr}, Devices: 100, Interval: 100 * time.Millisecond, Seed: 7,
	})
	if err != nil {
		t.Fatal(err)
	}
	runFleet(t, f, func() {
		broker.start()
		<-broker.received(500)
		broker.drop()
		<-broker.received(1000)
	})
	if c := f.Counts(); c.Published != c.Acknowledged {
		t.Errorf("counts are %+v", c)
	}
}

// A broker that acknowledges nothing: devices fall silent, and that is counted.
func TestFleetDoesNotPileUp(t *testing.T) {
	t.Parallel()
	broker := newRecorder(t)
	broker.setDeaf(true)
	skipped := make(chan struct{}, 1<<20)
	f, err := simulator.NewFleet(simulator.FleetConfig{
		Broker: simulator.Broker{URL: broker.addr}, Devices: 100, Interval: time.Millisecond, Connections: 1,
		Events: simulator.Events{Skipped: func(int) { skipped <- struct{}{} }},
	})
	if err != nil {
		t.Fatal(err)
	}
	runFleet(t, f, func() {
		<-skipped
		broker.setDeaf(false)
		broker.drop()
	})
	if c := f.Counts(); c.Skipped == 0 {
		t.Errorf("counts are %+v", c)
	}
}

func TestFleetConfigIsChecked(t *testing.T) {
	f := func(config simulator.FleetConfig, want string) {
		t.Helper()
		_, err := simulator.NewFleet(config)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
	here := simulator.Broker{URL: "127.0.0.1:1883"}
	f(simulator.FleetConfig{}, "give its address")
	f(simulator.FleetConfig{Broker: here}, "a fleet of 0 devices")
	f(simulator.FleetConfig{Broker: here, Devices: 5, Name: "a b"}, "device name")
	f(simulator.FleetConfig{
		Broker: here, Devices: 5, Connections: 2,
		Login: func(string) (string, string) { return "", "" },
	}, "a connection each")
	f(simulator.FleetConfig{Broker: simulator.Broker{URL: "mqtt://u:secret@:port"}, Devices: 1}, "mqtt://…@:port")
}

// BenchmarkPlay: messages a second that mosquitto acknowledges.
func BenchmarkPlay(b *testing.B) {
	broker := testkit.Mosquitto(b, "persistence false")
	var text strings.Builder
	text.WriteString("id,time,lat,lon\n")
	for i := range b.N {
		fmt.Fprintf(&text, "d%d,%d,52.1%d,4.3\n", i%100, 1616199720000+i, i%1000)
	}
	b.ResetTimer()
	report, err := simulator.Play(b.Context(), simulator.PlayConfig{
		Broker: simulator.Broker{URL: broker.Addr()}, Reader: strings.NewReader(text.String()),
		Device: "id", Time: "time", TimeLayout: "unix-ms",
	})
	if err != nil || report.Acknowledged != int64(b.N) {
		b.Fatalf("%v; report is %+v", err, report)
	}
	b.ReportMetric(report.Rate(), "messages/s")
}
