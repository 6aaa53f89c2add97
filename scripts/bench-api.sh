#!/usr/bin/env bash
# bench-api.sh: how fast the API and claims are with 1 M ended snapshots and 10,000 queued ones,
# and what 1,000 who wait cost (`make bench-api`). See docs/api-performance.md.
#
#   scripts/bench-api.sh
#
# Starts a PostgreSQL (durable, with its default settings) and a Kafka of its own, lets the
# release build make a few snapshots, multiplies them in the database (some minutes), measures,
# prints tables, writes target/bench/api.json, and stops what it started. The exit code is 0
# only if every answer was right; a figure that was missed is said and no error.
#
# Settings:
#   BENCH_API_STATE          target/bench-api   what is made for it; removed at the end
#   BENCH_API_KEEP           0                  1: leave the filled database for the next time
#   BENCH_API_PROGRAM                           another strandline to measure, not built here
#   BENCH_API_OUTPUT         target/bench/api.json
#   BENCH_API_SNAPSHOTS      1000000            ended snapshots
#   BENCH_API_QUEUED         10000              queued ones
#   BENCH_API_RATE           500                requests per second
#   BENCH_API_SECONDS        6                  length of a round
#   BENCH_API_ROUNDS         3                  rounds of each case; the one in the middle counts
#   BENCH_API_WAITERS        1000               how many wait at once
#   BENCH_API_QUIET_SECONDS  20                 how long to wait, before a round, until others
#                                               leave the machine alone
#   BENCH_API_ONLY                              only cases whose names hold this
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case ${1:-} in -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;; esac

BENCH_API_STATE=$(absolute "${BENCH_API_STATE:-$ROOT/target/bench-api}")
BENCH_API_OUTPUT=$(absolute "${BENCH_API_OUTPUT:-$ROOT/target/bench/api.json}")
export BENCH_API_STATE BENCH_API_OUTPUT
export KAFKA_DATA=$BENCH_API_STATE/kafka POSTGRES_STATE=$BENCH_API_STATE/postgres
export KAFKA_PORT=${KAFKA_PORT:-auto}
# What is measured is to be as durable as in earnest.
export POSTGRES_EXTRA='fsync = on\nsynchronous_commit = on\nfull_page_writes = on'
cd "$ROOT"
GROUP= # process group of the driver: the service included

# shellcheck disable=SC2317,SC2329  # the trap calls it
cleanup() {
  trap '' INT TERM HUP
  [ -z "$GROUP" ] || kill -KILL -- "-$GROUP" 2>/dev/null || true
  if [ "${BENCH_API_KEEP:-0}" = 1 ]; then
    scripts/kafka.sh stop || true
    scripts/postgres.sh stop || true
  else
    scripts/kafka.sh wipe || true
    scripts/postgres.sh wipe || true
    rm -rf "$BENCH_API_STATE"
  fi
}

# bench_program: the driver's path, as cargo tells it.
bench_program() {
  cargo build --locked --release --bench api --message-format json-render-diagnostics </dev/null |
    sed -n 's/.*"target":{"kind":\["bench"\].*"executable":"\([^"]*\)".*/\1/p'
}

mkdir -p "$BENCH_API_STATE" "$(dirname "$BENCH_API_OUTPUT")"
exec 9>"$BENCH_API_STATE.lock" # not two of these with one folder
if have flock; then flock -n 9 || die "another one works in $BENCH_API_STATE: set BENCH_API_STATE"; fi
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

scripts/install.sh --bench
DRIVER=$(bench_program)
[ -x "$DRIVER" ] || die "cargo built no bench target"
cargo build --locked --release --example load-events </dev/null
# Last, for what was built before it has the tests' places to die in it.
cargo build --locked --release --bin strandline </dev/null
if [ -z "${BENCH_API_PROGRAM:-}" ]; then
  cp target/release/strandline "$BENCH_API_STATE/strandline"
  export BENCH_API_PROGRAM=$BENCH_API_STATE/strandline
fi
scripts/postgres.sh start </dev/null
scripts/kafka.sh start </dev/null
BENCH_API_DATABASE_URL=$(scripts/postgres.sh url)
BENCH_API_BROKERS=127.0.0.1:$(cat "$KAFKA_DATA/port")
BENCH_API_LISTEN=127.0.0.1:$(free_ports 1)
export BENCH_API_DATABASE_URL BENCH_API_BROKERS BENCH_API_LISTEN
target/release/examples/load-events --brokers "$BENCH_API_BROKERS" --topic flights --partitions 4 \
  --file data/flights-2013-01.ndjson.gz

status=0
set -m
"$DRIVER" </dev/null &
GROUP=$!
set +m
wait "$GROUP" || status=$?
exit $status
