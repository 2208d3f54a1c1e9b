package embedded

import (
	"cmp"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// partition names one of a topic's partitions.
type partition struct {
	topic  string
	number int32
}

// segment is one pair of files: <base>.dat with batches, and <base>.idx with
// indexSize bytes for each of them.
type segment struct {
	partition
	base    int64
	end     int64 // the next segment's base; 0 for the last one
	data    int64 // bytes of the .dat file
	bytes   int64 // of both files
	batches int64
	written time.Time // its last write: the receipt of its last record
}

// indexSize is the size of a batch's entry in an .idx file.
const indexSize = 15

// kept is how many of a partition's newest segments are never removed. The
// last one alone will not do: a crash of the machine may leave it empty.
const kept = 2

// sweep removes what retention does not keep: whole segments, the oldest of
// all partitions first, until the log is within its bytes and its index within
// its memory, and all that is too old; but nothing that a reader has not read.
//
// Age goes by the time of writing, because a device with a wrong clock must
// not decide about other devices' records.
func (b *Broker) sweep(now time.Time) error {
	segments, err := readSegments(b.config.Dir)
	if err != nil {
		return err
	}
	plan := b.plan(segments, b.unread(), now)
	for p, offset := range plan.cut {
		if err := b.cluster.DeleteRecords(p.topic, p.number, offset); err != nil {
			return fmt.Errorf("remove from %s, partition %d, before %d: %w", p.topic, p.number, offset, err)
		}
	}
	b.guard.setFull(plan.full)
	b.guard.refuses()
	if plan.removed > 0 && b.config.Events.Removed != nil {
		b.config.Events.Removed(plan.removed)
	}
	if b.config.Events.Size != nil {
		free, err := b.config.free(b.config.Dir)
		if err != nil {
			return err
		}
		b.config.Events.Size(plan.bytes, plan.batches*indexEntry, free)
	}
	return nil
}

// plan is what a sweep does.
type plan struct {
	cut            map[partition]int64 // new first offsets
	removed        int64               // bytes
	bytes, batches int64               // what remains
	full           string              // why that is still too much; "": it is not
}

// plan decides. unread answers the first offset of a partition that some reader
// has not read.
func (b *Broker) plan(segments []segment, unread func(partition) int64, now time.Time) plan {
	p := plan{cut: make(map[partition]int64)}
	for _, s := range segments {
		p.bytes += s.bytes
		p.batches += s.batches
	}
	spared := false
	for _, s := range removable(segments) {
		over := p.bytes > b.config.RetentionBytes || p.batches*indexEntry > b.config.Index
		if !over && now.Sub(s.written) <= b.config.RetentionTime {
			break
		}
		if s.end > unread(s.partition) {
			spared = true
			continue
		}
		p.cut[s.partition] = s.end
		p.bytes -= s.bytes
		p.batches -= s.batches
		p.removed += s.bytes
	}
	if spared && p.bytes > b.config.RetentionBytes {
		p.full = fmt.Sprintf("the log holds %d MiB that were not stored yet, more than %d: is the database away?",
			p.bytes>>20, b.config.RetentionBytes>>20)
	}
	return p
}

// removable are all but the newest segments of each partition, oldest first.
// The segments are given by partition, in order of their bases.
func removable(segments []segment) []segment {
	var some []segment
	for len(segments) > 0 {
		n := 1
		for n < len(segments) && segments[n].partition == segments[0].partition {
			n++
		}
		some = append(some, segments[:max(0, n-kept)]...)
		segments = segments[n:]
	}
	slices.SortStableFunc(some, func(a, b segment) int { return a.written.Compare(b.written) })
	return some
}

// unread answers what readers have read, from what their groups have committed.
// A reader that has committed nothing yet has read nothing.
func (b *Broker) unread() func(partition) int64 {
	groups := make(map[string]map[string]map[int32]int64)
	for _, r := range b.config.Readers {
		topics := make(map[string]map[int32]int64)
		if info := b.cluster.GroupInfo(r.Group); info != nil {
			for topic, commits := range info.Commits {
				topics[topic] = make(map[int32]int64)
				for number, commit := range commits {
					topics[topic][number] = commit.Offset
				}
			}
		}
		groups[r.Group] = topics
	}
	return func(p partition) int64 {
		least := int64(math.MaxInt64)
		for _, r := range b.config.Readers {
			if r.Topic == p.topic {
				least = min(least, groups[r.Group][p.topic][p.number])
			}
		}
		return least
	}
}

// readSegments lists the log's segments, by partition and in order of their
// bases. Files that go meanwhile are no error.
func readSegments(dir string) ([]segment, error) {
	root := filepath.Join(dir, partitionsName)
	dirs, err := os.ReadDir(root)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("list the log: %w", err)
	}
	var all []segment
	for _, d := range dirs {
		p, ok := parsePartition(d.Name())
		if !ok || !d.IsDir() {
			continue
		}
		segments, err := readPartition(filepath.Join(root, d.Name()))
		if err != nil {
			return nil, err
		}
		for i := range segments {
			segments[i].partition = p
		}
		all = append(all, segments...)
	}
	return all, nil
}

// readPartition lists a partition's segments in order of their bases.
func readPartition(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the log: %w", err)
	}
	files := make(map[string]fs.FileInfo)
	var segments []segment
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // removed meanwhile
		}
		files[e.Name()] = info
		base, err := strconv.ParseInt(strings.TrimSuffix(e.Name(), ".dat"), 10, 64)
		if err == nil && strings.HasSuffix(e.Name(), ".dat") {
			segments = append(segments, segment{base: base, data: info.Size(), bytes: info.Size(), written: info.ModTime()})
		}
	}
	slices.SortFunc(segments, func(a, b segment) int { return cmp.Compare(a.base, b.base) })
	for i := range segments {
		s := &segments[i]
		if index, ok := files[strconv.FormatInt(s.base, 10)+".idx"]; ok {
			s.batches = index.Size() / indexSize
			s.bytes += index.Size()
		}
		if i > 0 {
			segments[i-1].end = s.base
			if s.written.Before(segments[i-1].written) { // the clock was set back
				s.written = segments[i-1].written
			}
		}
	}
	return segments, nil
}

// parsePartition reads a partition directory's name, <escaped topic>-<number>.
func parsePartition(name string) (partition, bool) {
	cut := strings.LastIndexByte(name, '-')
	if cut < 0 {
		return partition{}, false
	}
	number, err := strconv.ParseInt(name[cut+1:], 10, 32)
	if err != nil {
		return partition{}, false
	}
	topic, err := url.PathUnescape(name[:cut])
	return partition{topic: topic, number: int32(number)}, err == nil
}
