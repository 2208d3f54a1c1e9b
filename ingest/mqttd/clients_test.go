package mqttd

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"testing"
	"time"

	"millrace/internal/mqttload"

	"github.com/eclipse/paho.golang/autopaho"
	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
)

// arrivals keeps everything and answers how often each payload came.
func arrivals(t *testing.T, gate *handGate, messages int) map[string]int {
	t.Helper()
	came := make(map[string]int)
	for range messages {
		m := gate.next(t)
		came[m.payload()]++
		m.keep()
	}
	return came
}

func wantEachOnce(t *testing.T, came map[string]int, messages int) {
	t.Helper()
	for i := range messages {
		if came[fmt.Sprint(i)] != 1 {
			t.Fatalf("message %d came %d times", i, came[fmt.Sprint(i)])
		}
	}
}

func TestPahoOfMQTT3(t *testing.T) {
	const messages = 200
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	for _, version := range []uint{3, 4} {
		for qos := byte(1); qos <= 2; qos++ {
			client := paho3.NewClient(paho3.NewClientOptions().AddBroker("tcp://" + s.Addr().String()).
				SetClientID("paho").SetProtocolVersion(version).SetAutoReconnect(false))
			if token := client.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
				t.Fatal(token.Error())
			}
			first := client.Publish("telemetry/paho", qos, false, "0")
			held := gate.next(t)
			if first.WaitTimeout(0) {
				t.Fatal("acknowledged before it was kept")
			}
			held.keep()
			tokens := []paho3.Token{first}
			for i := 1; i < messages; i++ {
				tokens = append(tokens, client.Publish("telemetry/paho", qos, false, fmt.Sprint(i)))
			}
			came := arrivals(t, gate, messages-1)
			came["0"] = 1
			for _, token := range tokens {
				if !token.WaitTimeout(patience) || token.Error() != nil {
					t.Fatalf("not acknowledged: %v", token.Error())
				}
			}
			wantEachOnce(t, came, messages)
			client.Disconnect(100)
		}
	}
}

func TestPahoOfMQTT5(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	broker, _ := url.Parse("mqtt://" + s.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{broker}, KeepAlive: 20, ClientConfig: paho5.ClientConfig{ClientID: "paho5"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.AwaitConnection(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = client.Disconnect(ctx)
		<-client.Done()
	}()
	for qos := byte(0); qos <= 2; qos++ {
		answered := make(chan error, 1)
		go func() {
			_, err := client.Publish(ctx, &paho5.Publish{Topic: "telemetry/paho", QoS: qos, Payload: []byte("x")})
			answered <- err
		}()
		m := gate.next(t)
		if qos > 0 && len(answered) > 0 {
			t.Fatal("acknowledged before it was kept")
		}
		m.keep()
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	}
	answered := make(chan *paho5.PublishResponse, 1)
	go func() {
		response, _ := client.Publish(ctx, &paho5.Publish{Topic: "telemetry/paho", QoS: 1, Payload: []byte("{")})
		answered <- response
	}()
	gate.next(t).refuse("malformed")
	if response := <-answered; response == nil || response.ReasonCode != 0x99 || response.Properties.ReasonString != "refused by the test" {
		t.Fatalf("the refusal was told as %+v", response)
	}
}

func TestMosquittoPub(t *testing.T) {
	gate := newHandGate()
	s, _ := start(t, Config{Gate: gate})
	host, port, _ := net.SplitHostPort(s.Addr().String())
	for _, version := range []string{"31", "311", "5"} {
		for _, qos := range []string{"0", "1", "2"} {
			command := exec.CommandContext(t.Context(), "mosquitto_pub", "-h", host, "-p", port, "-V", "mqttv"+version,
				"-q", qos, "-t", "telemetry/truck-7", "-m", `{"speed":61.2}`)
			ended := make(chan error, 1)
			if err := command.Start(); err != nil {
				t.Fatalf("%v: install Debian's mosquitto-clients", err)
			}
			go func() { ended <- command.Wait() }()
			m := gate.next(t)
			if m.payload() != `{"speed":61.2}` || m.Device != "truck-7" {
				t.Fatalf("the gate got %+v", m.Message)
			}
			if qos != "0" && len(ended) > 0 {
				t.Fatal("mosquitto_pub ended before its message was kept")
			}
			m.keep()
			if err := <-ended; err != nil {
				t.Fatalf("mosquitto_pub -V mqttv%s -q %s: %v", version, qos, err)
			}
		}
	}
}

func TestLoadOfEveryQoS(t *testing.T) {
	s, _ := start(t, Config{Gate: newQuickGate(t)})
	for qos := byte(0); qos <= 2; qos++ {
		result, err := mqttload.Run(t.Context(), mqttload.Config{
			Addr: s.Addr().String(), QoS: qos, Connections: 10, InFlight: 20, Total: 5000,
		})
		if err != nil || result.Acked != 5000 {
			t.Fatalf("QoS %d: %v, %v", qos, result, err)
		}
	}
	result, err := mqttload.Run(t.Context(), mqttload.Config{
		Addr: s.Addr().String(), QoS: 1, Connections: 3, InFlight: 7, Duration: 50 * time.Millisecond,
		Payload: func(conn, n int) []byte { return fmt.Appendf(nil, `{"n":%d}`, n) },
	})
	if err != nil || result.Acked == 0 || result.Acked != result.Sent {
		t.Fatalf("%v, %v", result, err)
	}
}
