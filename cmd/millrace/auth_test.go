package main_test

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"millrace/internal/testkit"
)

// CONNACK codes.
const (
	refused3 = 4    // MQTT 3.1.1: bad user name or password
	refused5 = 0x86 // MQTT 5: the same
	denied5  = 0x87 // MQTT 5: not authorized
)

var (
	deviceToken = regexp.MustCompile(`(?m)^mrd_\S{43}$`)
	screenToken = regexp.MustCompile(`(?m)^mrr_\S+$`)
)

// admin runs a command about devices beside the deployment.
func (d *deployment) admin(t *testing.T, verb string, device ...string) string {
	t.Helper()
	return must(t, append([]string{"devices", verb, "--data", d.data}, device...)...)
}

// token adds or rotates the device and answers its token.
func (d *deployment) token(t *testing.T, verb, device string) string {
	t.Helper()
	token := deviceToken.FindString(d.admin(t, verb, device))
	if token == "" {
		t.Fatalf("devices %s %s shows no token", verb, device)
	}
	return token
}

// TestAuth: with --auth devices nobody publishes without a device's token, for
// no device but itself, and nobody reads without a screen's.
func TestAuth(t *testing.T) {
	d := newDeployment(t, "--auth", "devices")
	one, two := d.token(t, "add", "truck-1"), d.token(t, "add", "truck-2")
	testkit.Wait(t, "the doors to know truck-2", func() bool {
		return d.post(t, "/v1/devices/truck-2/telemetry", two, `{"v":1}`).Status == 0
	})
	t.Run("logins", func(t *testing.T) { d.logins(t, one) })
	t.Run("for another device", func(t *testing.T) { d.forAnother(t, one) })
	t.Run("rotate", func(t *testing.T) { d.rotate(t, two) })
	t.Run("disable", func(t *testing.T) { d.disable(t, one) })
	t.Run("screens", func(t *testing.T) { d.screens(t) })
	t.Run("a tool for devices", func(t *testing.T) {
		if out, code := execute(t, "devices", "add", "truck-1", "--data", d.data); code != 1 || !strings.Contains(out, "devices rotate truck-1") {
			t.Errorf("adding a device again: exit code %d: %s", code, out)
		}
	})
}

func (d *deployment) logins(t *testing.T, token string) {
	for name, who := range map[string]login{
		"nothing": {}, "no token": {user: "truck-1"}, "another's name": {"truck-2", token}, "a wrong token": {"truck-1", token[:46] + "x"},
	} {
		if c := d.mqtt3(t, who); c.code != refused3 && c.code != 5 {
			t.Errorf("MQTT 3.1.1, %s: CONNACK %d", name, c.code)
		}
		if c := d.mqtt5(t, who); c.code != refused5 {
			t.Errorf("MQTT 5, %s: CONNACK %#x", name, c.code)
		}
	}
	for _, wrong := range []string{"", "garbage", token[:46] + "x"} {
		if answer := d.post(t, "/v1/telemetry", wrong, `{"v":1}`); answer.Status != http.StatusUnauthorized || answer.Detail == "" {
			t.Errorf("HTTP, token %q: %+v", wrong, answer)
		}
	}
	three, five := d.mqtt3(t, login{"truck-1", token}), d.mqtt5(t, login{"truck-1", token})
	three.say(t, "telemetry/truck-1", `{"time":"2026-01-01T00:00:01Z","v":1}`)
	three.say(t, "v1/devices/me/telemetry", `{"time":"2026-01-01T00:00:02Z","v":2}`)
	if code, text := five.say(t, "telemetry/truck-1", `{"time":"2026-01-01T00:00:03Z","v":3}`); code != 0 {
		t.Errorf("MQTT 5: PUBACK %#x %s", code, text)
	}
	if answer := d.post(t, "/v1/telemetry", token, `{"time":"2026-01-01T00:00:04Z","v":4}`); answer.Accepted != 1 {
		t.Errorf("HTTP, the device from the login: %+v", answer)
	}
	d.settle(4, "select count(*) from telemetry where device = 'truck-1' and value = extract(second from time)")
}

func (d *deployment) forAnother(t *testing.T, token string) {
	d.mqtt3(t, login{"truck-1", token}).say(t, "telemetry/truck-2", `{"v":3}`) // acknowledged, for it is kept
	if code, text := d.mqtt5(t, login{"truck-1", token}).say(t, "telemetry/truck-2", `{"v":5}`); code != denied5 || !strings.Contains(text, "truck-2") {
		t.Errorf("MQTT 5: PUBACK %#x %s, want 0x87", code, text)
	}
	if answer := d.post(t, "/v1/devices/truck-2/telemetry", token, `{"v":7}`); answer.Status != http.StatusForbidden {
		t.Errorf("HTTP, by path: %+v", answer)
	}
	answer := d.post(t, "/v1/telemetry", token, `{"device":"truck-2","v":8}`)
	if answer.Status != http.StatusForbidden || len(answer.Refused) != 1 || answer.Refused[0].Reason != "denied" {
		t.Errorf("HTTP, by payload: %+v", answer)
	}
	d.settle(3, "select count(*) from dead_letters where reason = 'denied'")
	if n := d.count("select count(*) from telemetry where device = 'truck-2' and value > 1"); n != 0 {
		t.Errorf("%d values of truck-2 come from truck-1", n)
	}
}

func (d *deployment) rotate(t *testing.T, old string) {
	open := d.mqtt3(t, login{"truck-2", old})
	token := d.token(t, "rotate", "truck-2")
	open.closes(t)
	if c := d.mqtt5(t, login{"truck-2", old}); c.code != refused5 {
		t.Errorf("the old token: CONNACK %#x", c.code)
	}
	if c := d.mqtt5(t, login{"truck-2", token}); c.code != 0 {
		t.Errorf("the new token: CONNACK %#x", c.code)
	}
}

func (d *deployment) disable(t *testing.T, token string) {
	open := d.mqtt3(t, login{"truck-1", token})
	d.admin(t, "disable", "truck-1")
	open.closes(t)
	if c := d.mqtt5(t, login{"truck-1", token}); c.code != refused5 && c.code != denied5 {
		t.Errorf("a disabled device: CONNACK %#x", c.code)
	}
	if answer := d.post(t, "/v1/telemetry", token, `{"v":1}`); answer.Status != http.StatusUnauthorized && answer.Status != http.StatusForbidden {
		t.Errorf("a disabled device: %+v", answer)
	}
	if list := d.admin(t, "list"); !regexp.MustCompile(`truck-1 +disabled`).MatchString(list) || !regexp.MustCompile(`truck-2 +token`).MatchString(list) {
		t.Errorf("devices list:\n%s", list)
	}
	d.admin(t, "enable", "truck-1")
	testkit.Wait(t, "the enabled device to be let in", func() bool { return d.mqtt5(t, login{"truck-1", token}).code == 0 })
}

// closes waits for the server to end the connection, which it promises to do
// within two seconds of the command; a busy machine gets some more.
func (c *client3) closes(t *testing.T) {
	t.Helper()
	began := time.Now()
	select {
	case <-c.lost:
		t.Logf("closed after %v", time.Since(began))
	case <-time.After(5 * time.Second):
		t.Error("the connection is open five seconds later")
	}
}

func (d *deployment) screens(t *testing.T) {
	token := screenToken.FindString(must(t, "token", "--data", d.data, "--for", "wall"))
	brief := screenToken.FindString(must(t, "token", "--data", d.data, "--ttl", "1s"))
	paths := []string{"/v1/latest", "/v1/readings?device=truck-1&from=-1h", "/v1/stream?to=2026-02-01T00:00:00Z&from=2026-01-01T00:00:00Z", "/v1/status", "/v1/devices"}
	for _, path := range paths {
		for _, wrong := range []string{"", "garbage", token[:len(token)-1] + "!"} {
			if status := d.status(t, path, wrong); status != http.StatusUnauthorized {
				t.Errorf("GET %s with the token %q: %d, want 401", path, wrong, status)
			}
		}
		with := "?"
		if strings.Contains(path, "?") {
			with = "&"
		}
		if status := d.status(t, path, token); status != http.StatusOK {
			t.Errorf("GET %s as Bearer: %d", path, status)
		}
		if status := d.status(t, path+with+"token="+token, ""); status != http.StatusOK {
			t.Errorf("GET %s with ?token=: %d", path, status)
		}
	}
	d.sockets(t, token)
	for _, path := range []string{"/", "/healthz", "/v1"} { // nothing secret is there
		if status := d.status(t, path, ""); status != http.StatusOK {
			t.Errorf("GET %s: %d", path, status)
		}
	}
	testkit.Wait(t, "a token to expire", func() bool { return d.status(t, "/v1/latest", brief) == http.StatusUnauthorized })
}

func (d *deployment) sockets(t *testing.T, token string) {
	if _, response, err := websocket.Dial(t.Context(), "ws://"+d.http+"/v1/ws", nil); err == nil || response.StatusCode != http.StatusUnauthorized {
		t.Errorf("a WebSocket without a token: %v", err)
	}
	socket, _, err := websocket.Dial(t.Context(), "ws://"+d.http+"/v1/ws?token="+token, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = socket.CloseNow()
}

// status of a GET; what is a stream is not read.
func (d *deployment) status(t *testing.T, path, token string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.http+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}
