#!/usr/bin/env bash
# Builds the library with one kind of store at a time and runs its tests: PostgreSQL alone on private servers, DynamoDB alone on
# the embedded one, and on another emulator where CUTOVER_TEST_AWS_ENDPOINT names one.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cutover/target}"

# One that fails hides no other.
failed=0
for features in postgresql dynamodb,embedded-dynamodb; do
  echo "== $features"
  cargo test --locked --no-default-features --features "$features" --lib "$@" || failed=1
done
exit $failed
