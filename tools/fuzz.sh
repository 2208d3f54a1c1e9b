#!/usr/bin/env bash
# Runs every fuzz test of the module, one after the other, for the given time.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:-20s}
go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | while read -r package; do
	go test -list '^Fuzz' "$package" | { grep '^Fuzz' || true; } | while read -r name; do
		echo "$package $name"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$package" </dev/null
	done
done
