package deploy_test

import (
	"encoding/json"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"millrace/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func project(t *testing.T, environment ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join("..", "docker-compose.yml")}, cli.WithEnv(environment))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

// loaded is the project with the passwords that it asks for.
func loaded(t *testing.T) *types.Project {
	t.Helper()
	p, err := project(t, "MILLRACE_POSTGRES_PASSWORD=secret", "MILLRACE_GRAFANA_PASSWORD=secret")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeAsksForPasswords(t *testing.T) {
	if _, err := project(t); err == nil || !strings.Contains(err.Error(), "choose a password") {
		t.Errorf("got %v", err)
	}
}

func TestComposeHasTheProductionShape(t *testing.T) {
	p := loaded(t)
	want := []string{
		"broadcast-1", "broadcast-2", "grafana", "ingest", "kafka", "migrate", "nginx", "prometheus", "sink", "timescale",
	}
	if got := p.ServiceNames(); !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
	for name, s := range p.Services {
		if name != "migrate" && (s.HealthCheck == nil || s.HealthCheck.Disable) {
			t.Errorf("%s has no health check", name)
		}
		if !strings.Contains(s.Image, ":") || strings.HasPrefix(s.Image, "millrace:") != (s.Build != nil) {
			t.Errorf("%s: image %s is not pinned, or built from nothing", name, s.Image)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s to other machines, and nobody has to log in", name, port.Published)
			}
		}
	}
}

// The same image runs all roles; each is named by its command.
func TestEveryRoleFindsWhatItNeeds(t *testing.T) {
	p := loaded(t)
	for service, role := range map[string]string{
		"migrate": "migrate", "ingest": "ingest", "broadcast-1": "broadcast", "broadcast-2": "broadcast", "sink": "sink",
	} {
		s := p.Services[service]
		if len(s.Command) != 1 || s.Command[0] != role {
			t.Errorf("%s runs %v, want %s", service, s.Command, role)
		}
		checkDatabase(t, p, service)
		if role == "migrate" {
			continue
		}
		if got := variable(s, "MILLRACE_KAFKA"); got != "kafka:9092" {
			t.Errorf("%s finds Kafka at %q", service, got)
		}
		if got := variable(s, "MILLRACE_HTTP"); got != "0.0.0.0:8080" || !strings.Contains(strings.Join(s.HealthCheck.Test, " "), ":8080/readyz") {
			t.Errorf("%s listens at %q and is asked for its health by %v", service, got, s.HealthCheck.Test)
		}
		for _, before := range []string{"kafka", "migrate"} {
			if _, ok := s.DependsOn[before]; !ok {
				t.Errorf("%s does not wait for %s", service, before)
			}
		}
	}
}

func checkDatabase(t *testing.T, p *types.Project, service string) {
	t.Helper()
	u, err := url.Parse(variable(p.Services[service], "MILLRACE_POSTGRES"))
	if err != nil {
		t.Fatal(err)
	}
	server := p.Services["timescale"]
	password, _ := u.User.Password()
	if u.Hostname() != "timescale" || u.Port() != "5432" || u.User.Username() != variable(server, "POSTGRES_USER") ||
		password != variable(server, "POSTGRES_PASSWORD") || u.Path != "/"+variable(server, "POSTGRES_DB") {
		t.Errorf("%s looks for its database at %s", service, u.Redacted())
	}
}

func variable(s types.ServiceConfig, name string) string {
	value := s.Environment[name]
	if value == nil {
		return ""
	}
	return *value
}

// What nginx, Prometheus and Grafana name is a service that listens there.
func TestFilesNameServicesThatAreThere(t *testing.T) {
	p := loaded(t)
	named := regexp.MustCompile(`\b([a-z][a-z0-9-]*):(8080|9090)\b`)
	for _, file := range []string{"nginx.conf", "prometheus.yml", "grafana/provisioning/datasources/prometheus.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := named.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s names no service", file)
		}
		for _, m := range found {
			s, ok := p.Services[m[1]]
			_, port, _ := net.SplitHostPort(variable(s, "MILLRACE_HTTP"))
			if !ok || m[1] != "prometheus" && port != m[2] {
				t.Errorf("%s names %s", file, m[0])
			}
		}
	}
}

func TestMountedFilesExist(t *testing.T) {
	for name, s := range loaded(t).Services {
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A panel that asks for a metric under a name that nobody exports stays empty
// for ever, and looks as if nothing happened.
func TestDashboardAsksForMetricsThatExist(t *testing.T) {
	text, err := os.ReadFile("grafana/dashboards/millrace.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	exported := metricsInCode(t)
	name := regexp.MustCompile(`millrace_([a-z_]+)`)
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			for _, m := range name.FindAllStringSubmatch(target.Expr, -1) {
				if !exported[strings.TrimSuffix(m[1], "_bucket")] {
					t.Errorf("panel %q asks for %s, which nothing exports", panel.Title, m[0])
				}
			}
		}
	}
	if len(dashboard.Panels) == 0 {
		t.Error("no panel")
	}
}

// metricsInCode are the names in the calls that register metrics.
func metricsInCode(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "internal", "obs", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`(?:counter|gauge|histogram)s?\("([a-z_]+)"`)
	names := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
	}
	return names
}
