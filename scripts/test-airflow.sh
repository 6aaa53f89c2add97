#!/usr/bin/env bash
# test-airflow.sh: a real Airflow, with the DAGs and the provider of airflow/ (`make test-airflow`).
#
#   scripts/test-airflow.sh [ARGUMENTS FOR pytest]
#   scripts/test-airflow.sh pin     makes airflow/constraints.txt anew from requirements.in
#   scripts/test-airflow.sh install [FOLDER]   only installs Airflow and prints where; with the provider in FOLDER
#
# Installs Airflow from PyPI into the cache (once for each constraints.txt), builds Strandline and
# the provider package, starts a Kafka and a PostgreSQL (see services.sh) if there are none, checks
# the Python code, and runs airflow/tests, which start Strandline and Airflow. Stops what it
# started, and ends with one line: "N passed, N failed". The exit code is 0 only if every step went
# well and at least one test ran.
#
# Settings: STRANDLINE_TEST_STATE (target/services); STRANDLINE_TEST_BIN, a folder with a built
# strandline and load-events, which are tested in place of this tree's; AIRFLOW_CACHE
# (~/.cache/strandline, XDG_CACHE_HOME is honoured); PYTHON, 3.11 or newer (python3); cargo's own.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

UV_VERSION=0.13.9
STATE=$(absolute "${STRANDLINE_TEST_STATE:-$ROOT/target/services}")
export STRANDLINE_TEST_STATE=$STATE CARGO_NET_RETRY=${CARGO_NET_RETRY:-5}
CACHE=${AIRFLOW_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/strandline}
PYTHON=${PYTHON:-python3}
# One per run, so that two runs do not stop each other's.
WORK=$ROOT/target/airflow-$$
OUTPUT=$WORK/output
SERVICES_OURS=0 # 1 if this script has to stop them
GROUP=          # process group of what runs
STATUS=0

cleanup() {
  local note
  trap '' INT TERM HUP
  if [ -n "$GROUP" ]; then
    kill -TERM -- "-$GROUP" 2>/dev/null || true
    wait "$GROUP" || true
  fi
  # What the tests could not stop themselves. Each leads a session of its own.
  for note in "$WORK"/state/pids/*; do
    [ ! -e "$note" ] || end_session "$note"
  done
  [ $SERVICES_OURS = 0 ] || scripts/services.sh down || true
  SERVICES_OURS=0
  if [ $STATUS = 0 ] || [ "${CI:-}" != "" ]; then rm -rf "$WORK"; else echo "logs: $WORK/state" >&2; fi
}

# step NAME COMMAND ARGS: in a process group of its own, so that a signal to this script ends it.
step() {
  local name=$1 status=0
  shift
  echo "==> $name"
  set -m
  "$@" </dev/null &
  GROUP=$!
  set +m
  wait "$GROUP" || status=$?
  GROUP=
  return $status
}

# find_python: sets PYTHON_TAG, or says what is missing.
find_python() {
  PYTHON_TAG=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))') ||
    die "$PYTHON is no Python 3.11 or newer: set PYTHON to one"
}

# make_venv FOLDER: Airflow and what the tests need. It appears complete or not at all; a lock lets
# parallel runs make it once.
make_venv() {
  local venv=$1
  [ -e "$venv/complete" ] && return 0
  mkdir -p "$CACHE"
  (
    if have flock; then flock 9; fi
    [ -e "$venv/complete" ] && exit 0
    echo "installing Airflow from PyPI (once) …"
    rm -rf "$venv"
    "$PYTHON" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 5 "uv==$UV_VERSION"
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --requirement airflow/constraints.txt
    touch "$venv/complete"
  ) 9>"$CACHE/.airflow-lock"
}

pin() {
  local work file=airflow/constraints.txt
  work=$(mktemp -d)
  "$PYTHON" -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check "uv==$UV_VERSION"
  {
    echo "# The versions that airflow/ is tested with, for Python 3.11 and later. Made from requirements.in by"
    echo "#   scripts/test-airflow.sh pin"
    "$work/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
      airflow/requirements.in
  } >"$file.new"
  mv "$file.new" "$file"
  rm -rf "$work"
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

lints() { "$VENV/bin/ruff" check --no-cache airflow && "$VENV/bin/ruff" format --no-cache --check airflow; }

# provider FOLDER: the package as it is built.
provider() {
  "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-build-isolation --no-deps \
    --target "$1" airflow/provider
}

run_tests() {
  # The package as it is built, not as it lies in the tree.
  PYTHONPATH=$WORK/site PYTHONDONTWRITEBYTECODE=1 STRANDLINE_TEST_AIRFLOW_STATE=$WORK/state \
    "$VENV/bin/python" -m pytest -p no:cacheprovider airflow/tests "$@" 2>&1 | tee "$OUTPUT"
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

if [ "${1:-}" = pin ]; then
  find_python
  pin
  exit
fi
if [ "${1:-}" = install ]; then
  find_python
  VENV=$CACHE/airflow-$PYTHON_TAG-$(cksum <airflow/constraints.txt | cut -d ' ' -f 1)
  make_venv "$VENV" >&2
  [ -z "${2:-}" ] || provider "$2" >&2
  echo "$VENV"
  exit
fi
trap cleanup EXIT
trap 'STATUS=130; exit 130' INT
trap 'STATUS=143; exit 143' TERM HUP
mkdir -p "$WORK/state"
scripts/install.sh --python </dev/null
find_python
VENV=$CACHE/airflow-$PYTHON_TAG-$(cksum <airflow/constraints.txt | cut -d ' ' -f 1)
STATUS=1
step "Airflow" make_venv "$VENV"
build
step "provider package" provider "$WORK/site"
STATUS=0
step "lints" lints || STATUS=1
if ! scripts/services.sh status >/dev/null 2>&1; then
  SERVICES_OURS=1
  step "services" scripts/services.sh up || { STATUS=1; exit 1; }
fi
eval "$(scripts/services.sh env)"
step "tests" run_tests "$@" || STATUS=1
read -r PASSED BROKEN <<<"$(count "$OUTPUT")"
[ "$PASSED" != 0 ] && [ "$BROKEN" = 0 ] || STATUS=1
cleanup
trap - EXIT
echo "$PASSED passed, $BROKEN failed"
exit $STATUS
