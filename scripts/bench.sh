#!/usr/bin/env bash
# bench.sh: what one window costs, beside what others take for it (`make bench`).
#
#   scripts/bench.sh            all cases: 200b 1kib many long huge tiny workers s3
#   scripts/bench.sh CASES      some of them
#   scripts/bench.sh clean      stops what was left and deletes the topics
#
# Builds the release, starts a Kafka, a PostgreSQL and, for the case s3, a MinIO of its own (which
# is built once, in minutes) under target/bench, fills the
# topics (once: they stay), and runs benches/window.py: Strandline as a service and in the
# foreground, kcat, plain Python loops, a bare librdkafka reader and a floor written by hand
# read the same window in turns. Writes target/bench/window.json. Run it on a quiet machine.
#
# Settings: BENCH_ROUNDS (5); BENCH_STATE (target/bench); cargo's own, such as CARGO_TARGET_DIR.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

STATE=$(absolute "${BENCH_STATE:-$ROOT/target/bench}")
export KAFKA_DATA=$STATE/kafka POSTGRES_STATE=$STATE/postgres MINIO_DATA=$STATE/minio
BUCKET= # URL, once there is one
CLIENTS=(confluent-kafka==2.16.1 pyarrow==26.0.1)

stop() {
  scripts/kafka.sh stop || true
  scripts/postgres.sh stop || true
  scripts/minio.sh wipe || true
}

# The Python clients that are compared, in an environment of their own.
python_clients() {
  local environment=$STATE/python
  if ! "$environment/bin/python" -c 'import confluent_kafka, pyarrow' 2>/dev/null; then
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check "${CLIENTS[@]}"
  fi
  PYTHON=$environment/bin/python
}

# bench_program NAME: where cargo has put a bench target.
bench_program() {
  cargo bench --locked --no-run --bench "$1" --message-format json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

main() {
  local reader floor postgres
  scripts/install.sh --bench
  mkdir -p "$STATE"
  exec 9>"$STATE/.lock"
  if have flock; then flock 9; fi
  cargo build --locked --release
  cargo bench --locked --no-run --bench reader --bench floor
  reader=$(bench_program reader)
  floor=$(bench_program floor)
  python_clients
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  scripts/kafka.sh start 9>&-
  scripts/postgres.sh start 9>&-
  eval "$(scripts/kafka.sh env)"
  case " ${*:-s3} " in
    *" s3 "*)
      scripts/install.sh --go
      scripts/minio.sh start 9>&-
      eval "$(scripts/minio.sh env)"
      # The other cases keep their files here.
      BUCKET=$STRANDLINE_STORAGE_URL
      unset STRANDLINE_STORAGE_URL
      ;;
  esac
  postgres=$(find_postgres)
  "$PYTHON" benches/window.py --rounds "${BENCH_ROUNDS:-5}" --folder "$STATE/files" \
    --output "$STATE/window.json" --strandline "${CARGO_TARGET_DIR:-target}/release/strandline" \
    --reader "$reader" --floor "$floor" --brokers "$KAFKA_BOOTSTRAP" \
    --database "$(scripts/postgres.sh url)" --psql "$postgres/psql" --bucket "$BUCKET" "$@" 9>&-
}

case ${1:-} in
  clean)
    scripts/kafka.sh wipe
    scripts/postgres.sh wipe
    scripts/minio.sh wipe
    rm -rf "$STATE"
    ;;
  -h | --help) usage "${BASH_SOURCE[0]}" ;;
  *) main "$@" ;;
esac
