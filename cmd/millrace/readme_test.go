package main_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/internal/testkit"
)

// answers are what the commands of the README's section 'In five minutes' have
// to say, by how they begin.
var answers = []struct{ begins, says string }{
	{"mosquitto_pub ", ""},
	{"curl -d ", `"accepted":1`},
	{"curl -N ", `"device":"my-truck"`},
	{"curl 'http", `"speed":61.3`},
	{"psql ", "61.3"},
	{"bin/millrace verify", "Log and database agree."},
}

// TestReadmeInFiveMinutes runs what the README tells a newcomer to type.
func TestReadmeInFiveMinutes(t *testing.T) {
	d := newDeployment(t)
	ran := 0
	for _, line := range strings.Split(snippet(t, "In five minutes"), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		says, known := "", false
		for _, a := range answers {
			if strings.HasPrefix(line, a.begins) {
				says, known = a.says, true
			}
		}
		if !known {
			t.Errorf("what should this say? Add it to answers:\n%s", line)
			continue
		}
		if strings.HasPrefix(line, "psql") || strings.HasPrefix(line, "bin/millrace verify") {
			d.settle(4, "select count(*) from telemetry where device = 'my-truck'") // the sink is a moment behind
		}
		d.enter(t, line, says)
		ran++
	}
	if ran < len(answers) {
		t.Errorf("%d commands were run, want each of %v", ran, answers)
	}
}

// snippet is the first shell block below a heading of the README.
func snippet(t *testing.T, heading string) string {
	t.Helper()
	_, section, found := strings.Cut(page(t, "README.md"), "\n## "+heading+"\n")
	_, block, opened := strings.Cut(section, "\n```sh\n")
	block, _, closed := strings.Cut(block, "\n```")
	if !found || !opened || !closed {
		t.Fatalf("the README has no shell block below %q", heading)
	}
	return block
}

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testkit.Root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// enter runs a line in a shell as if this deployment had the usual ports, until
// it ends or, where it goes on for ever, until it has said what it should.
func (d *deployment) enter(t *testing.T, line, says string) {
	t.Helper()
	_, port, _ := strings.Cut(d.mqtt, ":")
	here := strings.NewReplacer("127.0.0.1:8080", d.http, "-p 1883", "-p "+port, "bin/millrace", testkit.Binary(t)).Replace(line)
	curl := t.TempDir()
	if err := os.WriteFile(filepath.Join(curl, ".curlrc"), []byte("fail\nsilent\nshow-error\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", here)
	shell.Env = append(os.Environ(), "MILLRACE_DATA="+d.data, "CURL_HOME="+curl, "PAGER=")
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	shell.Stderr = shell.Stdout
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, func() { _ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) })
	defer late.Stop()
	endless := strings.HasPrefix(line, "curl -N ")
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if endless && strings.Contains(said.String(), says) {
			_ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL)
		}
	}
	if err := shell.Wait(); err != nil && !endless || !strings.Contains(said.String(), says) {
		t.Errorf("%s\n%v; it does not say %q:\n%s", here, err, says, said.String())
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
)

// TestLinks: what the pages point at within the repository is there.
func TestLinks(t *testing.T) {
	root := testkit.Root(t)
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	decisions, err := filepath.Glob(filepath.Join(root, "docs", "adr", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "ARCHITECTURE.md", "CHANGELOG.md"} {
		pages = append(pages, filepath.Join(root, name))
	}
	for _, name := range append(pages, decisions...) {
		text := page(t, strings.TrimPrefix(name, root))
		for _, found := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, ":") {
				continue // of the web
			}
			to := name
			if target != "" {
				to = filepath.Join(filepath.Dir(name), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s points at %s, which is not there", name, found[1])
			} else if anchor != "" && !anchors(page(t, strings.TrimPrefix(to, root)))[anchor] {
				t.Errorf("%s points at %s, and there is no such heading", name, found[1])
			}
		}
	}
}

// anchors are the headings of a page as links name them.
func anchors(text string) map[string]bool {
	list := map[string]bool{}
	for _, h := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		list[strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_', r > 0x7f:
				return r
			case r == ' ':
				return '-'
			}
			return -1
		}, strings.ToLower(h[1]))] = true
	}
	return list
}

// TestReadmeNamesTests: the tests that keep a promise are there.
func TestReadmeNamesTests(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	named := regexp.MustCompile(`go test \./cmd/millrace -run '?([A-Za-z]+)'?`).FindAllStringSubmatch(page(t, "README.md"), -1)
	if len(named) == 0 {
		t.Error("the README names no test")
	}
	for _, n := range named {
		if !regexp.MustCompile(`(?m)^func Test\w*` + strings.TrimPrefix(n[1], "Test") + `\w*\(t \*testing\.T\)`).MatchString(tests.String()) {
			t.Errorf("the README names the test %s, which is not there", n[1])
		}
	}
}
