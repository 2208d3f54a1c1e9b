package main_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/internal/testkit"
)

// wrong is a command line that cannot work, and what it has to say.
type wrong struct {
	name  string
	line  string // its words; no word has a space in it
	env   []string
	code  int      // 2: the command line is wrong, 1: it failed
	says  []string // the thing, the remedy
	never string   // a secret
	lines int      // sentences, if it is not one
}

// bounded is how long any of them may take.
const bounded = 20 * time.Second

func (w wrong) run(t *testing.T) {
	testkit.Binary(t) // building it is not the program's time
	began := time.Now()
	p := testkit.Run(t, w.env, strings.Fields(w.line)...)
	code, took := p.Wait(), time.Since(began)
	out := p.Output()
	if code != w.code || took > bounded {
		t.Errorf("it ended with %d after %v, want %d within %v:\n%s", code, took, w.code, bounded, out)
	}
	for _, want := range w.says {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	for _, word := range []string{"panic", "goroutine ", ".go:", "%!"} {
		if strings.Contains(out, word) {
			t.Errorf("it says %q:\n%s", word, out)
		}
	}
	if w.never != "" && strings.Contains(out, w.never) {
		t.Errorf("it gives %q away:\n%s", w.never, out)
	}
	if got := sentences(out); len(got) != max(1, w.lines) {
		t.Errorf("it says %d sentences, want %d:\n%s", len(got), max(1, w.lines), out)
	}
}

// sentences are the lines of a complaint: not the logs, and not the pointer to
// --help.
func sentences(out string) []string {
	var said []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "(millrace ") && !strings.HasPrefix(line, "millrace: ") {
			said = append(said, line)
		}
	}
	return append(said, complaints(out)...)
}

// complaints are of the parser, which knows no command yet.
func complaints(out string) []string {
	if line, more, _ := strings.Cut(out, "\n"); strings.HasPrefix(line, "millrace: ") && strings.HasPrefix(more, "(millrace ") {
		return []string{line}
	}
	return nil
}

func runAll(t *testing.T, cases []wrong) {
	t.Helper()
	for _, w := range cases {
		t.Run(w.name, w.run)
	}
}

func TestWrongCommandLines(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runAll(t, []wrong{
		{name: "unknown flag", line: "up --colour red", code: 2, says: []string{"--colour", "millrace up --help"}},
		{name: "unknown command", line: "fly", code: 2, says: []string{`"fly"`, "millrace --help"}},
		{name: "unknown command below a command", line: "dead raise 4", code: 2, says: []string{"raise", "millrace dead --help"}},
		{name: "no command", line: "", code: 2, says: []string{"up", "--help"}},
		{name: "not a number", line: "up --fleet many", code: 2, says: []string{"--fleet", "many"}},
		{name: "not a number in the environment", line: "up", env: []string{"MILLRACE_FLEET=many"}, code: 2, says: []string{"MILLRACE_FLEET", "many"}},
		{name: "not one of the words", line: "up --auth maybe", code: 2, says: []string{"--auth", "none", "devices", "maybe"}},
		{name: "not an address", line: "up --mqtt 1883", code: 2, says: []string{"--mqtt", "1883", "host:port"}},
		{name: "MQTT beyond loopback", line: "up --mqtt 0.0.0.0:1883", code: 2, says: []string{"--mqtt", "127.0.0.1", "--auth devices", "--allow-open"}},
		{name: "HTTP beyond loopback", line: "up --http :8080", code: 2, says: []string{"--http", "--auth devices", "--allow-open"}},
		{name: "embedded log beyond loopback", line: "up --kafka-listen 0.0.0.0:9092", code: 2, says: []string{"--kafka-listen", "127.0.0.1"}},
		{name: "embedded database beyond loopback", line: "up --postgres-listen 0.0.0.0:5433", code: 2, says: []string{"--postgres-listen", "127.0.0.1"}},
		{name: "topic pattern", line: "up --topic a/{where}", code: 2, says: []string{"--topic", "{where}", "{device}"}},
		{name: "a fleet that cannot log in", line: "up --fleet 1 --auth devices", code: 2, says: []string{"--fleet", "--auth"}},
		{name: "database URL", line: "sink --kafka k:1 --postgres postgres:secret@host", code: 2, says: []string{"--postgres", "postgres://user:password@host:port/name"}, never: "secret"},
		{name: "database URL in a file", line: "sink --kafka k:1 --postgres-file " + secret, code: 2, says: []string{"--postgres", "postgres://"}, never: "nothing"},
		{name: "no such file", line: "sink --kafka k:1 --postgres-file /nowhere/url", code: 2, says: []string{"--postgres-file", "/nowhere/url"}},
		{name: "a role without Kafka", line: "ingest", code: 2, says: []string{"--kafka", "MILLRACE_KAFKA"}},
		{name: "verify without anything", line: "verify --data /nowhere", code: 2, says: []string{"--postgres", "--data", "/nowhere"}},
		{name: "simulate without anything", line: "simulate", code: 2, says: []string{"--csv", "--fleet"}},
		{name: "a recording without its columns", line: "simulate --csv x.csv --time t", code: 2, says: []string{"--device", "x.csv"}},
		{name: "speed", line: "simulate --csv x.csv --device d --time t --speed fast", code: 2, says: []string{"--speed", "fast", "max"}},
		{name: "time zone", line: "simulate --csv x.csv --device d --time t --time-zone Mars/North", code: 2, says: []string{"--time-zone", "Mars/North"}},
		{name: "token's time", line: "token --ttl 0s", code: 2, says: []string{"--ttl", "720h"}},
		{name: "replay without a beginning", line: "replay", code: 2, says: []string{"--from"}},
		{name: "a time that looks like a flag", line: "replay --from -1h", code: 2, says: []string{`--from="-1h"`}},
		{name: "a bridge from nowhere", line: "bridge", code: 2, says: []string{"--from", "--topic"}},
		{name: "a bridge's address", line: "bridge --from http://u:secret@h --topic a --kafka k:1", code: 2, says: []string{"http", "mqtts"}, never: "secret"},
	})
}

// --check says all that is wrong at once, and opens nothing.
func TestCheck(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("postgres://u:secret@db:5432/m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"up", "up --fleet 3 --mqtt 127.0.0.1:1", "ingest --kafka k:9092", "ingest --kafka k:9092 --mqtt 0.0.0.0:1883 --allow-open",
		"ingest --kafka k:9092 --mqtt 0.0.0.0:1883 --auth devices --postgres-file " + password,
		"broadcast --kafka k:9092,l:9092", "sink --kafka k:9092 --postgres postgres://u:secret@db/m",
		"bridge --kafka k:9092 --from mqtt://h --topic a/+ --user u --password-file " + password,
	} {
		out, code := execute(t, append(strings.Fields(line), "--check")...)
		if code != 0 || out != "The configuration is good.\n" {
			t.Errorf("millrace %s --check: exit code %d: %s", line, code, out)
		}
	}
	runAll(t, []wrong{
		{
			name: "up", line: "up --check --mqtt x --http 0.0.0.0:1 --kafka-listen 1.1.1.1:1 --postgres-listen y --kafka-retain 1 --fleet 999999 --topic a/# --topic #/a",
			code: 2, lines: 7, says: []string{"--mqtt", "--http", "--kafka-listen", "--postgres-listen", "--kafka-retain", "--fleet", "--topic"},
		},
		{
			name: "ingest", line: "ingest --check --mqtt x --auth devices --kafka a --kafka-partitions 0", code: 2, lines: 4,
			says: []string{"--mqtt", "--postgres", "--kafka:", "--kafka-partitions"},
		},
		{
			name: "broadcast", line: "broadcast --check --http 0.0.0.0:1 --postgres u:secret@x", code: 2, lines: 3, never: "secret",
			says: []string{"--http", "--kafka", "--postgres"},
		},
		{name: "sink", line: "sink --check --http x", code: 2, lines: 3, says: []string{"--http", "--kafka", "--postgres"}},
		{
			name: "bridge", line: "bridge --check --from mqtt://h --topic a/#/b --http x", code: 2, lines: 3,
			says: []string{"a/#/b", "--http", "--kafka"},
		},
	})
}

// A flag counts before the environment, the environment before the default.
func TestEnvironment(t *testing.T) {
	check := func(env, line, want string) {
		t.Helper()
		p := testkit.Run(t, []string{env}, strings.Fields(line)...)
		code := p.Wait()
		if out := p.Output(); !strings.Contains(out, want) || (code == 0) != (want == "good") {
			t.Errorf("%s millrace %s: exit code %d, does not say %q:\n%s", env, line, code, want, out)
		}
	}
	check("MILLRACE_NOTHING=x", "up --check", "good")
	check("MILLRACE_MQTT=env", "up --check", `"env" is not host:port`)
	check("MILLRACE_MQTT=env", "up --check --mqtt flag", `"flag" is not host:port`)
	check("MILLRACE_MQTT=env", "up --check --mqtt 127.0.0.1:1", "good")
	check("MILLRACE_KAFKA=one:1,two", "broadcast --check", `"two" is not host:port`)
	check("MILLRACE_CHECK=true", "up", "good")
}

// The help of each command says what each of its flags means.
func TestHelp(t *testing.T) {
	lines := []string{
		"", "up", "ingest", "bridge", "broadcast", "sink", "simulate", "replay", "devices", "devices add", "devices list",
		"devices rotate", "devices disable", "devices enable", "token", "migrate", "verify", "dead", "dead list", "dead show",
		"dead retry", "status", "version",
	}
	for _, line := range lines {
		out, code := execute(t, append(strings.Fields(line), "--help")...)
		if code != 0 || !strings.Contains(out, "Usage: millrace "+line) {
			t.Errorf("millrace %s --help: exit code %d:\n%s", line, code, out)
		}
		for _, entry := range strings.Split(out, "\n  -")[1:] {
			entry, _, _ = strings.Cut(entry, "\n\n")
			flag, meaning, _ := strings.Cut("-"+strings.TrimLeft(entry, "-"), " ")
			if meaning, _, _ = strings.Cut(meaning, "($MILLRACE_"); len(strings.Fields(meaning)) < 2 {
				t.Errorf("millrace %s --help does not say what %s means:\n%s", line, flag, entry)
			}
		}
	}
}

// taken is an address at which somebody listens already.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestWrongSurroundings(t *testing.T) {
	busy, closed := taken(t), testkit.Loopback(testkit.FreePort(t))
	var cases []wrong
	for _, flag := range []string{"--mqtt", "--http", "--kafka-listen", "--postgres-listen"} {
		line := "up --data " + filepath.Join(reachable(t), "data")
		for _, other := range []string{"--mqtt", "--http", "--kafka-listen", "--postgres-listen"} {
			if other != flag {
				line += " " + other + " " + testkit.Loopback(testkit.FreePort(t))
			}
		}
		cases = append(cases, wrong{name: "port taken" + flag, line: line + " " + flag + " " + busy, code: 1, says: []string{flag, busy, "choose another"}})
	}
	here := " --http 127.0.0.1:0"
	runAll(t, append(cases, []wrong{
		{name: "unreachable Kafka", line: "ingest --mqtt 127.0.0.1:0 --kafka " + closed + here, code: 1, says: []string{"--kafka", closed, "is it running?"}},
		{name: "unreachable database", line: "migrate --postgres postgres://u:secret@" + closed + "/m", code: 1, says: []string{"--postgres", closed, "refused"}, never: "secret"},
		{name: "nothing runs", line: "status --http " + closed, code: 1, says: []string{closed, "is it running?", "--http"}},
		{name: "nothing to replay from", line: "replay --from=-1h --http " + closed, code: 1, says: []string{closed, "is it running?"}},
		{name: "no file", line: "simulate --csv /nowhere/x.csv --device d --time t", code: 1, says: []string{"/nowhere/x.csv", "no such file"}},
		{name: "a folder", line: "simulate --csv /tmp --device d --time t", code: 1, says: []string{"/tmp", "not a regular file"}},
		{name: "no broker for a fleet", line: "simulate --fleet 2 --mqtt " + closed, code: 1, says: []string{closed, "broker"}},
		{name: "no broker", line: "simulate --device d --time t --mqtt " + closed + " --csv " + file(t, "d,t,v\na,2026-01-01T00:00:00Z,1\n"), code: 1, says: []string{closed, "broker"}},
	}...))
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "recording.csv")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestWrongBesideUp is what goes wrong beside a running deployment.
func TestWrongBesideUp(t *testing.T) {
	d := newDeployment(t)
	empty := testkit.Postgres(t)
	data, here := " --data "+d.data, " --http 127.0.0.1:0"
	other := testkit.Loopback(testkit.FreePort(t))
	runAll(t, []wrong{
		{
			name: "the same folder", line: "up" + data + here + " --mqtt 127.0.0.1:0 --kafka-listen 127.0.0.1:0 --postgres-listen " + other, code: 1,
			says: []string{d.data, "stop it", "--data"},
		},
		{name: "no such dead letter", line: "dead show 999999" + data, code: 1, says: []string{"999999", "dead list"}},
		{name: "no such dead letter to retry", line: "dead retry 999999" + data, code: 1, says: []string{"999999", "dead list"}},
		{name: "device name", line: "devices add a/b" + data, code: 1, says: []string{`"a/b"`, "A-Za-z0-9"}},
		{name: "no such device", line: "devices disable nobody" + data, code: 1, says: []string{"nobody", "devices list"}},
		{name: "not migrated", line: "sink --kafka " + d.kafka + here + " --postgres " + empty, code: 1, says: []string{"millrace migrate"}},
		{name: "not migrated, for screens", line: "broadcast --kafka " + d.kafka + here + " --postgres " + empty, code: 1, says: []string{"millrace migrate"}},
		{name: "not migrated, for logins", line: "ingest --auth devices --mqtt 127.0.0.1:0 --kafka " + d.kafka + here + data + " --postgres " + empty, code: 1, says: []string{"millrace migrate"}},
		{name: "not migrated, asked", line: "dead list --postgres " + empty, code: 1, says: []string{"millrace migrate"}},
		{
			name: "wrong password", line: "sink --kafka " + d.kafka + here + " --postgres postgres://millrace:geheim@" + d.postgres + "/millrace", code: 1,
			says: []string{d.postgres, "password", "--postgres"}, never: "geheim",
		},
		{name: "no such column", line: "simulate --mqtt " + d.mqtt + " --device ship --time t --csv " + file(t, "d,t,v\na,2026-01-01T00:00:00Z,1\n"), code: 1, says: []string{`"ship"`, `"d", "t", "v"`}},
		{name: "an empty file", line: "simulate --mqtt " + d.mqtt + " --device d --time t --csv " + file(t, ""), code: 1, says: []string{"empty", "columns"}},
		{name: "no times", line: "simulate --mqtt " + d.mqtt + " --device d --time t --csv " + file(t, "d,t,v\na,soon,1\n"), code: 1, says: []string{`"t"`, "soon"}},
		{name: "a wrong beginning", line: "replay --from yesterday" + data, code: 1, says: []string{"yesterday", "RFC 3339", "-24h"}},
	})
	t.Run("a row that is broken", func(t *testing.T) {
		out, code := execute(t, "simulate", "--mqtt", d.mqtt, "--device", "d", "--time", "t", "--csv",
			file(t, "d,t,v\ngood,2026-01-01T00:00:00Z,1\nshort\ngood,2026-01-01T00:00:01Z,2\ngood,2026-01-01T00:00:02Z,\"3\n"))
		if code == 0 && !strings.Contains(out, "rejected") || strings.Contains(out, "panic") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		d.settle(2, "select count(*) from telemetry where device = 'good'") // what came before the break
	})
}

// TestMalformedMessages: what cannot be accepted is answered as clearly as the
// protocol can and kept, and what follows is accepted.
func TestMalformedMessages(t *testing.T) {
	d := newDeployment(t)
	t.Run("MQTT 3.1.1", func(t *testing.T) {
		c := d.mqtt3(t, login{})
		c.say(t, "telemetry/three", `{"speed":`) // acknowledged, for it is kept
		c.say(t, "telemetry/three", `{"speed":1}`)
		d.kept(t, "three", 1)
		if out := must(t, "dead", "list", "--data", d.data, "--device", "three"); !strings.Contains(out, "malformed") {
			t.Errorf("dead list:\n%s", out)
		}
	})
	t.Run("MQTT 5", func(t *testing.T) {
		c := d.mqtt5(t, login{})
		for payload, word := range map[string]string{
			`{"speed":`:                             "JSON",
			`{"time":"1999-12-31T00:00:00Z","v":1}`: "2000",
			`{"time":"2999-12-31T00:00:00Z","v":1}`: "ahead",
		} {
			if code, text := c.say(t, "telemetry/five", payload); code != 0x99 || !strings.Contains(text, word) {
				t.Errorf("%s: PUBACK %#x %q, want 0x99 with %q", payload, code, text, word)
			}
		}
		if code, text := c.say(t, "telemetry/not a name", `{"v":1}`); code < 0x80 || !strings.Contains(text, "A-Za-z0-9") {
			t.Errorf("a device name out of form: PUBACK %#x %q", code, text)
		}
		if code, text := c.say(t, "telemetry/five", `{"v":1}`); code != 0 {
			t.Errorf("the good message behind them: PUBACK %#x %q", code, text)
		}
		d.kept(t, "five", 3)
	})
	t.Run("HTTP", func(t *testing.T) { d.malformedHTTP(t) })
	must(t, "verify", "--data", d.data)
}

// kept waits until a device has its one reading and its dead letters.
func (d *deployment) kept(t *testing.T, device string, letters int) {
	t.Helper()
	d.settle(1, "select count(*) from telemetry where device = $1", device)
	d.settle(letters, "select count(*) from dead_letters where device = $1", device)
}

func (d *deployment) malformedHTTP(t *testing.T) {
	const path = "/v1/devices/web/telemetry"
	answer := d.post(t, path, "", `{"speed":`)
	if answer.Status != 422 || len(answer.Refused) != 1 || answer.Refused[0].Reason != "malformed" {
		t.Errorf("a broken body: %+v", answer)
	}
	answer = d.post(t, "/v1/devices/a%20b/telemetry", "", `{"v":1}`)
	if answer.Status != 422 || !strings.Contains(answer.Detail, "A-Za-z0-9") {
		t.Errorf("a device name out of form: %+v", answer)
	}
	answer = d.post(t, "/v1/telemetry", "",
		`[{"device":"web","v":1},{"device":"no good","v":1},{"device":"web","time":"1999-01-01T00:00:00Z","v":1},{"v":1}]`)
	var reasons []string
	for _, r := range answer.Refused {
		reasons = append(reasons, fmt.Sprint(r.Index, " ", r.Reason))
	}
	if got := strings.Join(reasons, ", "); answer.Accepted != 1 || got != "1 device, 2 time, 3 device" {
		t.Errorf("some good, some not: %d accepted, refused %s", answer.Accepted, got)
	}
	d.settle(1, "select count(*) from telemetry where device = 'web'")
	d.settle(4, "select count(*) from dead_letters where source = 'http'")
}
