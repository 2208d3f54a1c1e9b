package ingest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"millrace/devices"
	"millrace/telemetry"
	"millrace/telemetry/format"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLog is an Appender that keeps entries in memory. It holds its callers to
// the contract: what is appended must not change until it is acknowledged.
type fakeLog struct {
	mu      sync.Mutex // protects all below
	kept    []telemetry.Entry
	pending []pendingAppend // acknowledged by ack, when held
	held    bool
	fail    error // every append's error
	room    int   // appends TryAppend still takes; -1: no limit
	tried   int   // TryAppend calls
}

type pendingAppend struct {
	entry telemetry.Entry
	said  string
	done  func(telemetry.Position, error)
}

func newFakeLog() *fakeLog { return &fakeLog{room: -1} }

func (l *fakeLog) Append(_ context.Context, e telemetry.Entry, done func(telemetry.Position, error)) {
	l.append(e, done, false)
}

func (l *fakeLog) TryAppend(_ context.Context, e telemetry.Entry, done func(telemetry.Position, error)) {
	l.append(e, done, true)
}

func (l *fakeLog) append(e telemetry.Entry, done func(telemetry.Position, error), try bool) {
	l.mu.Lock()
	p := pendingAppend{e, string(e.Value), done}
	err := l.fail
	if try {
		l.tried++
		switch {
		case l.room == 0:
			err = telemetry.ErrOverloaded
		case l.room > 0:
			l.room--
		}
	}
	hold := l.held && err == nil
	if hold {
		l.pending = append(l.pending, p)
	} else if err == nil {
		l.keepLocked(p)
	}
	l.mu.Unlock()
	if !hold {
		done(telemetry.Position{}, err)
	}
}

func (l *fakeLog) keepLocked(p pendingAppend) {
	if string(p.entry.Value) != p.said {
		panic("the entry changed before it was acknowledged")
	}
	e := p.entry
	e.Value = []byte(p.said)
	l.kept = append(l.kept, e)
}

// ack acknowledges everything that is held, with err if it is not nil.
func (l *fakeLog) ack(err error) {
	l.mu.Lock()
	pending := l.pending
	l.pending = nil
	if err == nil {
		for _, p := range pending {
			l.keepLocked(p)
		}
	}
	l.mu.Unlock()
	for _, p := range pending {
		p.done(telemetry.Position{}, err)
	}
}

func (l *fakeLog) entries() []telemetry.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept
}

// readings and dead are what is kept, as text.
func (l *fakeLog) readings() (list []string) {
	for _, e := range l.entries() {
		if e.Dead == nil {
			list = append(list, string(e.Value))
		}
	}
	return list
}

func (l *fakeLog) dead() (list []string) {
	for _, e := range l.entries() {
		if e.Dead != nil {
			list = append(list, string(e.Dead.Reason)+" "+string(e.Value))
		}
	}
	return list
}

// accept waits for the outcome.
func accept(t *testing.T, g *Gate, m Message) Outcome {
	t.Helper()
	outcomes := make(chan Outcome, 2)
	g.Accept(t.Context(), m, func(o Outcome) { outcomes <- o })
	o := <-outcomes
	if len(outcomes) > 0 {
		t.Fatal("done was called twice")
	}
	return o
}

func message(device, payload string) Message {
	return Message{
		Source: "mqtt", Topic: "telemetry/" + device, Client: "c", Device: device, Form: format.JSON,
		Payload: []byte(payload), Publisher: devices.Principal{Open: true}, Wait: true,
	}
}

// logins is an Authenticator: token → device. The token "away" finds the registry away.
type logins map[string]string

func (l logins) Authenticate(_ context.Context, user, password string) (devices.Principal, error) {
	if password == "away" {
		return devices.Principal{}, telemetry.ErrUnavailable
	}
	device, ok := l[password]
	if !ok || user != "" && user != device {
		return devices.Principal{}, errors.Join(telemetry.ErrUnauthorized)
	}
	return devices.Principal{Device: device}, nil
}

type everybody struct{}

func (everybody) Authenticate(context.Context, string, string) (devices.Principal, error) {
	return devices.Principal{Open: true}, nil
}
