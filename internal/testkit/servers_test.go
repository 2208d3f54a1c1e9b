package testkit_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"millrace/internal/testkit"
)

func TestTimescaleMakesHypertables(t *testing.T) {
	url := testkit.Timescale(t)
	conn := connect(t, url)
	for _, sql := range []string{
		"CREATE TABLE m (time timestamptz NOT NULL, v float8)",
		"SELECT create_hypertable('m', 'time')",
		"INSERT INTO m VALUES ('2026-01-01', 1), ('2026-02-01', 2)",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	var chunks int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM show_chunks('m')").Scan(&chunks); err != nil || chunks != 2 {
		t.Errorf("%d chunks, %v; want 2", chunks, err)
	}
}

func TestMosquittoKeepsASessionOverAShutdown(t *testing.T) {
	broker := testkit.Mosquitto(t, "max_queued_messages 10")
	session := func() mqtt.Client {
		o := mqtt.NewClientOptions().AddBroker("tcp://" + broker.Addr()).SetClientID("c").SetCleanSession(false)
		c := mqtt.NewClient(o.SetAutoReconnect(false))
		if token := c.Connect(); token.Wait() && token.Error() != nil {
			t.Fatal(token.Error())
		}
		return c
	}
	first := session()
	first.Subscribe("x", 1, nil).Wait()
	first.Disconnect(100)
	broker.Shutdown()
	broker.Start()
	got := make(chan string, 1)
	second := session()
	second.AddRoute("x", func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) })
	second.Publish("x", 1, false, "kept").Wait()
	if v := <-got; v != "kept" {
		t.Errorf("got %q", v)
	}
	second.Disconnect(100)
}

func TestNginxProxies(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer backend.Close()
	addr := testkit.Loopback(testkit.FreePort(t))
	conf := "server { listen " + addr + "; location / { proxy_pass " + backend.URL + "; } }"
	if err := testkit.CheckNginx(t, conf); err != nil {
		t.Fatal(err)
	}
	testkit.Nginx(t, addr, conf)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || string(body) != "hello" || answer.Body.Close() != nil {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestCheckNginxRefusesNonsense(t *testing.T) {
	if err := testkit.CheckNginx(t, "server { lissen 80; }"); err == nil || !strings.Contains(err.Error(), "lissen") {
		t.Errorf("got %v", err)
	}
}

func TestChromiumShowsAPage(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<p id=x></p><script>x.textContent = 6 * 7</script>")
	}))
	defer page.Close()
	ctx := testkit.Browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(page.URL)); err != nil {
		t.Fatal(err)
	}
	if text, err := chromedp.Run(ctx, chromedp.Text("#x")); err != nil || text != "42" {
		t.Errorf("%q, %v", text, err)
	}
}

// echo answers each line with the same line.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends when the listener closes
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the connection does
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func roundTrip(conn net.Conn, limit time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return err
	}
	_, err := bufio.NewReader(conn).ReadString('\n')
	return err
}

func TestProxyCutsAndRestores(t *testing.T) {
	fault := testkit.Proxy(t, echo(t))
	conn := dial(t, fault.Addr())
	if err := roundTrip(conn, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	fault.Cut()
	if err := roundTrip(conn, 5*time.Second); err == nil {
		t.Error("a connection that was cut still answers")
	}
	fault.Restore()
	if err := roundTrip(dial(t, fault.Addr()), 5*time.Second); err != nil {
		t.Error(err)
	}
}

func TestProxySlowsAndStalls(t *testing.T) {
	fault := testkit.Proxy(t, echo(t))
	fault.Slow(50 * time.Millisecond)
	began := time.Now()
	if err := roundTrip(dial(t, fault.Addr()), 5*time.Second); err != nil || time.Since(began) < 100*time.Millisecond {
		t.Errorf("answered after %v, %v; both ways take 100 ms", time.Since(began), err)
	}
	fault.Heal()
	fault.Stall()
	if err := roundTrip(dial(t, fault.Addr()), 100*time.Millisecond); err == nil {
		t.Error("a stalled connection answers")
	}
	fault.Heal()
	if err := roundTrip(dial(t, fault.Addr()), 5*time.Second); err != nil {
		t.Error(err)
	}
}
