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
# are drawn anew; those of monitoring.sh, minio.sh and kafka.sh; XDG_CACHE_HOME (~/.cache); PYTHON,
# 3.11 or newer (python3); cargo's own.
# shellcheck source-path=SCRIPTDIR source=suite.sh
. "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
case ${1:-} in -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;; esac

SOURCES=tests/observability
# One per run, so that two runs do not stop each other's.
WORK=$ROOT/target/observability-$$
OUTPUT=$WORK/output

cleanup() {
  local folder
  trap '' INT TERM HUP
  end_group TERM
  end_sessions "$WORK"/state/*/pids "$WORK"/state/*/*/pids # those of a replica that a test has started again
  for folder in "$WORK"/state/*/; do
    [ ! -d "$folder/kafka" ] || KAFKA_DATA=$folder/kafka scripts/kafka.sh wipe || true
    [ ! -d "$folder/postgres" ] || POSTGRES_STATE=$folder/postgres scripts/postgres.sh wipe || true
    [ ! -d "$folder/minio" ] || MINIO_DATA=$folder/minio scripts/minio.sh wipe || true
  done
  if [ $STATUS = 0 ] || [ "${CI:-}" != "" ]; then rm -rf "$WORK"; else echo "logs: $WORK/state" >&2; fi
}

python_packages() { make_venv "$1" "$SOURCES/requirements.txt"; }
grafana_types() { make_node "$1" "$SOURCES/grafana"; }
venv() { cached "observability-$TAG" "$SOURCES/requirements.txt" python_packages; }
node_modules() { cached grafana-types "$SOURCES/grafana/package-lock.json" grafana_types; }

airflow() {
  scripts/test-airflow.sh install "$WORK/site" >"$WORK/airflow"
  # Its log holds every line of the installation.
  [ -x "$(cat "$WORK/airflow")/bin/airflow" ]
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

ends_with cleanup
mkdir -p "$WORK/state"
scripts/install.sh --observability </dev/null
TAG=$(python_tag)
STATUS=1
step "Prometheus and exporters" scripts/monitoring.sh fetch
step "MinIO" scripts/minio.sh fetch
step "Python packages" venv
VENV=$(venv)
step "Grafana's types" node_modules
NODE=$(node_modules)
step "Airflow and the provider" airflow
build_strandline
STATUS=0
step "lints" lints || STATUS=1
step "tests" run_tests "$@" || STATUS=1
# shellcheck disable=SC2046  # two numbers
verdict $(count_pytest "$OUTPUT")
