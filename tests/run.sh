#!/usr/bin/env bash
# Runs every test: installs what is missing, starts what is needed on free loopback ports, stops it again.
# Usage: tests/run.sh [cargo test arguments]
#        tests/run.sh long [DIR]
#
# `long` is everything there is: every test with the kill matrices whole, public sample schemas where DIR has them
# (tests/samples.sh), and the library with one kind of store at a time (tests/pairs.sh). It takes hours.
set -euo pipefail
# Before the folder changes: DIR is the caller's.
if [ "${1-}" = long ]; then
  if [ -n "${2-}" ]; then
    CUTOVER_TEST_SAMPLES=$(cd "$2" && pwd)
    export CUTOVER_TEST_SAMPLES
  else
    echo "without a folder of public samples: none of them moves (tests/samples.sh says where they are)"
  fi
fi
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cutover/target}"

venv="${XDG_CACHE_HOME:-$HOME/.cache}/cutover/emulators"
work=$(mktemp -d)
pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap stop EXIT

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

postgres_here() { command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; }
if ! postgres_here && command -v apt-get >/dev/null; then
  echo "installing postgresql"
  as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends postgresql-15 >/dev/null ||
    echo "no postgresql package; the tests unpack a wheel instead"
fi

# What people have in front of it.
if ! command -v pgbouncer >/dev/null && [ ! -x /usr/sbin/pgbouncer ] && command -v apt-get >/dev/null; then
  echo "installing pgbouncer"
  as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends pgbouncer >/dev/null ||
    echo "no pgbouncer package; CUTOVER_TEST_NEIGHBOURS_REQUIRED= skips the tests that want it"
fi
# Where it can be had, a test that cannot use it fails: nothing is skipped unseen.
if command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || command -v apt-get >/dev/null; then
  export CUTOVER_TEST_NEIGHBOURS_REQUIRED="${CUTOVER_TEST_NEIGHBOURS_REQUIRED-1}"
fi

# The independent opinion on DynamoDB, SSM, CloudWatch and API Gateway. cbor2 is what its CloudWatch needs.
if [ ! -x "$venv/bin/ministack" ]; then
  echo "installing ministack"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check 'ministack==1.5.33' cbor2
fi

# Each call starts another one, with nothing in it, and stops the one before.
emulator=
start_emulator() {
  [ -z "$emulator" ] || kill "$emulator" 2>/dev/null || true
  local port
  port=$(free_port)
  BIND_HOST=127.0.0.1 GATEWAY_PORT=$port "$venv/bin/ministack" >"$work/ministack.log" 2>&1 &
  emulator=$!
  pids+=("$emulator")
  for _ in $(seq 300); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    kill -0 "$emulator" 2>/dev/null || { cat "$work/ministack.log"; exit 1; }
    read -r -t 0.1 <> <(:) || true
  done
  export CUTOVER_TEST_AWS_ENDPOINT="http://127.0.0.1:$port"
}

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
start_emulator
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1

if [ "${1-}" != long ]; then
  cargo test --locked --features failpoints --tests "$@"
  exit
fi
# One part that fails hides no other.
failed=0
export CUTOVER_TEST_MATRIX=all
cargo test --locked --features failpoints --tests --no-fail-fast -- --nocapture || failed=1
start_emulator
tests/pairs.sh --no-fail-fast || failed=1
exit $failed
