package ingest

import (
	"net/url"
	"strings"

	"millrace/telemetry"
)

// Again is the message that a dead letter was, to be sent through the gate once
// more: the same device, metric and form, from its topic. The publisher is left
// open for the caller to set. The error is a *[telemetry.BadRequest] where the
// topic tells nothing.
func (p *Patterns) Again(d *telemetry.DeadLetter, payload []byte) (Message, error) {
	m := Message{Source: d.Source, Topic: d.Topic, Client: d.Client, Payload: payload, Wait: true}
	if strings.HasPrefix(d.Topic, "/v1/") {
		return m, addressHTTP(&m)
	}
	route, ours := p.Match(d.Topic)
	if !ours || route.Refused != nil {
		return m, &telemetry.BadRequest{Parameter: "topic", Detail: "no pattern matches " + d.Topic + ": add one that does"}
	}
	route.Address(&m)
	return m, nil
}

func addressHTTP(m *Message) error {
	wrong := &telemetry.BadRequest{Parameter: "topic", Detail: m.Topic + " is not a path that takes telemetry"}
	u, err := url.Parse(m.Topic)
	if err != nil {
		return wrong
	}
	if u.Path != pathMany {
		device, ok := strings.CutPrefix(u.Path, "/v1/devices/")
		if !ok {
			return wrong
		}
		if m.Device, ok = strings.CutSuffix(device, "/telemetry"); !ok {
			return wrong
		}
	}
	m.Form, m.Precision, err = queryForm(u.Query(), "")
	return err
}
