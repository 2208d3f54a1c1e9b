#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, and says so. Run by
# `make deps`; running it again is cheap and changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

kafka=4.1.1 # the version that internal/testkit starts

# has PROGRAM: in PATH, or where Debian keeps servers.
has() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null; }

debian_packages() {
	local missing=()
	has gcc || missing+=(gcc libc6-dev) # the race detector
	has mosquitto || missing+=(mosquitto)
	has mosquitto_pub || missing+=(mosquitto-clients)
	has nginx || missing+=(nginx-light)
	has chromium || has google-chrome || missing+=(chromium)
	has psql || missing+=(postgresql-client)
	has initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
	has curl || missing+=(curl)
	if [ ${#missing[@]} -eq 0 ]; then return; fi
	if ! has apt-get || [ "$(id -u)" -ne 0 ]; then
		echo "deps: this needs root and apt-get; install by hand what these Debian packages bring: ${missing[*]}" >&2
		exit 1
	fi
	echo "deps: installing Debian packages: ${missing[*]}"
	apt_quietly update
	apt_quietly install --no-install-recommends "${missing[@]}"
}

# apt_quietly shows its output only if it fails. The packages' own servers are
# not started: they would take the ports that Millrace listens on.
apt_quietly() {
	local policy=/usr/sbin/policy-rc.d log
	log=$(mktemp)
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 || {
		cat "$log" >&2
		exit 1
	}
	rm -f "$log"
}

kafka_jars() {
	local lib=.cache/kafka-$kafka/lib
	if [ -d "$lib" ]; then return; fi
	has mvn || { echo "deps: Maven is not installed; it brings Apache Kafka for the tests" >&2; exit 1; }
	echo "deps: copying Apache Kafka $kafka from Maven into $lib (54 MB)"
	rm -rf "$lib.part"
	mvn -q -B -f internal/testkit/kafka/pom.xml dependency:copy-dependencies \
		-DincludeScope=runtime "-DoutputDirectory=$PWD/$lib.part"
	mv "$lib.part" "$lib"
}

pglite() {
	local folder=internal/testkit/pglite
	if [ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]; then return; fi
	echo "deps: installing PGlite with TimescaleDB for the tests (npm ci, 50 MB)"
	(cd "$folder" && npm ci --no-audit --no-fund --loglevel=error)
	touch "$folder/node_modules/.package-lock.json"
}

debian_packages
kafka_jars
pglite
