package storage_test

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"millrace/telemetry"
)

// exerciseTranscripts plays testdata/duplicates.txtar.
func exerciseTranscripts(t *testing.T, fresh func(t *testing.T) *bundle) {
	archive, err := txtar.ParseFile("testdata/duplicates.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(archive.Files); i += 2 {
		play, want := archive.Files[i], archive.Files[i+1]
		if want.Name != play.Name+".want" {
			t.Fatalf("%s stands where %s.want is due", want.Name, play.Name)
		}
		t.Run(play.Name, func(t *testing.T) {
			b := fresh(t)
			b.play(string(play.Data))
			sameLines(t, b.stored(), string(want.Data))
		})
	}
}

func (b *bundle) play(script string) {
	b.t.Helper()
	h := b.sink(0)
	var last, batch []telemetry.Record
	flush := func() {
		if len(batch) > 0 {
			b.handle(h, batch...)
			last, batch = batch, nil
		}
	}
	for line := range strings.Lines(script) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "handle":
			flush()
		case "again":
			flush()
			b.handle(h, last...)
		case "restart":
			flush()
			h = b.sink(0)
		case "lost":
			n, err := strconv.Atoi(rest)
			if err != nil {
				b.t.Fatal(err)
			}
			b.next[0] += int64(n)
		case "raw":
			batch = append(batch, b.raw(0, telemetry.Entry{Device: "truck-1", Value: []byte(rest), Received: midnight}))
		case "":
		default:
			batch = append(batch, b.say(0, verb+" "+rest))
		}
	}
	flush()
}

// sameLines compares line by line; a * at the end of a wanted line is anything.
func sameLines(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	same := len(g) == len(w)
	for i := 0; same && i < len(g); i++ {
		if prefix, any := strings.CutSuffix(w[i], "*"); any {
			same = strings.HasPrefix(g[i], prefix)
		} else {
			same = g[i] == w[i]
		}
	}
	if !same {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
