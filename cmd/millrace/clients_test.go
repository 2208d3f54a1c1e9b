package main_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"millrace/internal/testkit"
)

// login is who a client says it is; the zero login says nothing.
type login struct{ user, password string }

// client3 speaks MQTT 3.1.1.
type client3 struct {
	paho3.Client
	code byte          // of the CONNACK
	lost chan struct{} // closed when the server has ended the connection
}

func (d *deployment) mqtt3(t *testing.T, who login) *client3 {
	t.Helper()
	c := &client3{lost: make(chan struct{})}
	c.Client = paho3.NewClient(paho3.NewClientOptions().AddBroker("tcp://" + d.mqtt).SetClientID(testkit.Name(t)).
		SetProtocolVersion(4).SetUsername(who.user).SetPassword(who.password).SetAutoReconnect(false).
		SetConnectionLostHandler(func(paho3.Client, error) { close(c.lost) }))
	token := c.Connect().(*paho3.ConnectToken)
	if !token.WaitTimeout(10 * time.Second) {
		t.Fatal("no CONNACK in ten seconds")
	}
	c.code = token.ReturnCode()
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// say publishes with QoS 1 and returns once that is acknowledged.
func (c *client3) say(t *testing.T, topic, payload string) {
	t.Helper()
	token := c.Publish(topic, 1, false, payload)
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("%s on %s was not acknowledged: %v", payload, topic, token.Error())
	}
}

// client5 speaks MQTT 5.
type client5 struct {
	*paho5.Client
	code byte // of the CONNACK
}

func (d *deployment) mqtt5(t *testing.T, who login) *client5 {
	t.Helper()
	conn, err := net.Dial("tcp", d.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client := paho5.NewClient(paho5.ClientConfig{Conn: conn})
	ack, err := client.Connect(ctx, &paho5.Connect{
		ClientID: testkit.Name(t), KeepAlive: 30, CleanStart: true,
		Username: who.user, UsernameFlag: who.user != "", Password: []byte(who.password), PasswordFlag: who.password != "",
	})
	if ack == nil {
		t.Fatalf("no CONNACK: %v", err)
	}
	t.Cleanup(func() {
		if err == nil {
			_ = client.Disconnect(&paho5.Disconnect{})
		}
		_ = conn.Close()
	})
	return &client5{client, ack.ReasonCode}
}

// say publishes with QoS 1 and answers the PUBACK's reason code and text.
func (c *client5) say(t *testing.T, topic, payload string) (byte, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	response, err := c.Publish(ctx, &paho5.Publish{Topic: topic, QoS: 1, Payload: []byte(payload)})
	if response == nil {
		t.Fatalf("%s on %s was not acknowledged: %v", payload, topic, err)
	}
	if response.Properties == nil {
		return response.ReasonCode, ""
	}
	return response.ReasonCode, response.Properties.ReasonString
}

// posted is the HTTP door's answer.
type posted struct {
	Status        int
	Title, Detail string
	Accepted      int
	Refused       []struct {
		Index          int
		Reason, Detail string
	}
}

// post sends a body as curl -d does, with a token if there is one. An answer
// other than 200 must be a problem.
func (d *deployment) post(t *testing.T, path, token, body string) posted {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.http+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return decode[posted](t, request, token)
}

// decode does the request and reads its answer, whatever the status is.
func decode[T any](t *testing.T, request *http.Request, token string) T {
	t.Helper()
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := "application/json"
	if response.StatusCode != http.StatusOK {
		want = "application/problem+json"
	}
	var answer T
	if err := json.Unmarshal(body, &answer); err != nil || response.Header.Get("Content-Type") != want {
		t.Fatalf("%s %s: %s, %s: %s", request.Method, request.URL.Path, response.Status, response.Header.Get("Content-Type"), body)
	}
	return answer
}
