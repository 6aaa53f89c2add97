#!/usr/bin/env bash
# test-observability.sh: what docker-compose.yml starts to watch Strandline (`make test-observability`).
#
#   scripts/test-observability.sh [ARGUMENTS FOR pytest]
#
# Gets Prometheus, the exporters (monitoring.sh), MinIO (minio.sh) and Airflow (test-airflow.sh) into
# the cache, once; builds Strandline; checks the files of deploy/ by their own tools; starts all of it from
# those files, puts load on, and runs every query of every dashboard and alert. Stops what it started,
# and ends with one line: "N passed, N failed". The exit code is 0 only if every step went well and at
# least one test ran.
#
# Settings: STRANDLINE_TEST_BIN, a folder with a built strandline and load-events, which are tested in
# place of this tree's; STRANDLINE_TEST_PICTURES, a folder into which the pictures of docs/observability
# are drawn anew; those of monitoring.sh, minio.sh and kafka.sh; AIRFLOW_CACHE; PYTHON, 3.11 or newer
# (python3); cargo's own.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case ${1:-} in -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;; esac
cd "$ROOT"

CACHE=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/strandline
PYTHON=${PYTHON:-python3}
export CARGO_NET_RETRY=${CARGO_NET_RETRY:-5}
SOURCES=tests/observability
# One per run, so that two runs do not stop each other's.
WORK=$ROOT/target/observability-$$
OUTPUT=$WORK/output
GROUP= # process group of what runs
STATUS=0

cleanup() {
  local note folder
  trap '' INT TERM HUP
  if [ -n "$GROUP" ]; then
    kill -TERM -- "-$GROUP" 2>/dev/null || true
    wait "$GROUP" || true
  fi
  # What the tests could not stop themselves. Each leads a session of its own.
  for note in "$WORK"/state/*/pids/*; do
    [ ! -e "$note" ] || end_session "$note"
  done
  for folder in "$WORK"/state/*/; do
    [ ! -d "$folder/kafka" ] || KAFKA_DATA=$folder/kafka scripts/kafka.sh wipe || true
    [ ! -d "$folder/postgres" ] || POSTGRES_STATE=$folder/postgres scripts/postgres.sh wipe || true
    [ ! -d "$folder/minio" ] || MINIO_DATA=$folder/minio scripts/minio.sh wipe || true
  done
  if [ $STATUS = 0 ] || [ "${CI:-}" != "" ]; then rm -rf "$WORK"; else echo "logs: $WORK/state" >&2; fi
}

# step NAME COMMAND ARGS: in a process group of its own, so that a signal to this script ends it.
step() {
  local name=$1 status=0 started=$SECONDS
  shift
  echo "==> $name"
  set -m
  "$@" </dev/null &
  GROUP=$!
  set +m
  wait "$GROUP" || status=$?
  GROUP=
  echo "    $((SECONDS - started)) s"
  return $status
}

# make_venv: what the tests themselves need. It appears complete or not at all.
make_venv() {
  [ -e "$VENV/complete" ] && return 0
  mkdir -p "$CACHE"
  (
    if have flock; then flock 9; fi
    [ -e "$VENV/complete" ] && exit 0
    rm -rf "$VENV"
    "$PYTHON" -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --retries 5 --requirement "$SOURCES/requirements.txt"
    touch "$VENV/complete"
  ) 9>"$CACHE/.observability-lock"
}

# make_node: Grafana's types.
make_node() {
  [ -e "$NODE/complete" ] && return 0
  mkdir -p "$CACHE"
  (
    if have flock; then flock 9; fi
    [ -e "$NODE/complete" ] && exit 0
    rm -rf "$NODE"
    mkdir -p "$NODE"
    cp "$SOURCES"/grafana/package*.json "$NODE"
    npm ci --prefix "$NODE" --no-audit --no-fund --ignore-scripts --loglevel error
    touch "$NODE/complete"
  ) 9>"$CACHE/.observability-lock"
}

airflow() {
  scripts/test-airflow.sh install "$WORK/site" >"$WORK/airflow"
  # Its log holds every line of the installation.
  [ -x "$(cat "$WORK/airflow")/bin/airflow" ]
}

build() {
  local target
  if [ -n "${STRANDLINE_TEST_BIN:-}" ]; then
    BIN=$(absolute "$STRANDLINE_TEST_BIN")
    export STRANDLINE_TEST_BIN=$BIN/strandline STRANDLINE_TEST_LOAD_EVENTS=$BIN/load-events
    return 0
  fi
  # With an example, so that it is the same build as that of the other tests.
  step "build" cargo build --locked --bin strandline --example load-events || return 1
  target=$(cargo metadata --locked --offline --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  export STRANDLINE_TEST_BIN=$target/debug/strandline
  export STRANDLINE_TEST_LOAD_EVENTS=$target/debug/examples/load-events
}

lints() {
  "$VENV/bin/ruff" check --no-cache "$SOURCES" deploy/grafana &&
    "$VENV/bin/ruff" format --no-cache --check "$SOURCES" deploy/grafana &&
    test -z "$("$(dirname "$(command -v go)")/gofmt" -l "$SOURCES/compose")"
}

run_tests() {
  eval "$(scripts/monitoring.sh env)"
  PYTHONPATH=$ROOT/airflow/tests:$WORK/site PYTHONDONTWRITEBYTECODE=1 \
    STRANDLINE_TEST_NODE_MODULES=$NODE/node_modules \
    STRANDLINE_TEST_AIRFLOW_BIN=$(cat "$WORK/airflow")/bin STRANDLINE_TEST_OBSERVABILITY_STATE=$WORK/state \
    "$VENV/bin/python" -m pytest -p no:cacheprovider --rootdir "$SOURCES" "${@:-$SOURCES}" 2>&1 | tee "$OUTPUT"
}

# count FILE: passed and failed, by the last line of pytest.
count() {
  awk '
    / in [0-9.]+s/ {
      passed = failed = 0
      for (i = 2; i <= NF; i++) {
        if ($i ~ /^passed/) passed += $(i - 1)
        if ($i ~ /^(failed|error)/) failed += $(i - 1)
      }
    }
    END { print passed + 0, failed + 0 }' "$1"
}

trap cleanup EXIT
trap 'STATUS=130; exit 130' INT
trap 'STATUS=143; exit 143' TERM HUP
mkdir -p "$WORK/state"
scripts/install.sh --observability </dev/null
VENV=$CACHE/observability-$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-$(cksum <"$SOURCES/requirements.txt" | cut -d ' ' -f 1)
NODE=$CACHE/grafana-types-$(cksum <"$SOURCES/grafana/package-lock.json" | cut -d ' ' -f 1)
STATUS=1
step "Prometheus and exporters" scripts/monitoring.sh fetch
step "MinIO" scripts/minio.sh fetch
step "Python packages" make_venv
step "Grafana's types" make_node
step "Airflow and the provider" airflow
build
STATUS=0
step "lints" lints || STATUS=1
step "tests" run_tests "$@" || STATUS=1
read -r PASSED BROKEN <<<"$(count "$OUTPUT")"
[ "$PASSED" != 0 ] && [ "$BROKEN" = 0 ] || STATUS=1
cleanup
trap - EXIT
echo "$PASSED passed, $BROKEN failed"
exit $STATUS
