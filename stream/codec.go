package stream

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/telemetry"
)

// Names of the record headers.
const (
	headerReceived = "rx"
	headerReason   = "reason"
	headerDetail   = "detail"
	headerSource   = "source"
	headerTopic    = "topic"
	headerClient   = "client"
)

// receivedLength is the length of telemetry.AppendTime's form.
const receivedLength = len("2006-01-02T15:04:05.000000Z")

func deadHeaders(headers []kgo.RecordHeader, d *telemetry.DeadLetter) []kgo.RecordHeader {
	return append(headers,
		kgo.RecordHeader{Key: headerReason, Value: []byte(d.Reason)},
		kgo.RecordHeader{Key: headerDetail, Value: []byte(d.Detail)},
		kgo.RecordHeader{Key: headerSource, Value: []byte(d.Source)},
		kgo.RecordHeader{Key: headerTopic, Value: []byte(d.Topic)},
		kgo.RecordHeader{Key: headerClient, Value: []byte(d.Client)},
	)
}

// decoder turns Kafka records into ours. Not safe for concurrent use.
type decoder struct {
	dead bool
	// devices holds each device's name once: without it, every record would
	// allocate its own copy.
	devices map[string]string
}

// maxNames bounds decoder.devices; foreign producers choose keys freely.
const maxNames = 64 << 10

func newDecoder(dead bool) *decoder {
	return &decoder{dead: dead, devices: make(map[string]string)}
}

// decode never fails: what foreign producers wrote comes through raw, and the
// handler decides. The entry shares the record's memory.
func (d *decoder) decode(r *kgo.Record) telemetry.Record {
	e := telemetry.Entry{Device: d.device(r.Key), Value: r.Value, Received: r.Timestamp.UTC()}
	if d.dead {
		e.Dead = &telemetry.DeadLetter{Reason: telemetry.ReasonMalformed}
	}
	for i := range r.Headers {
		h := &r.Headers[i]
		if h.Key == headerReceived {
			if t, err := time.Parse(time.RFC3339Nano, string(h.Value)); err == nil {
				e.Received = t.UTC()
			}
		} else if d.dead {
			readDead(e.Dead, h)
		}
	}
	return telemetry.Record{Position: telemetry.Position{Partition: r.Partition, Offset: r.Offset}, Entry: e}
}

func readDead(dead *telemetry.DeadLetter, h *kgo.RecordHeader) {
	switch h.Key {
	case headerReason:
		dead.Reason = telemetry.Reason(h.Value)
	case headerDetail:
		dead.Detail = string(h.Value)
	case headerSource:
		dead.Source = string(h.Value)
	case headerTopic:
		dead.Topic = string(h.Value)
	case headerClient:
		dead.Client = string(h.Value)
	}
}

func (d *decoder) device(key []byte) string {
	if name, ok := d.devices[string(key)]; ok { // does not allocate
		return name
	}
	if len(d.devices) >= maxNames {
		clear(d.devices)
	}
	name := string(key)
	d.devices[name] = name
	return name
}
