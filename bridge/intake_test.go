package bridge

import (
	"errors"
	"strings"
	"testing"
)

// word is a delivery whose payload is a word; its acknowledgement is written down.
type word struct {
	text string
	qos  byte
	acks *[]string
}

func (w word) Qos() byte       { return w.qos }
func (w word) Topic() string   { return "t" }
func (w word) Payload() []byte { return []byte(w.text) }
func (w word) Ack()            { *w.acks = append(*w.acks, w.text) }

func TestIntake(t *testing.T) {
	// Each step: "+a" take a (QoS 1), "*a" take a (QoS 0), ">" hand on, ")a" done, "!a"
	// done with an error. The transcript has what is refused and what leaves.
	f := func(l limits, steps, want string) {
		t.Helper()
		in := newIntake(l)
		var said, acks []string
		handed := make(map[string]*item)
		for step := range strings.FieldsSeq(steps) {
			rest := step[1:]
			switch step[0] {
			case '+', '*':
				qos := byte(1)
				if step[0] == '*' {
					qos = 0
				}
				if !in.take(word{rest, qos, &acks}) {
					said = append(said, "left:"+rest)
				}
			case '>':
				if i := in.next(); i == nil {
					said = append(said, "none")
				} else {
					handed[string(i.Payload())] = i
				}
			case ')':
				in.finish(handed[rest], nil)
			case '!':
				in.finish(handed[rest], errors.New("away"))
			}
			done, dropped := in.settle()
			for _, i := range done {
				said = append(said, string(i.Payload()))
			}
			if dropped > 0 {
				said = append(said, "dropped")
			}
		}
		emptied, idle, failed := in.state()
		if failed != nil {
			said = append(said, "failed")
		}
		if emptied {
			said = append(said, "emptied")
		}
		if idle {
			said = append(said, "idle")
		}
		if got := strings.Join(said, " "); got != want {
			t.Errorf("%s: %s, want %s", steps, got, want)
		}
	}
	wide := limits{100, 1000}
	f(wide, "", "idle")
	f(wide, "+a +b > > )a )b", "a b idle")
	f(wide, "+a +b > > )b )a", "a b idle")
	f(wide, "+a +b > )a", "a idle")
	f(wide, "+a > >", "none")
	f(wide, "+a +b +c > > > !b )c )a", "a failed idle")
	f(wide, "+a +b > !a >", "none failed idle")
	f(wide, "+a *b +c > > > !b )a )c", "a dropped c idle")
	f(limits{2, 1000}, "+a +b +c +d > > )a +e )b", "left:c left:d a left:e b emptied idle")
	f(limits{2, 1000}, "+a +b *c > )a +d", "left:c a idle")
	f(limits{100, 3}, "+aaaa > )aaaa +b", "aaaa idle")
	f(limits{100, 3}, "+aa +bb > )aa", "left:bb aa emptied idle")
}
