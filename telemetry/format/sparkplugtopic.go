package format

import (
	"strings"

	"millrace/telemetry"
)

// sparkplugNamespace begins every topic of Sparkplug B (3.0, section 4.1).
const sparkplugNamespace = "spBv1.0"

// SparkplugTopic is what a topic of Sparkplug B names:
// spBv1.0/group/type/edge, with the device behind the edge node at its end in
// the types that begin with D.
type SparkplugTopic struct {
	Group  string
	Type   string // NBIRTH, NDATA, NDEATH, DBIRTH, DDATA or DDEATH
	Edge   string
	Device string // "" for the edge node itself
}

// ParseSparkplugTopic reads the topic. ours is false for the topics of
// Sparkplug that carry no readings (commands and the state of host
// applications) and for topics outside its namespace. The refusal is for a
// topic that is inside and means nothing.
func ParseSparkplugTopic(topic string) (t SparkplugTopic, ours bool, refused *telemetry.Refusal) {
	space, rest, _ := strings.Cut(topic, "/")
	if space != sparkplugNamespace {
		return t, false, nil
	}
	t.Group, rest, _ = strings.Cut(rest, "/")
	if t.Group == "STATE" {
		return t, false, nil
	}
	t.Type, rest, _ = strings.Cut(rest, "/")
	t.Edge, t.Device, _ = strings.Cut(rest, "/")
	wantDevice := false
	switch t.Type {
	case "NCMD", "DCMD":
		return t, false, nil
	case "NBIRTH", "NDATA", "NDEATH":
	case "DBIRTH", "DDATA", "DDEATH":
		wantDevice = true
	default:
		return t, true, badSparkplugTopic(topic)
	}
	if t.Group == "" || t.Edge == "" || (t.Device != "") != wantDevice || strings.Contains(t.Device, "/") {
		return t, true, badSparkplugTopic(topic)
	}
	return t, true, nil
}

func badSparkplugTopic(topic string) *telemetry.Refusal {
	return telemetry.Refuse(telemetry.ReasonTopic,
		"topic %.200q is not Sparkplug B: publish to spBv1.0/GROUP/NDATA/EDGE or spBv1.0/GROUP/DDATA/EDGE/DEVICE", topic)
}

// Name is the device that the topic's readings are of: group:edge, or
// group:edge:device.
func (t SparkplugTopic) Name() string {
	if t.Device == "" {
		return t.Group + ":" + t.Edge
	}
	return t.Group + ":" + t.Edge + ":" + t.Device
}

// node is the edge node's key in [Aliases].
func (t SparkplugTopic) node() string { return t.Group + "/" + t.Edge }

func (t SparkplugTopic) birth() bool { return strings.HasSuffix(t.Type, "BIRTH") }

func (t SparkplugTopic) death() bool { return strings.HasSuffix(t.Type, "DEATH") }
