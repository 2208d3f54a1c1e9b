package main_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"millrace/internal/testkit"
)

// tab is a browser's tab on the dashboard of a deployment.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// openTab starts a browser. What the tab shows is kept where a test fails.
func openTab(t *testing.T) *tab {
	t.Helper()
	b := &tab{t, testkit.Browser(t)}
	t.Cleanup(func() {
		if t.Failed() {
			b.photograph()
		}
	})
	return b
}

func (b *tab) photograph() {
	picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Log(err)
		return
	}
	file, err := os.CreateTemp("", "millrace-page-*.png")
	if err != nil {
		b.t.Log(err)
		return
	}
	defer file.Close()
	_, err = file.Write(picture)
	b.t.Logf("the page looked like %s (%v)", file.Name(), err)
}

// wait waits until the expression is true.
func (b *tab) wait(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(20*time.Millisecond))); err != nil {
		b.t.Fatalf("waiting for %s: %v\n%s\n%s", expression, err, b.ask("JSON.stringify(document.body.dataset)"), b.ask("document.body.innerText"))
	}
}

// ask evaluates an expression to text.
func (b *tab) ask(expression string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("String("+expression+")"))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return text
}

// show goes to the page of the deployment as soon as something listens there.
// Chromium's own page for what nobody listens at would come in between.
func (b *tab) show(d *deployment) {
	b.t.Helper()
	testkit.Wait(b.t, "the page to be there", func() bool {
		connection, err := net.Dial("tcp", d.http)
		return err == nil && connection.Close() == nil
	})
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate("http://"+d.http+"/")); err != nil {
		b.t.Fatal(err)
	}
}

const (
	live    = `document.body.dataset.state === "live"`
	reading = `+document.body.dataset.readings > 0`
	// drawn counts the colours of the canvas: an empty one has one.
	drawn = `(canvas => new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size > 2)`
)

// TestPage is what somebody sees who types make up and opens the page.
func TestPage(t *testing.T) {
	d := newDeployment(t, "--fleet", "20")
	b := openTab(t)
	b.show(d)
	b.wait(live)
	b.wait(`document.body.dataset.devices === "20" && document.querySelector("#map").dataset.devices === "20"`)
	b.wait(`document.querySelectorAll("#list .row").length >= 5 && [...document.querySelectorAll("#list .row")].every(row => /\d/.test(row.textContent.replace(row.dataset.device, "")))`)
	b.wait(`+document.querySelector("#map").dataset.visible > 0 && ` + drawn + `(document.querySelector("#map"))`)
	b.wait(`+document.querySelector("#chart").dataset.points > 2 && ` + drawn + `(document.querySelector("#chart canvas"))`)
	b.wait(`+document.body.dataset.rate > 0 && ` + reading)

	b.ask(`window.untouched = true`)
	d.Kill()
	b.wait(`document.body.dataset.state !== "live"`)
	before := b.ask(`document.body.dataset.readings`)
	began := time.Now()
	d.up()
	b.wait(live + ` && +document.body.dataset.resumes > 0 && +document.body.dataset.readings > ` + before)
	t.Logf("after kill -9: %.2f s from 'millrace up' to the next reading on the open page", time.Since(began).Seconds())
	if b.ask(`window.untouched`) != "true" || b.ask(`document.body.dataset.devices`) != "20" {
		t.Errorf("the page was loaded anew, or shows %s devices", b.ask(`document.body.dataset.devices`))
	}
}

// TestSecondsToTheFirstReading measures the second start on the same data.
func TestSecondsToTheFirstReading(t *testing.T) {
	d := newDeployment(t, "--fleet", "100")
	b := openTab(t)
	b.show(d)
	b.wait(reading)
	d.Interrupt()
	began := time.Now()
	d.Program = testkit.Run(t, nil, "up", "--data", d.data, "--mqtt", d.mqtt, "--http", d.http,
		"--kafka-listen", d.kafka, "--postgres-listen", d.postgres, "--fleet", "100")
	b.show(d)
	b.wait(reading)
	t.Logf("%.2f s from 'millrace up --fleet 100', the second time, to the first reading on the page", time.Since(began).Seconds())
	d.Says("Ctrl-C")
}

// TestUpInAClosedHome: in root's home, where the user who runs PostgreSQL
// cannot go, the database is elsewhere and everything else works.
func TestUpInAClosedHome(t *testing.T) {
	t.Parallel()
	home := filepath.Join(reachable(t), "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &deployment{t: t, data: filepath.Join(home, "clone", "data")}
	for _, address := range []*string{&d.mqtt, &d.http, &d.kafka, &d.postgres} {
		*address = testkit.Loopback(testkit.FreePort(t))
	}
	t.Cleanup(func() { d.removeElsewhere() })
	d.up()
	where := d.elsewhere()
	if root := os.Getuid() == 0; root != (where != "") || root && !strings.Contains(d.Output(), where) {
		t.Errorf("root is %v, and the database is in %q; up does not say so", root, where)
	}
	devices := numberedDevices(t, "van", 1, overMQTT(d.mqtt))
	advance(t, devices, 20)
	d.Kill()
	d.up()
	advance(t, devices, 20)
	finished(t, devices)
	checkStored(t, d.url(), devices)
	if again := d.elsewhere(); again != where {
		t.Errorf("the second start has its database in %q, the first in %q", again, where)
	}
	if info, err := os.Stat(home); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the home is now %v (%v)", info.Mode(), err)
	}
	must(t, "verify", "--data", d.data)
	if took := d.Interrupt(); took > 10*time.Second {
		t.Errorf("Ctrl-C took %v, want at most ten seconds", took)
	}
}

// elsewhere is where the database is if not in the data folder.
func (d *deployment) elsewhere() string {
	d.t.Helper()
	note, err := os.ReadFile(filepath.Join(d.data, "postgres.place"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(note))
}

// removeElsewhere leaves nothing outside the test's own folder.
func (d *deployment) removeElsewhere() {
	where := d.elsewhere()
	if where == "" {
		return
	}
	folder := filepath.Dir(where)
	testkit.Wait(d.t, folder+" to be gone", func() bool { // a killed server writes for a moment
		return os.RemoveAll(folder) == nil
	})
	_ = os.Remove(filepath.Dir(folder)) // if it is empty now
}
