package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// terminal is where a command speaks: results on out, all else on err.
type terminal struct {
	out, err io.Writer
}

func (t *terminal) printf(format string, args ...any) { fmt.Fprintf(t.out, format, args...) }

// tell says what goes on: a line on standard error.
func (t *terminal) tell(format string, args ...any) { fmt.Fprintf(t.err, format+"\n", args...) }

// interactive says whether somebody looks at standard error.
func (t *terminal) interactive() bool { return isTerminal(t.err) }

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// logger logs to standard error what is at least as severe as the flag says,
// or as otherwise where it says nothing.
func (t *terminal) logger(f logFlags, otherwise slog.Level) *slog.Logger {
	level := otherwise
	if f.LogLevel != "" {
		_ = level.UnmarshalText([]byte(f.LogLevel)) // kong has checked the word
	}
	options := &slog.HandlerOptions{Level: level}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(t.err, options))
	}
	return slog.New(slog.NewTextHandler(t.err, options))
}

// failure is an error with an exit code of its own.
type failure struct {
	error
	code int
}

// usage is an error in the command line: exit code 2.
func usage(format string, args ...any) error { return failure{fmt.Errorf(format, args...), 2} }

func exitCode(err error) int {
	var f failure
	if errors.As(err, &f) {
		return f.code
	}
	return 1
}

// steps tells of each step that takes time.
func (t *terminal) steps(what string) func(step string) {
	return func(step string) { t.tell("millrace: %s%s", what, step) }
}
