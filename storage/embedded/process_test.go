package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/internal/testkit"
	"millrace/storage/embedded"
)

// holdVariable makes the test binary a process that starts a server on the
// database it names, and waits to be killed.
const holdVariable = "MILLRACE_EMBEDDED_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdVariable); dir != "" {
		hold(dir)
	}
	testkit.Main(m)
}

func hold(dir string) {
	s, err := embedded.Start(context.Background(), embedded.Config{Listen: "127.0.0.1:0", Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("server %s %s\n", s.URL(), s.Folder())
	select {}
}

// killedHolder starts a server in another process, makes a table there, kills
// that process, and answers the number of the server's own.
func killedHolder(t *testing.T, dir string) (pid int) {
	t.Helper()
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holdVariable+"="+dir)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Wait() }() // it was killed
	var url, folder string
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "server %s %s\n", &url, &folder); scanErr != nil {
		t.Fatalf("%q, %v", line, err)
	}
	execute(t, url, "CREATE TABLE kept AS SELECT 7 AS v")
	pid = master(t, folder)
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestServerDiesWithAKilledProcess(t *testing.T) {
	server := killedHolder(t, filepath.Join(reachable(t), "data", "postgres"))
	testkit.Wait(t, "the server to end", func() bool { return syscall.Kill(server, 0) == syscall.ESRCH })
}

func TestGoesOnAfterAKilledProcess(t *testing.T) {
	c := config(t)
	c.Dir = filepath.Join(reachable(t), "data", "postgres")
	killedHolder(t, c.Dir)
	began := time.Now()
	s := start(t, c)
	t.Logf("after %v", time.Since(began))
	if v := ask[int](t, s.URL(), "SELECT v FROM kept"); v != 7 {
		t.Errorf("v = %d", v)
	}
}

func TestTakesOverAServerLeftRunning(t *testing.T) {
	c := config(t)
	s := start(t, c)
	closeServer(t, s)
	left := leftRunning(t, s.Folder())
	exited := make(chan error, 1)
	go func() { exited <- left.Wait() }()
	s = start(t, c)
	if err := <-exited; err != nil {
		t.Errorf("the server that was left was not shut down in order: %v", err)
	}
	ask[int](t, s.URL(), "SELECT 1")
}

// leftRunning is a server on the database that no process looks after.
func leftRunning(t *testing.T, folder string) *exec.Cmd {
	t.Helper()
	opts, err := os.ReadFile(filepath.Join(folder, "postmaster.opts"))
	if err != nil {
		t.Fatal(err)
	}
	program, _, _ := strings.Cut(string(opts), " ")
	var stat syscall.Stat_t
	if err := syscall.Stat(folder, &stat); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-D", folder, "-c", "unix_socket_directories=",
		"-c", "port="+strconv.Itoa(testkit.FreePort(t)))
	cmd.Dir = folder
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Wait(t, "the server to be ready", func() bool {
		state, err := os.ReadFile(filepath.Join(folder, "postmaster.pid"))
		return err == nil && strings.Contains(string(state), "ready")
	})
	return cmd
}

func TestNumberOfADeadServerMayBelongToAnotherProcess(t *testing.T) {
	c := config(t)
	s := start(t, c)
	file := filepath.Join(s.Folder(), "postmaster.pid")
	state, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	closeServer(t, s)
	_, rest, _ := strings.Cut(string(state), "\n")
	write(t, file, strconv.Itoa(os.Getppid())+"\n"+rest)
	start(t, c)
}

// TestAsOrdinaryUser runs this package's tests once more as a user who is not
// root, with a home that is a data folder's usual place.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // that is what all the others do then
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(nobody.Uid)
	gid, err2 := strconv.Atoi(nobody.Gid)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	home := reachable(t)
	binary := filepath.Join(home, "embedded.test")
	copyFile(t, os.Args[0], binary)
	if err := os.Chown(home, uid, gid); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.v", "-test.run", "Restart|Password|Crash|Takes|Dies|GoesOn|Find")
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "TMPDIR=" + home, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// Root's server runs as another user, whose files are where that user can go;
// root's folders stay closed.
func TestRootStaysOutOfIt(t *testing.T) {
	if os.Getuid() != 0 {
		return // there is no root to keep out
	}
	c := config(t)
	home := filepath.Dir(filepath.Dir(c.Dir))
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, c)
	if s.User() == "root" || !strings.HasPrefix(s.Folder(), c.Elsewhere) {
		t.Errorf("user %s, folder %s", s.User(), s.Folder())
	}
	var stat syscall.Stat_t
	if err := syscall.Stat("/proc/"+strconv.Itoa(master(t, s.Folder())), &stat); err != nil || stat.Uid == 0 {
		t.Errorf("the server runs as user number %d, %v", stat.Uid, err)
	}
	if info, err := os.Stat(home); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("root's folder is open now: %v, %v", info.Mode(), err)
	}
	if b, err := os.ReadFile(c.Dir + ".place"); err != nil || string(b) != s.Folder()+"\n" {
		t.Errorf("the note says %q, %v", b, err)
	}
}

func TestAnotherUserIsRefusedToAnExistingDatabase(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root can choose
	}
	c := config(t)
	closeServer(t, start(t, c))
	c.User = "nobody"
	_, err := embedded.Start(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "leave out --postgres-user nobody") {
		t.Errorf("got %v", err)
	}
}

func TestDataFolderInReachIsUsedAsItIs(t *testing.T) {
	c := config(t)
	c.Dir = filepath.Join(reachable(t), "data", "postgres")
	if s := start(t, c); s.Folder() != c.Dir {
		t.Errorf("folder %s, want %s", s.Folder(), c.Dir)
	}
}
