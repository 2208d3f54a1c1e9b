package embedded

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// After a crash kfake reads the whole log into memory at once, takes the
// sequences of its last proper end for those of the producers, and so accepts
// twice what a producer sends again after the crash. recoverDir writes what a
// proper end would have left: then kfake reads one segment of each partition at
// a time, and knows what it has.
//
// The forms of these files are kfake's own, of the version in go.mod; the tests
// with kill -9 fail if they change.
type snapshot struct {
	Version   int             `json:"version"`
	High      int64           `json:"high_watermark"`
	Stable    int64           `json:"last_stable_offset"`
	Start     int64           `json:"log_start_offset"`
	Epoch     int32           `json:"epoch"`
	Timestamp int64           `json:"max_timestamp"`
	Created   time.Time       `json:"created_at"`
	Segments  []snapshotEntry `json:"segments"`
}

type snapshotEntry struct {
	Base int64 `json:"base_offset"`
	Size int64 `json:"size"`
}

// recoverDir puts the log in order where it was not closed properly, and says
// whether that was so.
func recoverDir(dir string) (crashed bool, err error) {
	root := filepath.Join(dir, partitionsName)
	dirs, err := os.ReadDir(root)
	if err != nil && !os.IsNotExist(err) {
		return false, fmt.Errorf("list the log: %w", err)
	}
	seen := newSequences()
	for _, d := range dirs {
		p, ok := parsePartition(d.Name())
		if !ok || !d.IsDir() {
			continue
		}
		r := recovery{dir: filepath.Join(root, d.Name()), partition: p, seen: seen}
		torn, err := r.run()
		if err != nil {
			return false, fmt.Errorf("put %s in order: %w", r.dir, err)
		}
		crashed = crashed || torn
	}
	if crashed || !exists(filepath.Join(dir, sequencesName)) && len(seen.windows) > 0 {
		return crashed, seen.write(dir)
	}
	return crashed, nil
}

// recovery of one partition.
type recovery struct {
	partition
	dir  string
	seen *sequences
	last header // of the partition's last batch
}

// run repairs the partition if it was not closed properly, and says so.
func (r *recovery) run() (bool, error) {
	segments, err := readPartition(r.dir)
	if err != nil || len(segments) == 0 {
		return false, err
	}
	if r.clean(segments) {
		return false, r.scan(segments)
	}
	if transactions(r.dir, segments) {
		// Somebody else's: only kfake's own recovery knows which were open.
		return true, r.scan(segments)
	}
	for len(segments) > 0 {
		size, err := r.mend(segments[len(segments)-1])
		if err != nil {
			return true, err
		}
		segments[len(segments)-1].data = size
		if size > 0 {
			break
		}
		segments = segments[:len(segments)-1]
	}
	if len(segments) == 0 {
		return true, nil
	}
	if err := r.scan(segments); err != nil {
		return true, err
	}
	return true, r.write(segments)
}

func (r *recovery) data(s segment) string {
	return filepath.Join(r.dir, strconv.FormatInt(s.base, 10)+".dat")
}

func (r *recovery) index(s segment) string {
	return filepath.Join(r.dir, strconv.FormatInt(s.base, 10)+".idx")
}

// clean says whether the segments are those of the last proper end.
func (r *recovery) clean(segments []segment) bool {
	var s snapshot
	raw, err := os.ReadFile(filepath.Join(r.dir, snapshotName))
	if err != nil || json.Unmarshal(raw, &s) != nil || len(s.Segments) != len(segments) {
		return false
	}
	for i, have := range segments {
		if s.Segments[i].Base != have.base || s.Segments[i].Size != have.data {
			return false
		}
	}
	return true
}

// transactions says whether any batch was part of one: bit 0 of the last byte
// of its entry in the index.
func transactions(dir string, segments []segment) bool {
	r := recovery{dir: dir}
	for _, s := range segments {
		raw, _ := os.ReadFile(r.index(s))
		for ; len(raw) >= indexSize; raw = raw[indexSize:] {
			if raw[indexSize-1]&1 != 0 {
				return true
			}
		}
	}
	return false
}

// mend cuts off a batch that was not written to its end, and answers the
// segment's size. A segment without a whole batch is removed.
func (r *recovery) mend(s segment) (int64, error) {
	raw, err := os.ReadFile(r.data(s))
	if err != nil {
		return 0, err
	}
	size, batches := int64(0), int64(0)
	for rest := raw; ; batches++ {
		h, ok := readHeader(rest)
		if !ok || crc32.Checksum(rest[crcEnd:h.size], castagnoli) != h.crc {
			break
		}
		size += h.size
		rest = rest[h.size:]
	}
	if size == 0 {
		return 0, errors.Join(os.Remove(r.data(s)), remove(r.index(s)))
	}
	if size < int64(len(raw)) {
		if err := os.Truncate(r.data(s), size); err != nil {
			return 0, err
		}
	}
	if s.batches > batches {
		return size, os.Truncate(r.index(s), batches*indexSize)
	}
	return size, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// scan notes the producers' last batches: those of the last two segments are
// more than a producer may have in flight.
func (r *recovery) scan(segments []segment) error {
	for _, s := range segments[max(0, len(segments)-kept):] {
		raw, err := os.ReadFile(r.data(s))
		if err != nil {
			return err
		}
		for {
			h, ok := readHeader(raw)
			if !ok {
				break
			}
			raw = raw[h.size:]
			r.last = h
			r.seen.add(r.partition, h)
		}
	}
	return nil
}

func (r *recovery) write(segments []segment) error {
	end := r.last.offset + int64(r.last.records)
	s := snapshot{
		Version: 1, High: end, Stable: end, Start: segments[0].base,
		Epoch: r.last.leader, Timestamp: r.last.timestamp, Created: segments[0].written,
	}
	for _, have := range segments {
		s.Segments = append(s.Segments, snapshotEntry{Base: have.base, Size: have.data})
	}
	return writeJSON(filepath.Join(r.dir, snapshotName), s)
}

// header is that of a record batch (KIP-98), as far as it is of use here.
type header struct {
	offset    int64
	size      int64 // of the whole batch, in bytes
	leader    int32 // epoch
	crc       uint32
	records   int32
	timestamp int64
	producer  int64
	epoch     int16
	sequence  int32
}

const (
	headerSize = 61
	crcEnd     = 21
	lengthEnd  = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readHeader reads the header of the batch at the beginning of raw, and says
// whether the whole batch is there.
func readHeader(raw []byte) (header, bool) {
	if len(raw) < headerSize {
		return header{}, false
	}
	be := binary.BigEndian
	h := header{
		offset:    int64(be.Uint64(raw)),
		size:      lengthEnd + int64(int32(be.Uint32(raw[8:]))),
		leader:    int32(be.Uint32(raw[12:])),
		crc:       be.Uint32(raw[17:]),
		records:   int32(be.Uint32(raw[23:])) + 1, // the last record's offset in the batch
		timestamp: int64(be.Uint64(raw[35:])),
		producer:  int64(be.Uint64(raw[43:])),
		epoch:     int16(be.Uint16(raw[51:])),
		sequence:  int32(be.Uint32(raw[53:])),
	}
	return h, h.size >= headerSize && h.size <= int64(len(raw))
}
