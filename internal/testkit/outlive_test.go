package testkit_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"millrace/internal/testkit"
)

// childVariable makes this test binary a process to be killed.
const childVariable = "MILLRACE_TESTKIT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		testkit.Main(m)
	}
	m.Run()
	os.Exit(0)
}

// TestInTheChild starts a server, says where, and waits to be killed.
func TestInTheChild(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		return // it is there for the test below
	}
	fmt.Printf("url %s\n", testkit.Postgres(t))
	select {}
}

func TestNoServerOutlivesAKilledTestProcess(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run", "^TestInTheChild$")
	child.Env = append(os.Environ(), childVariable+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var url string
	if _, err := fmt.Fscanf(bufio.NewReader(out), "url %s\n", &url); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	testkit.Wait(t, "the server to end", func() bool {
		return conn.Ping(t.Context()) != nil && refused(url)
	})
}

func refused(url string) bool {
	conn, err := pgx.Connect(context.Background(), url)
	if err == nil {
		err = conn.Close(context.Background())
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
