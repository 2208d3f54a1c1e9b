package simulator

import (
	"fmt"
	"strings"

	"millrace/telemetry"
)

// deviceName makes a device name of what a recording says: every run of bytes
// outside A-Za-z0-9._:- becomes one '-', and none is left at either end.
// "NIA North" is NIA-North.
func deviceName(said string) string {
	var b strings.Builder
	gap := false
	for i := 0; i < len(said); i++ {
		if !telemetry.DeviceByte(said[i]) {
			gap = true
			continue
		}
		if gap && b.Len() > 0 {
			b.WriteByte('-')
		}
		gap = false
		b.WriteByte(said[i])
	}
	return b.String()
}

// names gives each device of a recording its name, and no two the same.
type names struct {
	device map[string]int // by what the recording says: index into list, or -1
	taken  map[string]string
	list   []string
	wrong  map[string]error // by what the recording says: why it is no device
}

func newNames() *names {
	return &names{device: make(map[string]int), taken: make(map[string]string), wrong: make(map[string]error)}
}

// of answers the index and the name of the device that the recording calls said.
func (n *names) of(said string) (int, string, error) {
	if i, known := n.device[said]; known {
		if i < 0 {
			return 0, "", n.wrong[said]
		}
		return i, n.list[i], nil
	}
	name := deviceName(said)
	if err := n.check(said, name); err != nil {
		said = strings.Clone(said)
		n.device[said], n.wrong[said] = -1, err
		return 0, "", err
	}
	said = strings.Clone(said) // not the whole row it is part of
	n.taken[name] = said
	n.device[said] = len(n.list)
	n.list = append(n.list, name)
	return len(n.list) - 1, name, nil
}

func (n *names) check(said, name string) error {
	if name == "" {
		return &rowError{"device", fmt.Sprintf("%.40q leaves nothing for a device name", said)}
	}
	if err := telemetry.CheckDevice(name); err != nil {
		return &rowError{"device", err.Error()}
	}
	if other, taken := n.taken[name]; taken {
		// Two devices in one would mix their readings beyond telling them apart.
		return &rowError{"device", fmt.Sprintf("%q and %q would both be device %s: change one in the file", said, other, name)}
	}
	return nil
}

// renamed answers each device whose name is not what the recording says.
func (n *names) renamed() map[string]string {
	m := make(map[string]string)
	for name, said := range n.taken {
		if name != said {
			m[said] = name
		}
	}
	return m
}
