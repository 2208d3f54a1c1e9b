package main_test

import (
	"fmt"
	"testing"
	"time"

	paho3 "github.com/eclipse/paho.mqtt.golang"

	"millrace/internal/testkit"
)

// bridgeFrom starts the role bridge as a process of its own.
func (d *deployment) bridgeFrom(broker *testkit.Broker) *testkit.Program {
	d.t.Helper()
	p := testkit.Run(d.t, nil, "bridge", "--from", "mqtt://"+broker.Addr(), "--topic", "sensors/+/data",
		"--device-from", "sensors/{device}/data", "--kafka", d.kafka, "--http", "127.0.0.1:0", "--data", d.data)
	p.Says("connected")
	return p
}

// TestBridge: what another broker has acknowledged is stored, each value once,
// although the bridge is killed in the middle.
func TestBridge(t *testing.T) {
	const devices, messages = 5, 2000
	d := newDeployment(t)
	broker := testkit.Mosquitto(t, "max_queued_messages 100000")
	first := d.bridgeFrom(broker)
	published := make(chan error, 1)
	go func() { published <- publishCounted(broker.Addr(), devices, messages) }() // ends when mosquitto has acknowledged all
	testkit.Wait(t, "some of it", func() bool { return d.count("select count(*) from telemetry") > 200 })
	first.Kill()
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	if n := d.count("select count(*) from telemetry"); n == messages {
		t.Error("the kill came too late to be in the middle")
	}
	second := d.bridgeFrom(broker)
	d.settle(messages, "select count(*) from telemetry where metric = 'n'")
	d.settle(messages, "select count(distinct value) from telemetry where metric = 'n'")
	d.settle(devices, "select count(distinct device) from telemetry")
	d.settle(0, "select count(*) from dead_letters")
	must(t, "verify", "--data", d.data)
	if took := second.Interrupt(); took > 10*time.Second {
		t.Errorf("Ctrl-C took %v", took)
	}
}

// publishCounted publishes numbered messages with QoS 1, a hundred under way,
// and returns when all are acknowledged.
func publishCounted(addr string, devices, messages int) error {
	client := paho3.NewClient(paho3.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("publisher").SetAutoReconnect(false))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		return token.Error()
	}
	defer client.Disconnect(100)
	begin := time.Now().Add(-time.Hour).UnixMilli()
	tokens := make(chan paho3.Token, 100)
	acknowledged := make(chan error, 1)
	go func() { // ends when tokens is closed below
		var failed error
		for token := range tokens {
			if !token.WaitTimeout(time.Minute) {
				failed = fmt.Errorf("mosquitto did not acknowledge a message")
			} else if token.Error() != nil {
				failed = token.Error()
			}
		}
		acknowledged <- failed
	}()
	for n := range messages {
		payload := fmt.Sprintf(`{"time":%d,"n":%d}`, begin+int64(n), n)
		tokens <- client.Publish(fmt.Sprintf("sensors/s%d/data", n%devices), 1, false, payload)
	}
	close(tokens)
	return <-acknowledged
}
