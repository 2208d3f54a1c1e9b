package ws

import (
	"bytes"
	"encoding/json"
	"time"

	"millrace/broadcaster"
	"millrace/telemetry"
)

// maxID bounds a subscription's id: it stands in every message.
const maxID = 64

// request is a client's message.
type request struct {
	op, id string
	values map[string][]string
}

// parse reads a client's message. The error is a *[telemetry.BadRequest]; the
// id is then what could be read of it.
func parse(b []byte) (request, error) {
	var members map[string]json.RawMessage
	decoder := json.NewDecoder(bytes.NewReader(b))
	if err := decoder.Decode(&members); err != nil || members == nil || decoder.More() {
		return request{}, bad("message", `is not one JSON object such as {"op":"subscribe","id":"a"}`)
	}
	q := request{values: make(map[string][]string, len(members))}
	for name, raw := range members {
		values, ok := texts(raw)
		if !ok {
			return q, bad(short(name), "is not a string, a number, a boolean, or an array of them")
		}
		q.values[name] = values
	}
	for name, at := range map[string]*string{"op": &q.op, "id": &q.id} {
		if v := q.values[name]; len(v) == 1 {
			*at = v[0]
		}
		delete(q.values, name)
	}
	if len(q.id) > maxID {
		q.id = ""
		return q, bad("id", "is longer than 64 bytes")
	}
	return q, nil
}

func bad(parameter, detail string) error {
	return &telemetry.BadRequest{Parameter: parameter, Detail: detail}
}

// short bounds what the client chose before it stands in an answer.
func short(name string) string { return name[:min(len(name), maxID)] }

// texts are the values of a member as a query string has them.
func texts(raw json.RawMessage) ([]string, bool) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	var values []string
	for _, item := range list {
		var v any
		decoder := json.NewDecoder(bytes.NewReader(item))
		decoder.UseNumber()
		if decoder.Decode(&v) != nil {
			return nil, false
		}
		switch v := v.(type) {
		case nil:
		case string:
			values = append(values, v)
		case json.Number:
			values = append(values, v.String())
		case bool:
			values = append(values, map[bool]string{true: "true", false: "false"}[v])
		default:
			return nil, false
		}
	}
	return values, true
}

// do carries out a client's message.
func do(c *broadcaster.Client, q request) error {
	switch q.op {
	case "subscribe", "update":
		wish, err := broadcaster.ParseQuery(q.values, time.Now())
		if err != nil {
			return err
		}
		if q.op == "update" {
			return c.Update(q.id, wish)
		}
		return c.Subscribe(q.id, wish)
	case "seek":
		place, err := q.place()
		if err != nil {
			return err
		}
		return c.Seek(q.id, place)
	case "speed":
		speed, err := broadcaster.ParseSpeed(q.one("speed"))
		if err != nil {
			return bad("speed", err.Error())
		}
		return c.Speed(q.id, speed)
	case "unsubscribe":
		return c.Unsubscribe(q.id)
	case "pause":
		return c.Pause(q.id)
	case "resume":
		return c.Resume(q.id)
	case "":
		return bad("op", "is missing: say subscribe, update, unsubscribe, pause, resume, seek or speed")
	}
	return bad("op", short(q.op)+" is unknown; there are subscribe, update, unsubscribe, pause, resume, seek and speed")
}

func (q request) one(name string) string {
	if v := q.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (q request) place() (telemetry.Cursor, error) {
	from := q.one("from")
	if from == "" {
		from = q.one("cursor")
	}
	if from == "" {
		return telemetry.Cursor{}, nil
	}
	place, err := broadcaster.ParsePlace(from, time.Now())
	if err != nil {
		return place, bad("from", err.Error())
	}
	return place, nil
}
