package embedded

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// inFlight is how many batches an idempotent producer may have on the way to a
// partition, and so how many a broker must recognise.
const inFlight = 5

// sequences are the last batches of each producer in each partition: by them
// the broker recognises a batch that is sent again.
type sequences struct {
	windows map[windowKey]*window
}

type windowKey struct {
	producer int64
	partition
}

// window has the form of an entry of kfake's seq_windows.json.
type window struct {
	Producer  int64                 `json:"pid"`
	Topic     string                `json:"topic"`
	Partition int32                 `json:"partition"`
	Entries   [inFlight]windowEntry `json:"entries"`
	Count     uint8                 `json:"count"`
	At        uint8                 `json:"at"`
	Epoch     int16                 `json:"epoch"`
	Seen      bool                  `json:"seen"`
	Next      int32                 `json:"next_seq"`
}

type windowEntry struct {
	First  int32 `json:"first_seq"`
	Next   int32 `json:"next_seq"`
	Offset int64 `json:"offset"`
}

func newSequences() *sequences { return &sequences{windows: make(map[windowKey]*window)} }

// add notes a batch. Batches of a partition come in the order of their offsets.
func (s *sequences) add(p partition, h header) {
	if h.producer < 0 {
		return // not idempotent
	}
	key := windowKey{h.producer, p}
	w := s.windows[key]
	if w == nil || w.Epoch != h.epoch {
		w = &window{Producer: h.producer, Topic: p.topic, Partition: p.number, Epoch: h.epoch, Seen: true}
		s.windows[key] = w
	}
	next := int32((int64(h.sequence) + int64(h.records)) % math.MaxInt32)
	w.Entries[w.At] = windowEntry{First: h.sequence, Next: next, Offset: h.offset}
	w.At = (w.At + 1) % inFlight
	w.Count = min(w.Count+1, inFlight)
	w.Next = next
}

// write replaces the sequences of the last proper end.
func (s *sequences) write(dir string) error {
	file := struct {
		Version int       `json:"version"`
		Windows []*window `json:"windows"`
	}{Version: 1}
	for _, w := range s.windows {
		file.Windows = append(file.Windows, w)
	}
	return writeJSON(filepath.Join(dir, sequencesName), file)
}

// forgetSequences removes what the broker remembers of producers, after a
// failed write: it remembers a batch that it does not have. Start finds the
// truth in the log.
func forgetSequences(dir string) {
	_ = remove(filepath.Join(dir, sequencesName))
}

// writeJSON replaces a file as a whole, or not at all.
func writeJSON(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(raw); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
