package simulator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"millrace/devices/simulator"
	"millrace/internal/testkit"
)

func play(t *testing.T, broker, text string, change func(*simulator.PlayConfig)) (simulator.Report, error) {
	t.Helper()
	config := simulator.PlayConfig{
		Broker: simulator.Broker{URL: broker}, Reader: strings.NewReader(text), Device: "id", Time: "time",
	}
	if change != nil {
		change(&config)
	}
	return simulator.Play(t.Context(), config)
}

// What a recording says is what is published: names, times, kinds of values.
func TestPlaySaysWhatTheFileSays(t *testing.T) {
	broker := newRecorder(t)
	text := "\ufeffID,Time,Speed,Open,State,Extra\r\n" +
		"truck 1,2021-03-20 00:22:00,61.50,TRUE,moving,NaN\r\n" +
		"truck 1,2021-03-20 00:23:00,,false,\"a, \"\"b\"\"\",1e3\r\n"
	report, err := play(t, broker.addr, text, func(c *simulator.PlayConfig) {
		c.Rename = map[string]string{"SPEED": "v"}
	})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := broker.said("truck-1")
	want := []string{
		`{"device":"truck-1","time":"2021-03-20T00:22:00.000000Z","values":{"Open":true,"State":"moving","v":61.5}}`,
		`{"device":"truck-1","time":"2021-03-20T00:23:00.000000Z","values":{"Extra":1000,"Open":false,"State":"a, \"b\""}}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("published\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if report.Rows != 2 || report.Published != 2 || report.Acknowledged != 2 || report.NotFinite != 1 ||
		report.Renamed["truck 1"] != "truck-1" || report.TimeLayout != "2006-01-02 15:04:05" {
		t.Errorf("report is %+v", report)
	}
	if !strings.Contains(report.String(), `"truck 1" is truck-1`) {
		t.Errorf("the report does not tell of the name:\n%s", report.String())
	}
}

// Rows that cannot be played are counted, each with its line and reason; the
// others are played.
func TestPlayCountsBrokenRows(t *testing.T) {
	broker := newRecorder(t)
	text := strings.Join([]string{
		"id,time,x",
		"a,2021-01-01T00:00:00Z,1",
		"a,soon,2",
		"a,2021-01-01T00:00:01Z",
		"a,2021-01-01T00:00:02Z,",
		"//,2021-01-01T00:00:03Z,5",
		"a b,2021-01-01T00:00:04Z,6",
		"a-b,2021-01-01T00:00:05Z,7",
		"a,1999-01-01T00:00:06Z,8",
		`a,2021-01-01T00:00:07Z,9"9`,
		"a,2021-01-01T00:00:08Z,10",
	}, "\n")
	report, err := play(t, broker.addr, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rejection := range report.Rejected {
		for _, row := range rejection.First {
			got = append(got, fmt.Sprintf("%s %d", rejection.Reason, row.Line))
		}
	}
	want := []string{"columns 4", "csv 10", "device 6", "device 8", "empty 5", "time 3", "time 9"}
	if !slices.Equal(got, want) {
		t.Errorf("rejected are %q, want %q", got, want)
	}
	if report.Rows != 10 || report.Published != 3 || report.Acknowledged != 3 || report.RejectedRows() != 7 {
		t.Errorf("report is %+v", report)
	}
	if !slices.Equal(broker.devices(), []string{"a", "a-b"}) {
		t.Errorf("devices are %q", broker.devices())
	}
}

// A file that is no table is one header cell, or a thousand: the error stays
// one that a person can read.
func TestPlayListsNoEndlessHeader(t *testing.T) {
	broker := newRecorder(t)
	f := func(header, want string) {
		t.Helper()
		_, err := play(t, broker.addr, header+"\n", nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %.200v, want one with %q", err, want)
		}
		if n := len(fmt.Sprint(err)); n > 1500 {
			t.Errorf("error has %d bytes", n)
		}
	}
	f(strings.Repeat("x", 1<<20), `there are "`+strings.Repeat("x", 40)+`"…`)
	f(strings.Repeat("€", 1<<18), `there are "`+strings.Repeat("€", 13)+`"…`) // no half of one
	f("id,time,"+strings.Repeat("\x01", 1<<20)+","+strings.Repeat("\x01", 1<<20), "would both be metric")
	f(strings.Repeat("name,", 999)+"name", `"name" and 980 more`)
}

func TestPlayRefusesWhatItCannotRead(t *testing.T) {
	broker := newRecorder(t)
	f := func(text, want string, change func(*simulator.PlayConfig)) {
		t.Helper()
		_, err := play(t, broker.addr, text, change)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
	good := "id,time,x\na,2021-01-01T00:00:00Z,1\n"
	f("", "the file is empty", nil)
	f("\xff\xfeI\x00", "UTF-16", nil)
	f("\x1f\x8b\x08", "gzip", nil)
	f("name,time,x\n", `there is no column "id"; there are "name", "time", "x"`, nil)
	f("id,ID,Id,time,x\n", "holds no times", nil)
	f("Id,ID,time,x\n", `more than one column is named "id"`, nil)
	f("id,time\na,2021-01-01T00:00:00Z", "no column is left", nil)
	f("id,time,x\na,yesterday,1\n", `no known layout (such as ["yesterday"])`, nil)
	f("id,time,x\na,03/04/2021 10:00,1\n", "may be 02/01/2006 15:04 or 01/02/2006 15:04", nil)
	f("id,time,x\na,13/04/2021 10:00,1\na,04/13/2021 10:00,1\n", "may be", nil)
	f("id,time,x\na,2021-01-01T00:00:00Z,\""+strings.Repeat("x", 5<<20), "is a quote never closed?", nil)
	f(good, "say which is the time column", func(c *simulator.PlayConfig) { c.Time = "" })
	f(good, `there is no column "y"`, func(c *simulator.PlayConfig) { c.Metrics = []string{"y"} })
	f(good, `there is no column "z"`, func(c *simulator.PlayConfig) { c.Rename = map[string]string{"z": "y"} })
	f("id,time,x,y\n", `both be metric "y"`, func(c *simulator.PlayConfig) { c.Rename = map[string]string{"x": "y"} })
	f(good, `time layout "dd/mm/yyyy"`, func(c *simulator.PlayConfig) { c.TimeLayout = "dd/mm/yyyy" })
	f(good, "speed -1", func(c *simulator.PlayConfig) { c.Speed = -1 })
	f(good, "connections", func(c *simulator.PlayConfig) { c.Connections = -1 })
	f(good, "no such file", func(c *simulator.PlayConfig) { c.Reader, c.File = nil, "absent.csv" })
	f(good, "not a regular file", func(c *simulator.PlayConfig) { c.Reader, c.File = nil, "." })
	f(good, "give its address", func(c *simulator.PlayConfig) { c.Broker.URL = "" })
	f(good, "mqtt, mqtts, ws, wss", func(c *simulator.PlayConfig) { c.Broker.URL = "http://x" })
	f(good, "check that a broker listens there", func(c *simulator.PlayConfig) {
		c.Broker.URL = testkit.Loopback(testkit.FreePort(t))
	})
	f(good, "broken disk", func(c *simulator.PlayConfig) { c.Reader = iotest.ErrReader(errors.New("broken disk")) })
}

func TestPlayTellsOfARefusedLogin(t *testing.T) {
	broker := newRecorder(t)
	broker.refuse = 5
	_, err := play(t, broker.addr, "id,time,x\na,2021-01-01T00:00:00Z,1\n", nil)
	if err == nil || !strings.Contains(err.Error(), "check user and password") {
		t.Errorf("error is %v", err)
	}
}

// long is a recording of n rows of ten devices, and what each of them says.
func long(n int) (text string, values map[string][]string) {
	values = make(map[string][]string)
	var b strings.Builder
	b.WriteString("id,time,x\n")
	at := time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		device, now := fmt.Sprintf("d%d", i%10), at.Add(time.Duration(i)*time.Second)
		fmt.Fprintf(&b, "%s,%s,%d\n", device, now.Format(time.RFC3339), i)
		values[device] = append(values[device], fmt.Sprintf(`{"device":%q,"time":%q,"values":{"x":%d}}`,
			device, now.Format("2006-01-02T15:04:05.000000Z"), i))
	}
	return b.String(), values
}

// Connections are lost again and again, and the broker is away for a while:
// nothing is missing, and each device's order holds.
func TestPlayLosesNothing(t *testing.T) {
	t.Parallel()
	broker := newRecorder(t)
	text, want := long(30_000)
	go func() {
		for n := 2_000; n <= 20_000; n += 3_000 {
			<-broker.received(n)
			broker.drop()
		}
		<-broker.received(22_000)
		broker.kill()
		broker.start()
	}()
	report, err := play(t, broker.addr, text, func(c *simulator.PlayConfig) { c.Connections = 3 })
	if err != nil || report.Published != 30_000 || report.Acknowledged != 30_000 {
		t.Fatalf("%v; report is %+v", err, report)
	}
	total := 0
	for device, payloads := range want {
		all, once := broker.said(device)
		total += len(all)
		if !slices.Equal(once, payloads) {
			t.Errorf("%s: %d payloads, want %d in their order", device, len(once), len(payloads))
		}
	}
	t.Logf("%d messages for 30,000 rows", total)
}

// Played by its clock, a recording is in order of time, whatever the file's order.
func TestPlayByTheClock(t *testing.T) {
	broker := newRecorder(t)
	text := "id,time,x\n" +
		"a,2021-01-01T00:00:02Z,3\n" + "a,2021-01-01T00:00:00Z,1\n" + "a,2021-01-01T00:00:00Z,2\n"
	began := time.Now()
	var last simulator.Progress
	report, err := play(t, broker.addr, text, func(c *simulator.PlayConfig) {
		c.Speed = 10
		c.Progress = func(p simulator.Progress) { last = p }
	})
	if err != nil || report.Acknowledged != 3 {
		t.Fatalf("%v; report is %+v", err, report)
	}
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("two seconds at speed 10 took %s", took)
	}
	if last.Fraction != 1 || last.Acknowledged != 3 {
		t.Errorf("last progress is %+v", last)
	}
	got, _ := broker.said("a")
	order := ""
	for _, payload := range got {
		order += payload[len(payload)-3 : len(payload)-2]
	}
	if order != "123" {
		t.Errorf("order is %s", order)
	}
}

// A cancelled play waits for what is under way, and its report says how far it got.
func TestPlayStops(t *testing.T) {
	broker := newRecorder(t)
	text, _ := long(10_000)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-broker.received(10)
		cancel()
	}()
	report, err := simulator.Play(ctx, simulator.PlayConfig{
		Broker: simulator.Broker{URL: broker.addr}, Reader: strings.NewReader(text), Device: "id", Time: "time",
		Speed: 10, // days of it
	})
	if err != nil || !report.Stopped || report.Acknowledged == 0 || report.Acknowledged != report.Published {
		t.Errorf("%v; report is %+v", err, report)
	}
}

// A broker that acknowledges nothing: a cancelled play ends, with an error.
func TestPlayStopsWithoutAcknowledgements(t *testing.T) {
	t.Parallel()
	broker := newRecorder(t)
	broker.setDeaf(true)
	text, _ := long(10_000)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-broker.received(1)
		cancel()
	}()
	report, err := simulator.Play(ctx, simulator.PlayConfig{
		Broker: simulator.Broker{URL: broker.addr}, Reader: strings.NewReader(text), Device: "id", Time: "time",
	})
	if err == nil || !strings.Contains(err.Error(), "under way") || report.Acknowledged != 0 {
		t.Errorf("%v; report is %+v", err, report)
	}
}

func TestPlayGivesUpOnALostBroker(t *testing.T) {
	t.Parallel()
	broker := newRecorder(t)
	text, _ := long(10_000)
	go func() {
		<-broker.received(100)
		broker.kill()
	}()
	report, err := play(t, broker.addr, text, func(c *simulator.PlayConfig) { c.Broker.Patience = time.Millisecond })
	if err == nil || !strings.Contains(err.Error(), "connection refused") || report.Acknowledged == 10_000 {
		t.Errorf("%v; report is %+v", err, report)
	}
}

func TestParseSpeed(t *testing.T) {
	f := func(text string, want float64, good bool) {
		t.Helper()
		got, err := simulator.ParseSpeed(text)
		if got != want || (err == nil) != good {
			t.Errorf("%q is %g, %v", text, got, err)
		}
	}
	f("max", 0, true)
	f("600", 600, true)
	f("0.5", 0.5, true)
	f("0", 0, false)
	f("-1", 0, false)
	f("NaN", 0, false)
	f("fast", 0, false)
}
