// Command millrace carries telemetry from devices to screens and to SQL.
//
//	MQTT, HTTP, brokers ─▶ ingest ─▶ Kafka ─▶ broadcast ─▶ screens
//	                                      └─▶ sink ─▶ TimescaleDB
//
// This package reads flags, the environment and signals, introduces the
// packages to each other and calls os.Exit; no other package does. A role
// (ingest, bridge, broadcast, sink) is a method that adds its services to a
// [house]; up adds them all.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the linker.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and answers the exit code: 0 done, 1 the
// command failed, 2 the command line is wrong.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("millrace"),
		kong.Description(description),
		kong.DefaultEnvars("MILLRACE"),
		kong.Vars{"version": version},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, NoExpandSubcommands: true}),
	)
	if err != nil {
		fmt.Fprintf(stderr, "millrace: %v\n", err)
		return 2
	}
	command, err := parser.Parse(args)
	if exit >= 0 {
		return exit // --help was asked for and answered
	}
	if err != nil {
		complain(stderr, parser.Model, args, err)
		return 2
	}
	terminal := &terminal{out: stdout, err: stderr}
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(terminal); err != nil {
		fmt.Fprintf(stderr, "millrace %s: %v\n", nameOf(command), err)
		return exitCode(err)
	}
	return 0
}

// complain says what is wrong with a command line, and where to read on.
func complain(stderr io.Writer, model *kong.Application, args []string, err error) {
	known := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		if slices.ContainsFunc(model.Children, func(n *kong.Node) bool { return n.Name == args[0] }) {
			known = args[0] + " "
		} else {
			err = fmt.Errorf("there is no command %q", args[0])
		}
	}
	fmt.Fprintf(stderr, "millrace: %v\n(millrace %s--help lists what there is)\n", err, known)
}

// nameOf a command: its words without its arguments.
func nameOf(command *kong.Context) string {
	name, _, _ := strings.Cut(command.Command(), " <")
	return name
}
