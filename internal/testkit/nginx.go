package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Nginx starts nginx in front of something for this test. conf is what stands
// in its http block; it must listen on 127.0.0.1 with ports from [FreePort],
// and addr is the one by which to see that it answers.
func Nginx(t testing.TB, addr, conf string) {
	t.Helper()
	file := nginxConf(t, conf)
	cmd := nginxCommand(t, file)
	p, err := start("nginx", cmd, filepath.Join(filepath.Dir(file), "nginx.log"), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(syscall.SIGTERM); err != nil {
			t.Errorf("end nginx: %v", err)
		}
	})
	if err := p.ready(func() bool { return accepts(addr) }); err != nil {
		t.Fatal(err)
	}
}

// CheckNginx lets nginx say whether it would take conf as its http block.
func CheckNginx(t testing.TB, conf string) error {
	t.Helper()
	cmd := nginxCommand(t, nginxConf(t, conf))
	cmd.Args = append(cmd.Args, "-t")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nginx: %w: %s", err, out)
	}
	return nil
}

func nginxCommand(t testing.TB, file string) *exec.Cmd {
	t.Helper()
	program, err := find("nginx", "run 'make deps'")
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(program, "-p", filepath.Dir(file), "-c", file, "-e", "stderr")
}

// nginxConf wraps an http block so that one process does it all and writes
// only below the test's folder.
func nginxConf(t testing.TB, http string) string {
	t.Helper()
	dir := t.TempDir()
	conf := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
access_log off;
client_body_temp_path %[1]s/body;
proxy_temp_path %[1]s/proxy;
fastcgi_temp_path %[1]s/fastcgi;
uwsgi_temp_path %[1]s/uwsgi;
scgi_temp_path %[1]s/scgi;
%[2]s
}
`, dir, http)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
