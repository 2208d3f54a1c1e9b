package main_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestDeadLetters: what was refused is listed, shown byte for byte, and can be
// sent again.
func TestDeadLetters(t *testing.T) {
	d := newDeployment(t)
	c := d.mqtt3(t, login{})
	c.say(t, "telemetry/plant/7/state", `{"time":"2026-01-01T00:00:00Z","v":1}`)
	c.say(t, "telemetry/broken", "\xff\x00{not json")
	c.say(t, "telemetry/not a name", `{"time":"2026-01-01T00:00:00Z","v":2}`)
	d.post(t, "/v1/telemetry?form=line&precision=s", "", "late,device=web v=3 9999999999")
	d.post(t, "/v1/telemetry", "", `{"time":"2026-01-01T00:00:00Z","v":4}`)
	c.say(t, "telemetry/twice", `{"time":"2026-01-01T00:00:00Z","v":5,"w":5}`)
	c.say(t, "telemetry/twice", `{"time":"2026-01-01T00:00:00Z","v":6,"w":5}`)
	const letters = 6
	d.settle(letters, "select count(*) from dead_letters")

	t.Run("list", func(t *testing.T) { d.deadList(t) })
	t.Run("show", func(t *testing.T) { d.deadShow(t) })
	t.Run("what stays", func(t *testing.T) {
		d.staysDead(t, d.letter("topic = 'telemetry/broken'"), "not JSON")
		d.staysDead(t, d.letter("topic = 'telemetry/plant/7/state'"), "topic")
		d.staysDead(t, d.letter("topic = 'telemetry/not a name'"), "A-Za-z0-9")
		d.staysDead(t, d.letter("topic = 'telemetry/plant/7/state'"), "--form", "--form", "riddle", "--device", "x")
		d.staysDead(t, d.letter("topic like '%form=line%'"), "ahead")
		d.staysDead(t, d.letter("reason = 'conflict'"), "the first stays")
	})
	t.Run("what lives", func(t *testing.T) { d.revives(t) })
	must(t, "verify", "--data", d.data)
	t.Run("a conflict decided by hand", func(t *testing.T) { d.decides(t) })
	if n := d.count("select count(*) from dead_letters"); n != letters {
		t.Errorf("there are %d dead letters now, want %d as before", n, letters)
	}
}

// letter is the number of the one dead letter of which a condition is true.
func (d *deployment) letter(where string) string {
	d.t.Helper()
	if n := d.count("select count(*) from dead_letters where " + where); n != 1 {
		d.t.Fatalf("%d dead letters where %s", n, where)
	}
	return strconv.Itoa(d.count("select id from dead_letters where " + where))
}

func (d *deployment) deadList(t *testing.T) {
	out := must(t, "dead", "list", "--data", d.data)
	for _, want := range []string{"malformed 1", "device 2", "time 1", "topic 1", "conflict 1", "6 of 6", "twice", "RECEIVED"} {
		if !strings.Contains(out, want) {
			t.Errorf("dead list does not say %q:\n%s", want, out)
		}
	}
	named := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(named, []byte(d.url()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out = must(t, "dead", "list", "--postgres-file", named, "--reason", "conflict", "--limit", "3", "--since", "1h", "--unretried")
	if lines := strings.Split(out, "\n"); len(lines) != 4 || !strings.Contains(lines[1], "twice") {
		t.Errorf("dead list --reason conflict:\n%s", out)
	}
}

func (d *deployment) deadShow(t *testing.T) {
	id := d.letter("topic = 'telemetry/broken'")
	out := must(t, "dead", "show", id, "--data", d.data)
	for _, want := range []string{"malformed", "telemetry/broken", "mqtt", "millrace.dead", "11 bytes", `"\xff\x00{not json"`, "never"} {
		if !strings.Contains(out, want) {
			t.Errorf("dead show does not say %q:\n%s", want, out)
		}
	}
	if out := must(t, "dead", "show", id, "--raw", "--data", d.data); out != "\xff\x00{not json" {
		t.Errorf("dead show --raw: %q", out)
	}
}

// staysDead: sent again, it is refused again, and the sentence says why.
func (d *deployment) staysDead(t *testing.T, id, says string, flags ...string) {
	t.Helper()
	out, code := execute(t, append([]string{"dead", "retry", id, "--data", d.data}, flags...)...)
	if code == 0 || !strings.Contains(out, says) || len(sentences(out)) != 1 {
		t.Errorf("dead retry %s: exit code %d, does not say %q:\n%s", id, code, says, out)
	}
	if n := d.count("select count(*) from dead_letters where id = $1 and retried is null", id); n != 1 {
		t.Errorf("dead letter %s is said to have been sent again", id)
	}
}

// livesAgain: sent again, its value is stored.
func (d *deployment) livesAgain(t *testing.T, id, device string, value int, flags ...string) {
	t.Helper()
	must(t, append([]string{"dead", "retry", id, "--data", d.data}, flags...)...)
	d.settle(1, "select count(*) from telemetry where device = $1 and metric = 'v' and value = $2", device, value)
	if n := d.count("select count(*) from dead_letters where id = $1 and retried is not null", id); n != 1 {
		t.Errorf("dead letter %s is not marked as sent again", id)
	}
}

func (d *deployment) revives(t *testing.T) {
	d.livesAgain(t, d.letter("topic = 'telemetry/plant/7/state'"), "7", 1, "--topic", "telemetry/plant/{device}/state")
	d.livesAgain(t, d.letter("topic = 'telemetry/not a name'"), "a-name", 2, "--device", "a-name")
	d.livesAgain(t, d.letter("topic = '/v1/telemetry'"), "posted", 4, "--device", "posted")
}

// decides: once the value said first is gone, the other can take its place;
// verify says that the database is not what the log says.
func (d *deployment) decides(t *testing.T) {
	statement(t, d.url(), `delete from samples where series_id = (select id from series where metric = 'v' and device = 'twice')`)
	d.livesAgain(t, d.letter("reason = 'conflict'"), "twice", 6)
	if out, code := execute(t, "verify", "--data", d.data); code != 1 || !strings.Contains(out, "v at 2026-01-01T00:00:00.000000Z is 5 in the log and 6 in the database") {
		t.Errorf("verify: exit code %d:\n%s", code, out)
	}
}
