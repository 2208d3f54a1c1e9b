package dashboard_test

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"go.uber.org/goleak"

	"millrace/internal/testkit"
)

func TestMain(m *testing.M) {
	if names, _ := fs.Glob(os.DirFS("dist"), "assets/*.js"); len(names) == 0 {
		fmt.Fprintln(os.Stderr, "the page is not built: run `make build`, or `npm ci && npm run build` in dashboard/")
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// page is a browser's tab that shows the dashboard.
type page struct {
	t   testing.TB
	ctx context.Context
}

// open shows the dashboard of the server, from a clean browser. What the page
// gets wrong (exceptions, breaches of the policy) fails the test at its end.
func open(t testing.TB, l *live, query string) *page {
	t.Helper()
	p := &page{t, testkit.Browser(t)}
	p.size(1280, 800)
	p.navigate(l, query)
	return p
}

func (p *page) navigate(l *live, query string) {
	p.t.Helper()
	p.do(chromedp.Navigate("http://" + l.addr + "/" + query))
	p.run(`window.breaches = [];
		addEventListener("error", (e) => breaches.push(e.message));
		addEventListener("unhandledrejection", (e) => breaches.push(String(e.reason)));
		new ReportingObserver((all) => all.forEach((r) => breaches.push(JSON.stringify(r.body))),
			{ types: ["csp-violation"], buffered: true }).observe()`)
}

func (p *page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) run(script string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void]("{" + script + "}"))
}

// ask evaluates an expression to text.
func (p *page) ask(expression string) string {
	p.t.Helper()
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string]("String("+expression+")"))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return text
}

// wait waits until the expression is true.
func (p *page) wait(expression string) {
	p.t.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(50*time.Millisecond)))
	if err != nil {
		p.t.Fatalf("waiting for %s: %v\nstate %s, devices %s, readings %s, text:\n%s", expression, err,
			p.ask("document.body.dataset.state"), p.ask("document.body.dataset.devices"),
			p.ask("document.body.dataset.readings"), p.ask("document.body.innerText"))
	}
}

func (p *page) size(width, height int64) { p.do(chromedp.EmulateViewport(width, height)) }

func (p *page) dark() {
	features := emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	}
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, features)
		return err
	}))
}

// photograph keeps what the page looks like, where MILLRACE_SCREENSHOTS names a
// folder for it.
func (p *page) photograph(name string) {
	dir := os.Getenv("MILLRACE_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)
	}
	if err != nil {
		p.t.Error(err)
	}
}

// clean fails the test if the page did something wrong.
func (p *page) clean() {
	p.t.Helper()
	if breaches := p.ask(`breaches.join("\n")`); breaches != "" {
		p.t.Errorf("the page did wrong: %s", breaches)
	}
}

// vans are n devices in and around Utrecht, with a history of minutes.
func vans(n, minutes int, now time.Time) []said {
	var all []said
	for minute := minutes - 1; minute >= 0; minute-- {
		for i := range n {
			turn := float64(i)*2.4 + float64(minute)*0.02
			far := 0.02 + 0.9*math.Sqrt(float64(i)/float64(n))
			values := map[string]any{
				"lat": 52.09 + 0.5*far*math.Sin(turn), "lon": 5.12 + 0.9*far*math.Cos(turn),
				"speed": math.Round(10*(50+20*math.Sin(turn*3))) / 10, "battery": 80 - minute%30,
				"state": []string{"moving", "idle", "charging"}[i%3], "door": i%2 == 0,
			}
			all = append(all, said{fmt.Sprintf("van-%d", i+1), at(now.Add(-time.Duration(minute) * time.Minute)), values})
		}
	}
	return all
}

func TestThePageShowsDevicesValuesRateMapAndChart(t *testing.T) {
	l := newLive(t)
	now := time.Now()
	l.say(vans(5, 30, now.Add(-time.Minute))...)
	p := open(t, l, "")
	p.wait(`document.body.dataset.state === "live"`)
	if got := <-l.subscriptions; got != (subscribe{Op: "subscribe", ID: "all", Snapshot: true}) {
		t.Errorf("the page asked for %+v", got)
	}
	p.wait(`document.body.dataset.devices === "5" && document.querySelector("#map").dataset.devices === "5"`)
	if got := p.ask(`document.body.dataset.readings`); got != "0" {
		t.Errorf("a snapshot counts as %s readings: it is the past", got)
	}
	// The first device stands on the chart with its past.
	p.wait(`document.querySelector("#chart").dataset.past === "loaded" && +document.querySelector("#chart").dataset.points >= 30`)
	p.wait(`document.querySelector("#chart canvas") !== null`)

	l.say(said{"van-2", at(now), map[string]any{"speed": 123.4, "state": "moving"}}, said{"attic", at(now), map[string]any{"warm": true}})
	p.wait(`document.body.dataset.devices === "6" && document.body.dataset.readings === "2"`)
	p.wait(`document.querySelector('#list [data-device="van-2"]').textContent.includes("speed 123.4")`)
	p.wait(`+document.body.dataset.rate > 0`)
	if got := p.ask(`document.querySelector("#map").dataset.devices`); got != "5" {
		t.Errorf("%s devices on the map, want 5: one has no place", got)
	}
	p.wait(`document.querySelector("#map").dataset.land === "110m" || document.querySelector("#map").dataset.land === "50m"`)
	p.photograph("5-devices")
	p.clean()
}

func TestAChosenDeviceShowsItsValuesAndIsCharted(t *testing.T) {
	l := newLive(t)
	now := time.Now()
	l.say(vans(3, 10, now.Add(-time.Minute))...)
	p := open(t, l, "")
	p.wait(`document.querySelector('#list [data-device="van-2"]') !== null`)
	p.do(chromedp.Click(chromedp.CSS(`#list [data-device="van-2"]`)))
	p.wait(`document.querySelector("#detail-title").textContent === "van-2"`)
	p.wait(`document.querySelectorAll("#values tr").length === 6`)
	p.do(chromedp.Click(chromedp.CSS(`#values [data-metric="speed"] button`)))
	p.wait(`document.querySelector("#chart").dataset.metric === "speed" && +document.querySelector("#chart").dataset.points >= 10`)

	// The space bar on the list puts another beside it.
	p.do(chromedp.SendKeys(chromedp.CSS("#list"), kb.ArrowDown+" "))
	p.wait(`document.querySelector("#chart").dataset.series === "2"`)
	p.wait(`document.querySelectorAll("#legend li").length === 2`)

	points := p.ask(`document.querySelector("#chart").dataset.points`)
	l.say(said{"van-2", at(now), map[string]any{"speed": 77}})
	p.wait(`document.querySelector('#legend [data-device="van-2"] output').textContent === "77"`)
	p.wait(`+document.querySelector("#chart").dataset.points > ` + points)
	p.dark()
	p.photograph("2-on-the-chart")
	p.clean()
}

func TestAClickOnTheMapChooses(t *testing.T) {
	l := newLive(t)
	l.say(said{"alone", at(time.Now()), map[string]any{"lat": 30.0, "lon": 32.5}}, said{"a-first", at(time.Now()), map[string]any{"x": 1}})
	p := open(t, l, "")
	p.wait(`document.querySelector("#detail-title").textContent === "a-first"`)
	p.wait(`document.querySelector("#map").dataset.visible === "1"`)
	p.do(chromedp.Click(chromedp.CSS("#map"))) // the only place is in the middle
	p.wait(`document.querySelector("#detail-title").textContent === "alone"`)
	p.do(chromedp.SendKeys(chromedp.CSS("#map"), "++"+kb.ArrowLeft+kb.ArrowLeft))
	p.do(chromedp.Click(chromedp.CSS("#zoom-fit")))
	p.wait(`document.querySelector("#map").dataset.visible === "1"`)
	p.clean()
}

func TestAfterARestartThePageGoesOnWhereItStopped(t *testing.T) {
	l := newLive(t)
	now := time.Now()
	l.say(vans(2, 1, now)...)
	p := open(t, l, "")
	p.wait(`document.body.dataset.state === "live"`)
	<-l.subscriptions
	l.say(said{"van-1", at(now.Add(time.Millisecond)), map[string]any{"speed": 1}})
	p.wait(`document.body.dataset.readings === "1"`)

	l.down()
	p.wait(`document.body.dataset.state === "reconnecting"`)
	l.say(said{"van-1", at(now.Add(time.Second)), map[string]any{"speed": 2}}, said{"van-3", at(now), map[string]any{"speed": 3}})
	l.start()
	p.wait(`document.body.dataset.state === "live"`)
	if got := <-l.subscriptions; got != (subscribe{Op: "subscribe", ID: "all", From: "n3"}) {
		t.Errorf("the page asked for %+v, want to go on from n3", got)
	}
	p.wait(`document.body.dataset.readings === "3" && document.body.dataset.devices === "3"`)
	p.wait(`document.querySelector('#list [data-device="van-1"]').textContent.includes("speed 2")`)
	if got := p.ask("document.body.dataset.resumes"); got != "1" {
		t.Errorf("resumed %s times, want 1", got)
	}
}

func TestACursorThatIsGoneBeginsAnew(t *testing.T) {
	l := newLive(t)
	l.say(vans(2, 1, time.Now())...)
	p := open(t, l, "")
	p.wait(`document.body.dataset.state === "live"`)
	<-l.subscriptions
	l.down()
	l.set(func() { l.refuse = "the cursor is gone" })
	l.start()
	if got := <-l.subscriptions; got.From != "n2" {
		t.Errorf("the page asked for %+v, want to go on from n2", got)
	}
	if got := <-l.subscriptions; got != (subscribe{Op: "subscribe", ID: "all", Snapshot: true}) {
		t.Errorf("the page asked for %+v, want to begin anew", got)
	}
	p.wait(`document.body.dataset.state === "live"`)
}

func TestATokenIsPassedOnAndKeptOutOfTheAddress(t *testing.T) {
	l := newLive(t)
	l.set(func() { l.token = "s3cret+/=" })
	l.say(vans(1, 1, time.Now())...)
	p := open(t, l, "")
	p.wait(`document.body.dataset.state === "refused" && document.querySelector("#token").offsetParent !== null`)
	p.do(chromedp.SendKeys(chromedp.CSS("#token"), "s3cret+/=\n"))
	p.wait(`document.body.dataset.state === "live" && document.querySelector("#token").offsetParent === null`)

	q := open(t, l, "?token=s3cret%2B%2F%3D")
	q.wait(`document.body.dataset.state === "live"`)
	if got := q.ask("location.href"); strings.Contains(got, "token") {
		t.Errorf("the address still says %s", got)
	}
	q.do(chromedp.Reload())
	q.wait(`document.body.dataset.state === "live"`)
}

func TestADayIsMinutesAndThenReadings(t *testing.T) {
	l := newLive(t)
	l.say(vans(1, 300, time.Now().Add(-time.Minute))...)
	p := open(t, l, "")
	p.wait(`+document.querySelector("#chart").dataset.points >= 59`)
	if points := p.ask(`document.querySelector("#chart").dataset.points`); points > "61" {
		t.Errorf("%s points in an hour, want some 60", points)
	}
	p.run(`const span = document.querySelector("#span"); span.value = "86400"; span.dispatchEvent(new Event("change"))`)
	p.wait(`document.querySelector("#chart").dataset.points === "300"`)
	p.clean()
}

func TestWithoutADatabaseTheChartIsLiveOnly(t *testing.T) {
	l := newLive(t)
	l.set(func() { l.stored = false })
	l.say(vans(1, 5, time.Now().Add(-time.Minute))...)
	p := open(t, l, "")
	p.wait(`document.querySelector("#chart").dataset.past === "missing"`)
	l.say(vans(1, 1, time.Now())...)
	p.wait(`document.querySelector("#chart").dataset.points === "1"`)
	p.clean()
}

func TestThousandsOfDevicesAndReadings(t *testing.T) {
	l := newLive(t)
	l.say(vans(5000, 1, time.Now().Add(-time.Minute))...)
	p := open(t, l, "")
	p.wait(`document.body.dataset.devices === "5000" && document.querySelector("#map").dataset.land !== undefined`)
	if got := p.ask(`document.querySelectorAll("#list .row").length < 60`); got != "true" {
		t.Error("the list holds more rows than can be seen")
	}
	p.do(chromedp.SendKeys(chromedp.CSS("#search"), "van-4711"))
	p.wait(`document.querySelector("#list").dataset.found === "1"`)
	p.do(chromedp.SendKeys(chromedp.CSS("#search"), strings.Repeat(kb.Backspace, 8)))

	// Three seconds at some 5,000 readings a second, in steps of 50 ms.
	p.run(`window.frames_ = 0; const count = () => { frames_++; requestAnimationFrame(count) }; count();`)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := range 60 {
		now := <-tick.C
		fleet := vans(5000, 1, now)
		l.say(fleet[i%20*250 : i%20*250+250]...)
	}
	p.wait(`document.body.dataset.readings === "15000"`)
	frames := p.ask("frames_")
	t.Logf("%s frames while 15,000 readings came, rate %s/s", frames, p.ask("document.body.dataset.rate"))
	p.photograph("5000-devices")
	p.clean()
}

func TestThePageFitsEveryScreen(t *testing.T) {
	l := newLive(t)
	l.say(vans(500, 1, time.Now())...)
	l.say(vans(5, 60, time.Now())...)
	p := open(t, l, "")
	f := func(name string, width, height int64) {
		t.Helper()
		p.size(width, height)
		p.wait(`document.querySelector("#chart canvas") !== null && document.querySelector("#map").dataset.land === "50m"`)
		p.wait(fmt.Sprintf(`innerWidth === %d && document.querySelector("#map").width === document.querySelector("#map").clientWidth`, width))
		if got := p.ask("document.documentElement.scrollWidth"); got != fmt.Sprint(width) {
			t.Errorf("%s: the page is %s px wide, the screen %d", name, got, width)
		}
		p.photograph(name)
	}
	f("light", 1280, 800)
	f("light-wide", 1920, 1080)
	f("light-tablet", 820, 1180)
	f("light-phone", 390, 844)
	p.dark()
	f("dark", 1280, 800)
	f("dark-phone", 390, 844)
	f("dark-small", 320, 568)
	p.clean()
}
