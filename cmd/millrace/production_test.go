package main_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"millrace/internal/testkit"
)

// production is what docker-compose.yml describes, as processes of this
// machine: each service of ours runs its own command in its own environment,
// and only the names and ports that Docker would give are put in.
type production struct {
	t         *testing.T
	services  types.Services
	kafka     string
	postgres  string
	front     string            // nginx
	addresses map[string]string // of what a service listens at: "ingest:8080"
	running   map[string]*testkit.Program
}

// ours are the services that keep running, in the order of the way of a reading.
func ours() []string { return []string{"ingest", "broadcast-1", "broadcast-2", "sink"} }

func newProduction(t *testing.T) *production {
	t.Helper()
	p := &production{
		t: t, kafka: testkit.NewKafka(t).Addr(), front: testkit.Loopback(testkit.FreePort(t)),
		addresses: map[string]string{}, running: map[string]*testkit.Program{},
	}
	if testkit.RealTimescale() {
		p.postgres = testkit.Timescale(t)
	} else {
		p.postgres = testkit.Postgres(t) // PGlite serves one connection at a time
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(testkit.Root(t), "docker-compose.yml")},
		cli.WithEnv([]string{"MILLRACE_POSTGRES_PASSWORD=secret", "MILLRACE_GRAFANA_PASSWORD=secret"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.services = project.Services
	return p
}

// address is where what listens at a port of a service does so here.
func (p *production) address(service, port string) string {
	name := net.JoinHostPort(service, port)
	if p.addresses[name] == "" {
		p.addresses[name] = testkit.Loopback(testkit.FreePort(p.t))
	}
	return p.addresses[name]
}

func (p *production) http(service string) string { return p.address(service, "8080") }

// environment of a service: of the file, and of the image it runs in.
func (p *production) environment(service string) []string {
	p.t.Helper()
	list := []string{"MILLRACE_DATA=" + p.t.TempDir(), "MILLRACE_LOG_FORMAT=json"}
	for name, value := range p.services[service].Environment {
		text := *value
		if port, listens := strings.CutPrefix(text, "0.0.0.0:"); listens {
			text = p.address(service, port)
		}
		if name == "MILLRACE_POSTGRES" {
			text = p.postgres
		}
		list = append(list, name+"="+strings.ReplaceAll(text, "kafka:9092", p.kafka))
	}
	return list
}

// start starts services, all at once, and waits until each is ready.
func (p *production) start(services ...string) {
	p.t.Helper()
	for _, service := range services {
		p.running[service] = testkit.Run(p.t, p.environment(service), p.services[service].Command...)
	}
	for _, service := range services {
		ready(p.t, p.http(service))
	}
}

// once runs a command of millrace in the environment of a service.
func (p *production) once(service string, command ...string) {
	p.t.Helper()
	if code := testkit.Run(p.t, p.environment(service), command...).Wait(); code != 0 {
		p.t.Errorf("millrace %s in %s: exit code %d", strings.Join(command, " "), service, code)
	}
}

// deployed is a file of deploy, with the services' names in it replaced.
func (p *production) deployed(name string) string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(testkit.Root(p.t), "deploy", name))
	if err != nil {
		p.t.Fatal(err)
	}
	replaced := string(text)
	for _, service := range ours() {
		replaced = strings.ReplaceAll(replaced, service+":8080", p.http(service))
	}
	return strings.ReplaceAll(replaced, "listen 8080", "listen "+p.front)
}

// viewer is a screen behind nginx. When its connection breaks it goes on at
// its cursor, wherever nginx sends it.
type viewer struct {
	*follower
	resumed atomic.Int32
}

// view starts a viewer, which is live when view returns and ends with the test.
func (p *production) view(listen func(ctx context.Context, f *follower, live func()) error) *viewer {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v := &viewer{follower: newFollower(math.MaxInt, cancel)}
	live := make(chan struct{})
	go func() { // cancel ends it
		defer close(v.done)
		once := sync.OnceFunc(func() { close(live) })
		again := time.NewTicker(50 * time.Millisecond)
		defer again.Stop()
		for ; ctx.Err() == nil; v.resumed.Add(1) {
			if err := listen(ctx, v.follower, once); err != nil {
				<-again.C
			}
		}
	}()
	p.t.Cleanup(func() { cancel(); <-v.done })
	<-live
	return v
}

func (f *follower) at() (count int, cursor string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count, f.cursor
}

// seen waits until the viewer shows so many readings, and answers them.
func (v *viewer) seen(t *testing.T, who string, want int) map[string][]string {
	t.Helper()
	count := 0
	testkit.Wait(t, fmt.Sprintf("%s to show %d readings", who, want), func() bool {
		count, _ = v.at()
		return count >= want
	})
	v.cancel()
	<-v.done
	if v.resumed.Load() < 2 { // the last time is our own doing
		t.Errorf("%s was never cut off", who)
	}
	return v.lines
}

func (p *production) viewSSE(ctx context.Context, f *follower, live func()) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.front+"/v1/stream", nil)
	if err != nil {
		return err
	}
	if _, cursor := f.at(); cursor != "" {
		request.Header.Set("Last-Event-ID", cursor)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	f.readSSE(bufio.NewScanner(response.Body), live)
	return nil
}

func (p *production) viewSocket(ctx context.Context, f *follower, live func()) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	socket, _, err := websocket.Dial(ctx, "ws://"+p.front+"/v1/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return err
	}
	defer socket.CloseNow()
	socket.SetReadLimit(8 << 20)
	_, cursor := f.at()
	subscribe := fmt.Sprintf(`{"op":"subscribe","id":"a","from":%q}`, cursor)
	if err := socket.Write(ctx, websocket.MessageText, []byte(subscribe)); err != nil {
		return err
	}
	f.readSocket(ctx, socket, live)
	return nil
}

// TestProduction runs what docker-compose.yml and deploy describe, kills each
// of its roles in the middle of everything, and counts.
func TestProduction(t *testing.T) {
	t.Parallel()
	p := newProduction(t)
	p.once("migrate", p.services["migrate"].Command...)
	p.start(ours()...)
	testkit.Nginx(t, p.front, p.deployed("nginx.conf"))
	sse, socket := p.view(p.viewSSE), p.view(p.viewSocket)
	devices := slices.Concat(
		numberedDevices(t, "truck", 4, overMQTT(p.address("ingest", "1883"))),
		numberedDevices(t, "meter", 2, overHTTP(p.front)),
	)
	advance(t, devices, 100)
	p.checkMetrics()

	for _, service := range ours() {
		p.running[service].Kill()
		if service != "ingest" { // nobody is acknowledged without it
			advance(t, devices, 50)
		}
		p.start(service)
		advance(t, devices, 50)
	}

	finished(t, devices)
	lines := readLog(t, p.kafka, "millrace.readings")
	checkLog(t, lines, devices)
	total := 0
	for _, list := range lines {
		total += len(list)
	}
	sameByDevice(t, "SSE through nginx", sse.seen(t, "SSE", total), lines)
	sameByDevice(t, "WebSocket through nginx", socket.seen(t, "WebSocket", total), lines)
	claimed(t, p.http("sink"))
	checkStored(t, p.postgres, devices)
	p.once("sink", "verify")
	p.stop()
}

// stop ends the services as Docker does.
func (p *production) stop() {
	p.t.Helper()
	for _, service := range ours() {
		program, began := p.running[service], time.Now()
		if err := syscall.Kill(program.Pid(), syscall.SIGTERM); err != nil {
			p.t.Fatal(err)
		}
		code, took := program.Wait(), time.Since(began)
		if limit := time.Duration(*p.services[service].StopGracePeriod); code != 0 || took > limit {
			p.t.Errorf("%s: exit code %d after %v; Docker kills after %v", service, code, took, limit)
		}
	}
}

// checkMetrics asks each target that Prometheus is told of, at the port that
// the service listens at, for what says how the role is doing.
func (p *production) checkMetrics() {
	p.t.Helper()
	counted := map[string][]string{ // none of them is zero in a running system
		"ingest": {
			"ingest_readings_total", "ingest_append_seconds_count", "mqtt_connections", "mqtt_acknowledged_total",
			"mqtt_acknowledge_seconds_count", "http_ingest_seconds_count", "log_appends_total",
		},
		"broadcast-1": {"hub_records_total", "hub_round_seconds_count"},
		"broadcast-2": {"hub_records_total", "hub_round_seconds_count"},
		"sink":        {"sink_records_total", "sink_values_total", "sink_commit_seconds_count", "log_partitions_claimed", "log_records_handled_total"},
	}
	targets := regexp.MustCompile(`targets: \[(.*)\]`).FindAllStringSubmatch(p.deployed("prometheus.yml"), -1)
	named := ""
	for _, list := range targets {
		named += list[1]
	}
	for service, names := range counted {
		if !strings.Contains(named, `"`+p.http(service)+`"`) {
			p.t.Errorf("prometheus.yml does not ask %s at its port", service)
		}
		p.checkFormat(service)
		for _, name := range names {
			testkit.Wait(p.t, service+" to count "+name, func() bool { return metric(p.t, p.http(service), "millrace_"+name) > 0 })
		}
	}
	clients := metric(p.t, p.http("broadcast-1"), "millrace_hub_clients") + metric(p.t, p.http("broadcast-2"), "millrace_hub_clients")
	if clients != 2 {
		p.t.Errorf("the broadcasters count %v clients, want 2", clients)
	}
	if metric(p.t, p.http("sink"), "millrace_log_lag_records") < 0 || metric(p.t, p.http("ingest"), "millrace_log_appends_pending") < 0 {
		p.t.Error("less than nothing waits")
	}
}

// checkFormat reads the metrics as Prometheus does.
func (p *production) checkFormat(service string) {
	p.t.Helper()
	response, err := http.Get("http://" + p.http(service) + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	problems, err := promlint.New(response.Body).Lint()
	if err != nil || len(problems) > 0 {
		p.t.Errorf("the metrics of %s: %v %v", service, problems, err)
	}
}
