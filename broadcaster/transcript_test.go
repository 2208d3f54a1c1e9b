package broadcaster

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"millrace/telemetry"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// Each file of testdata is a scenario: the comment says what it shows, the file
// script what is done, and the file transcript what clients then receive.
//
//	limits ring=300              before start: bytes of the ring
//	history                      before start: there is a database
//	start, stop, restart
//	say d1 3 "n":1               device d1 says n=1 at second 3 (odd devices are in partition 1)
//	connect c
//	subscribe c a device=d*      update the same; a cursor is written [1,2]
//	pause c a, resume c a, unsubscribe c a, seek c a [1,2], speed c a 10
//	block c, unblock c           the client does not read
//	expire 2                     the log keeps the newest 2 of each partition
//	recreate                     the log is deleted and made anew
//	store                        the database takes what the log has
//	wait 100ms                   and show what the clients have received
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = play(t, string(archive.Files[0].Data)) })
			if *update {
				archive.Files = append(archive.Files[:1], txtar.File{Name: "transcript", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("the transcript differs (-want +got); -update writes it anew:\n%s", diff)
			}
		})
	}
}

// stage is a scenario being played.
type stage struct {
	*rig
	clients map[string]*Client
	links   map[string]*fakeLink
	out     strings.Builder
}

func play(t *testing.T, script string) string {
	s := &stage{rig: &rig{t: t, log: newFakeLog(2)}, clients: make(map[string]*Client), links: make(map[string]*fakeLink)}
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		fmt.Fprintf(&s.out, "> %s\n", line)
		if err := s.do(strings.Fields(line)); err != nil {
			fmt.Fprintf(&s.out, "error: %v\n", err)
		}
	}
	s.stop()
	s.show()
	return s.out.String()
}

func (s *stage) do(words []string) error {
	switch words[0] {
	case "limits":
		n, err := strconv.Atoi(strings.TrimPrefix(words[1], "ring="))
		s.limits.RingBytes = n
		return err
	case "history":
		s.history = &fakeHistory{next: telemetry.Cursor{Log: s.log.id, Next: []int64{0, 0}}}
	case "start":
		s.start(1)
	case "stop":
		s.stop()
		s.show()
	case "restart":
		s.stop()
		s.show()
		s.start(2)
	case "say":
		second, err := strconv.Atoi(words[2])
		if err != nil {
			return err
		}
		s.log.append(int(words[1][len(words[1])-1]-'0')%2, said(words[1], second, words[3]))
		time.Sleep(time.Millisecond) // so that partitions merge in the order said
	case "wait":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return err
		}
		time.Sleep(d)
		s.show()
	case "expire":
		n, err := strconv.Atoi(words[1])
		s.log.expire(n)
		return err
	case "recreate":
		s.log.recreate()
	case "store":
		s.history.store(s.log)
	default:
		return s.doClient(words)
	}
	return nil
}

func (s *stage) doClient(words []string) error {
	c, link := s.clients[words[1]], s.links[words[1]]
	switch words[0] {
	case "connect":
		s.clients[words[1]], s.links[words[1]] = s.connect()
	case "subscribe", "update":
		q, err := ParseQuery(s.values(words), time.Now())
		if err != nil {
			return err
		}
		if words[0] == "update" {
			return c.Update(words[2], q)
		}
		return c.Subscribe(words[2], q)
	case "pause":
		return c.Pause(words[2])
	case "resume":
		return c.Resume(words[2])
	case "unsubscribe":
		return c.Unsubscribe(words[2])
	case "seek":
		from, err := ParsePlace(s.cursors(words[3]), time.Now())
		if err != nil {
			return err
		}
		return c.Seek(words[2], from)
	case "speed":
		speed, err := ParseSpeed(words[3])
		if err != nil {
			return err
		}
		return c.Speed(words[2], speed)
	case "block":
		link.block()
	case "unblock":
		link.unblock()
	default:
		s.t.Fatalf("there is no command %s", words[0])
	}
	return nil
}

func (s *stage) values(words []string) map[string][]string {
	values := make(map[string][]string)
	for _, word := range words[3:] {
		name, value, _ := strings.Cut(s.cursors(word), "=")
		values[name] = append(values[name], value)
	}
	return values
}

var vector = regexp.MustCompile(`\[(\d+),(\d+)\]`)

// cursors writes vectors as cursors.
func (s *stage) cursors(text string) string {
	return vector.ReplaceAllStringFunc(text, func(v string) string {
		return parsePlace(s.t, strings.ReplaceAll(v, ",", " "), 7).String()
	})
}

// show writes down what the clients have received.
func (s *stage) show() {
	synctest.Wait()
	var names []string
	for name := range s.links {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		lines := slices.Collect(strings.Lines(s.links[name].take()))
		// Only what belongs to one subscription has an order.
		slices.SortStableFunc(lines, func(a, b string) int {
			idA, _, _ := strings.Cut(a, " ")
			idB, _, _ := strings.Cut(b, " ")
			return strings.Compare(idA, idB)
		})
		for _, line := range lines {
			line = strings.ReplaceAll(line, `"time":"2000-01-01T00:`, `"`)
			fmt.Fprintf(&s.out, "%s: %s", name, line)
		}
		select {
		case <-s.links[name].closed:
			fmt.Fprintf(&s.out, "%s: closed\n", name)
			delete(s.links, name)
		default:
		}
	}
}
