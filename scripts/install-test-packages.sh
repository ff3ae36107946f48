#!/usr/bin/env bash
# Installs what npm cannot: a real Redis and PgBouncer for the scale suites, promtool for the names of metrics, and curl for the
# README's tour. Safe to run again; does nothing where they are already there, and says so where it may not install (the tests that
# need one are then skipped and named).
set -euo pipefail
missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v pgbouncer >/dev/null || missing+=(pgbouncer)
command -v promtool >/dev/null || missing+=(prometheus)
command -v curl >/dev/null || missing+=(curl ca-certificates)
if [ ${#missing[@]} = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed, and not installable by this user: ${missing[*]}" >&2
  exit 0
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
