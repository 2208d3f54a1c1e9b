package main_test

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/internal/testkit"
	"millrace/telemetry"
)

// recording is one of the shared data files and what is true of it.
type recording struct {
	path    string
	play    []string
	device  string
	time    string
	layout  string
	metrics map[string]string // column → metric
}

func ships(t *testing.T) recording {
	path := shared(t, "suez-ais.csv")
	return recording{
		path,
		[]string{
			"--csv", path, "--device", "ID", "--time", "ais_pos_timestamp",
			"--time-layout", "02/01/2006 15:04", "--rename", "longitude=lon", "--rename", "latitude=lat", "--speed", "max",
		},
		"ID", "ais_pos_timestamp", "02/01/2006 15:04",
		map[string]string{"longitude": "lon", "latitude": "lat"},
	}
}

func parking(t *testing.T) recording {
	path := shared(t, "birmingham-parking.csv")
	return recording{
		path,
		[]string{
			"--csv", path, "--device", "SystemCodeNumber", "--time", "LastUpdated",
			"--metrics", "Occupancy,Capacity", "--speed", "max",
		},
		"SystemCodeNumber", "LastUpdated", "2006-01-02 15:04:05",
		map[string]string{"Occupancy": "Occupancy", "Capacity": "Capacity"},
	}
}

// shared is a real recording. The files may not be copied into the project, so
// a checkout without them beside it can only say so.
func shared(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(testkit.Root(t), "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		t.Skip("shared/data absent")
	}
	return path
}

// readings of the file in its order, in their canonical form by the file's own
// words: this is what every screen must show.
func (r recording) readings(t *testing.T) []telemetry.Reading {
	t.Helper()
	content, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(content), "\ufeff"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	var list []telemetry.Reading
	for _, row := range rows[1:] {
		at, err := time.Parse(r.layout, row[column[r.time]])
		if err != nil {
			t.Fatal(err)
		}
		reading := telemetry.Reading{Device: strings.ReplaceAll(row[column[r.device]], " ", "-"), Time: at}
		for name, metric := range r.metrics {
			number, err := strconv.ParseFloat(row[column[name]], 64)
			if err != nil {
				t.Fatal(err)
			}
			reading.Metrics = append(reading.Metrics, telemetry.Metric{Name: metric, Value: telemetry.Number(number)})
		}
		if err := reading.Check(time.Now()); err != nil {
			t.Fatal(err)
		}
		list = append(list, reading)
	}
	return list
}

// byDevice is each device's readings in order, in the canonical form.
func byDevice(readings []telemetry.Reading) map[string][]string {
	list := map[string][]string{}
	for i := range readings {
		r := &readings[i]
		list[r.Device] = append(list[r.Device], string(r.AppendJSON(nil)))
	}
	return list
}

func sameByDevice(t *testing.T, who string, got, want map[string][]string) {
	t.Helper()
	for device, lines := range want {
		if len(got[device]) != len(lines) {
			t.Errorf("%s: device %s: %d readings arrived, want %d", who, device, len(got[device]), len(lines))
			continue
		}
		for i := range lines {
			if got[device][i] != lines[i] {
				t.Errorf("%s: device %s: reading %d is\n%s, want\n%s", who, device, i, got[device][i], lines[i])
				break
			}
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d devices, want %d", who, len(got), len(want))
	}
}

// play plays the recording into the deployment and answers the report.
func (d *deployment) play(r recording) string {
	d.t.Helper()
	return must(d.t, append([]string{"simulate", "--mqtt", d.mqtt}, r.play...)...)
}

const (
	shipRows     = 22287
	shipMoments  = 21832 // distinct (ship, time)
	shipConflict = 244   // times that a ship was elsewhere in the same minute
	parkRows     = 35717
	parkMoments  = 35501 // distinct (car park, time)
)

// TestRecordings is the main job on real input, as a newcomer would do it.
func TestRecordings(t *testing.T) {
	shipFile, parkFile := ships(t), parking(t)
	said := append(shipFile.readings(t), parkFile.readings(t)...)
	d := newDeployment(t)
	sse := d.followSSE(len(said))
	socket := d.followWebSocket(len(said))

	report := d.play(shipFile)
	for _, want := range []string{fmt.Sprint(shipRows), "acknowledged"} {
		if !strings.Contains(strings.ReplaceAll(report, ",", ""), want) {
			t.Errorf("the report does not say %s", want)
		}
	}
	if report = d.play(parkFile); !strings.Contains(report, "NIA-North") {
		t.Errorf("the report does not say that NIA North became NIA-North:\n%s", report)
	}

	sameByDevice(t, "curl -N /v1/stream", sse.wait(t), byDevice(said))
	sameByDevice(t, "WebSocket", socket.wait(t), byDevice(said))
	d.checkCounts(shipConflict)
	d.checkLatest(shipFile)
	d.checkReadings(shipFile)
	must(t, "verify", "--data", d.data)

	d.play(parkFile) // again: no row
	d.settle(0, "select coalesce(sum(records - stored - duplicates - dead), 0) from log_offsets")
	must(t, "verify", "--data", d.data)
	d.checkCounts(shipConflict)

	if took := d.Interrupt(); took > 10*time.Second {
		t.Errorf("Ctrl-C took %v, want at most ten seconds", took)
	}
	d.up()
	d.checkCounts(shipConflict)
}

func (d *deployment) checkCounts(conflicts int) {
	d.t.Helper()
	d.settle(shipMoments, "select count(*) from telemetry where metric = 'lat'")
	d.settle(shipMoments, "select count(*) from telemetry where metric = 'lon'")
	d.settle(parkMoments, "select count(*) from telemetry where metric = 'Occupancy'")
	d.settle(conflicts, "select count(*) from dead_letters where reason = 'conflict'")
}

// checkLatest: each ship stands where the file leaves it. Where the file has a
// ship at two places in its last minute, the first said stays.
func (d *deployment) checkLatest(r recording) {
	d.t.Helper()
	want := map[string]telemetry.Reading{}
	for _, reading := range r.readings(d.t) {
		if last, ok := want[reading.Device]; !ok || reading.Time.After(last.Time) {
			want[reading.Device] = reading
		}
	}
	var latest struct {
		Readings []struct {
			Device string
			Time   time.Time
			Values map[string]float64
		}
	}
	d.get("/v1/latest?metric=lat&metric=lon", &latest)
	if len(latest.Readings) != len(want) {
		d.t.Errorf("/v1/latest shows %d ships, want %d", len(latest.Readings), len(want))
	}
	for _, ship := range latest.Readings {
		reading := want[ship.Device]
		lat, lon, _ := reading.Place()
		if !ship.Time.Equal(reading.Time) || ship.Values["lat"] != lat || ship.Values["lon"] != lon {
			d.t.Errorf("/v1/latest shows %+v, want %+v", ship, reading)
		}
	}
}

// checkReadings: /v1/readings and the SQL view agree with the file.
func (d *deployment) checkReadings(r recording) {
	d.t.Helper()
	from, to := time.Date(2021, 3, 20, 0, 0, 0, 0, time.UTC), time.Date(2021, 3, 22, 0, 0, 0, 0, time.UTC)
	want := map[time.Time]telemetry.Reading{}
	for _, reading := range r.readings(d.t) {
		_, known := want[reading.Time]
		if reading.Device == "1" && !known && !reading.Time.Before(from) && reading.Time.Before(to) {
			want[reading.Time] = reading
		}
	}
	var got []struct {
		Device string
		Time   time.Time
		Values map[string]float64
	}
	d.get(fmt.Sprintf("/v1/readings?device=1&from=%s&to=%s&limit=10000", from.Format(time.RFC3339), to.Format(time.RFC3339)), &got)
	if len(got) != len(want) || len(want) == 0 {
		d.t.Fatalf("/v1/readings answers %d readings of ship 1, want %d", len(got), len(want))
	}
	for _, reading := range got {
		lat, lon, _ := new(want[reading.Time]).Place()
		if reading.Values["lat"] != lat || reading.Values["lon"] != lon {
			d.t.Errorf("/v1/readings has %+v, want lat %v lon %v", reading, lat, lon)
		}
	}
	rows := d.count("select count(*) from telemetry where device = '1' and metric = 'lat' and time >= $1 and time < $2", from, to)
	if rows != len(want) {
		d.t.Errorf("the view has %d rows of ship 1, want %d", rows, len(want))
	}
}

// TestKillInTheMiddle: kill -9 of everything in the middle of a play, both
// started again: the same counts.
func TestKillInTheMiddle(t *testing.T) {
	file := ships(t)
	d := newDeployment(t)
	player := testkit.Run(t, nil, append([]string{"simulate", "--mqtt", d.mqtt}, file.play...)...)
	testkit.Wait(t, "some rows", func() bool { return d.count("select count(*) from telemetry") > 4000 })
	player.Kill()
	d.Kill()
	d.up()
	d.play(file)
	d.settle(shipMoments, "select count(*) from telemetry where metric = 'lat'")
	d.settle(242, "select count(distinct payload) from dead_letters where reason = 'conflict'")
	must(t, "verify", "--data", d.data)
}
