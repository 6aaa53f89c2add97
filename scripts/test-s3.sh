#!/usr/bin/env bash
# test-s3.sh: the stores' tests against a real S3 server (`make test-s3`).
#
#   scripts/test-s3.sh [ARGUMENTS FOR cargo test]
#
# Builds MinIO if need be, starts one of its own (see minio.sh), runs tests/stores, stops
# what it started, and ends with one line: "N passed, N failed". The exit code is 0 only if
# every step went well and at least one test ran.
#
# Settings: STRANDLINE_TEST_STATE (target/services); those of minio.sh; cargo's own.
# shellcheck source-path=SCRIPTDIR source=suite.sh
. "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
case ${1:-} in -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;; esac

# One per run, so that two runs do not stop each other's.
MINIO_DATA=$(absolute "${STRANDLINE_TEST_STATE:-$ROOT/target/services}")/minio-$$
export MINIO_DATA
OUTPUT=$(mktemp) # of cargo test, for the counts
FETCH_LOG=$(mktemp)
FETCH= # process group of the build, while it runs

cleanup() {
  trap '' INT TERM HUP
  [ -z "$FETCH" ] || kill -TERM -- "-$FETCH" 2>/dev/null || true
  scripts/minio.sh wipe || true
  rm -f "$OUTPUT" "$FETCH_LOG"
}
ends_with cleanup

run_tests() {
  eval "$(scripts/minio.sh env)"
  # Not Strandline's own setting: the tests take it for no store of theirs.
  export STRANDLINE_TEST_STORAGE_URL=$STRANDLINE_STORAGE_URL
  unset STRANDLINE_STORAGE_URL
  STRANDLINE_TEST_MINIO=$(scripts/minio.sh program)
  export STRANDLINE_TEST_MINIO
  cargo test --locked --no-fail-fast --test stores "$@" 2>&1 </dev/null | tee "$OUTPUT"
}

scripts/install.sh --go </dev/null
set -m
scripts/minio.sh fetch >"$FETCH_LOG" 2>&1 </dev/null &
FETCH=$!
set +m
echo "==> lints and build"
cargo clippy --locked --test stores -- -D warnings </dev/null || STATUS=1
cargo test --locked --test stores --no-run </dev/null
echo "==> MinIO"
wait "$FETCH" || { cat "$FETCH_LOG"; exit 1; }
FETCH=
cat "$FETCH_LOG"
scripts/minio.sh start
echo "==> tests"
(run_tests "$@") || STATUS=1
# shellcheck disable=SC2046  # two numbers
verdict $(count_cargo "$OUTPUT")
