package storage_test

import (
	"bytes"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/storage"
	"millrace/telemetry"
)

// TestCrashBetween ends the sink's session at each step of its transaction, and
// delivers again: everything is there once.
func TestCrashBetween(t *testing.T) {
	for name, trigger := range map[string]string{
		"making a partition": `create function ends() returns event_trigger language plpgsql as $$ begin perform crash(); end $$;
			create event trigger ends on ddl_command_end when tag in ('ALTER TABLE') execute function ends()`,
		"naming series":   `create trigger ends before insert on series for each statement execute function ends()`,
		"copying rows":    `create trigger ends before insert on samples for each statement execute function ends()`,
		"a dead letter":   `create trigger ends after insert on dead_letters for each row execute function ends()`,
		"a dirty slot":    `create trigger ends after insert on rollup_dirty for each row execute function ends()`,
		"the offsets":     `create trigger ends after update on log_offsets for each row execute function ends()`,
		"the commit":      `create constraint trigger ends after update on log_offsets deferrable initially deferred for each row execute function ends()`,
		"the device seen": `create trigger ends after insert or update on devices for each row execute function ends()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := plain(t)
			b.exec(`create sequence crashes`)
			b.exec(`create function crash() returns void language plpgsql as $$ begin
				if nextval('crashes') = 1 then perform pg_terminate_backend(pg_backend_pid()); end if; end $$`)
			if !strings.Contains(trigger, "event_trigger") {
				b.exec(`create function ends() returns trigger language plpgsql as $$ begin perform crash(); return new; end $$`)
			}
			for _, sql := range strings.Split(trigger, ";\n") {
				b.exec(sql)
			}
			h := b.sink(0)
			records := crashRecords(b)
			err := h.Handle(t.Context(), records)
			if !errors.Is(err, telemetry.ErrUnavailable) {
				t.Errorf("the error is %v", err)
			}
			b.handle(h, records...)
			b.handle(h, records...)
			b.afterCrash()
		})
	}
}

func crashRecords(b *bundle) []telemetry.Record {
	return []telemetry.Record{
		b.say(0, "truck-1 10 speed=1"), b.say(0, "truck-1 11 speed=2"),
		b.say(0, "truck-1 10 speed=3"), b.say(0, "truck-1 9 speed=4"),
	}
}

func (b *bundle) afterCrash() {
	b.t.Helper()
	equal(b.t, "after the crash", b.query(`select time, value from telemetry order by 1`)+
		b.query(`select "offset", reason from dead_letters`)+
		b.query(`select next_offset, records, stored, duplicates, dead from log_offsets`),
		"9 4\n10 1\n11 2\n2 conflict\n4 4 3 0 1\n")
}

// TestCrashAfterCommit loses the server's answer to COMMIT: the sink cannot know
// that it took place, and must find out.
func TestCrashAfterCommit(t *testing.T) {
	t.Parallel()
	b := plain(t)
	u, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	thief := newThief(t, u.Host)
	u.Host = thief.listener.Addr().String()
	b.url = u.String()
	watcher := b.db
	b.db = b.open(storage.Config{})
	h := b.sink(0)
	records := crashRecords(b)
	thief.armed.Store(true)
	if err := h.Handle(t.Context(), records); !errors.Is(err, telemetry.ErrUnavailable) {
		t.Errorf("the error is %v", err)
	}
	if thief.armed.Load() {
		t.Fatal("no answer was lost")
	}
	through := b.db
	b.db = watcher
	b.afterCrash() // it was committed
	b.db = through
	b.handle(h, records...)
	b.handle(h, b.say(0, "truck-1 11 speed=2"))
	b.db = watcher
	equal(t, "offsets", b.query(`select next_offset, records, stored, duplicates, dead from log_offsets`), "5 5 3 1 1\n")
}

// thief is a proxy that, once armed, lets a COMMIT of a transaction that wrote
// rows through, and cuts the connection when the server has answered it.
type thief struct {
	listener net.Listener
	server   string
	armed    atomic.Bool
	done     sync.WaitGroup
}

func newThief(t *testing.T, server string) *thief {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &thief{listener: listener, server: server}
	p.done.Go(p.accept) // ends when the listener is closed
	t.Cleanup(func() {
		_ = listener.Close()
		p.done.Wait()
	})
	return p
}

func (p *thief) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		c := &stolen{thief: p, client: client, server: server}
		p.done.Go(c.up) // each ends when either connection does
		p.done.Go(c.down)
	}
}

type stolen struct {
	*thief
	client, server net.Conn
	wrote          bool        // up's: this transaction copied rows
	committing     atomic.Bool // the next answer is the one to lose
}

func (c *stolen) up() {
	defer c.client.Close()
	defer c.server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.client.Read(buf)
		if err != nil {
			return
		}
		c.wrote = c.wrote || bytes.Contains(buf[:n], []byte("copy samples"))
		if c.wrote && bytes.Contains(buf[:n], []byte("commit\x00")) && c.armed.CompareAndSwap(true, false) {
			c.committing.Store(true)
		}
		if _, err := c.server.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (c *stolen) down() {
	defer c.client.Close()
	defer c.server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.server.Read(buf)
		if err != nil || c.committing.Load() {
			return
		}
		if _, err := c.client.Write(buf[:n]); err != nil {
			return
		}
	}
}
