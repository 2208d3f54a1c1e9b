package testkit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Fault is a TCP proxy that does harm on demand. Its methods fail the test
// themselves and take effect on connections that are there, too; they are for
// one goroutine at a time.
type Fault struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
	names int
}

// Proxy puts a [Fault] in front of addr; until told otherwise it does no harm.
// It is gone when the test ends.
func Proxy(t testing.TB, addr string) *Fault {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	f := &Fault{t: t, proxy: toxiproxy.NewProxy(server, t.Name(), Loopback(FreePort(t)), addr)}
	if err := f.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.proxy.Stop)
	return f
}

// Addr is where clients connect to, "127.0.0.1:port"; the same for all its life.
func (f *Fault) Addr() string { return f.proxy.Listen }

// Cut closes all connections and refuses new ones, until Restore.
func (f *Fault) Cut() { f.proxy.Stop() }

// Restore lets clients in again after Cut.
func (f *Fault) Restore() {
	f.t.Helper()
	if err := f.proxy.Start(); err != nil {
		f.t.Fatal(err)
	}
}

// Slow delays what flows in either direction, until Heal.
func (f *Fault) Slow(by time.Duration) { f.add("latency", "latency", by.Milliseconds()) }

// Throttle lets at most so many kilobytes a second through in either
// direction, until Heal.
func (f *Fault) Throttle(kilobytes int64) { f.add("bandwidth", "rate", kilobytes) }

// Stall keeps connections open and lets nothing through, until Heal; what was
// on its way is lost and the connections close then.
func (f *Fault) Stall() { f.add("timeout", "timeout", 0) }

// Heal ends what Slow, Throttle and Stall began.
func (f *Fault) Heal() { f.proxy.Toxics.ResetToxics(f.t.Context()) }

func (f *Fault) add(kind, attribute string, value int64) {
	f.t.Helper()
	for _, direction := range []string{"upstream", "downstream"} {
		f.names++
		toxic := fmt.Sprintf(`{"name":"%d","type":%q,"stream":%q,"attributes":{%q:%d}}`,
			f.names, kind, direction, attribute, value)
		if _, err := f.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			f.t.Fatal(err)
		}
	}
}
