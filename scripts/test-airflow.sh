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
# strandline and load-events, which are tested in place of this tree's; XDG_CACHE_HOME
# (~/.cache); PYTHON, 3.11 or newer (python3); cargo's own.
# shellcheck source-path=SCRIPTDIR source=suite.sh
. "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
case ${1:-} in -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;; esac

UV_VERSION=0.13.9
STATE=$(absolute "${STRANDLINE_TEST_STATE:-$ROOT/target/services}")
export STRANDLINE_TEST_STATE=$STATE
PYTHON=${PYTHON:-python3}
# One per run, so that two runs do not stop each other's.
WORK=$ROOT/target/airflow-$$
OUTPUT=$WORK/output
SERVICES_OURS=0 # 1 if this script has to stop them

cleanup() {
  trap '' INT TERM HUP
  end_group TERM
  end_sessions "$WORK/state/pids"
  [ $SERVICES_OURS = 0 ] || scripts/services.sh down || true
  SERVICES_OURS=0
  if [ $STATUS = 0 ] || [ "${CI:-}" != "" ]; then rm -rf "$WORK"; else echo "logs: $WORK/state" >&2; fi
}

# airflow_venv FOLDER: Airflow, and what the tests need.
airflow_venv() {
  echo "installing Airflow from PyPI (once) …"
  "$PYTHON" -m venv "$1" &&
    "$1/bin/pip" install --quiet --disable-pip-version-check --retries 5 "uv==$UV_VERSION" &&
    "$1/bin/uv" pip install --quiet --python "$1/bin/python" --requirement airflow/constraints.txt
}

venv() { cached "airflow-$TAG" airflow/constraints.txt airflow_venv; }

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

TAG=$(python_tag)
if [ "${1:-}" = pin ]; then
  pin
  exit
fi
if [ "${1:-}" = install ]; then
  VENV=$(venv)
  [ -z "${2:-}" ] || provider "$2" >&2
  echo "$VENV"
  exit
fi
ends_with cleanup
mkdir -p "$WORK/state"
scripts/install.sh --python </dev/null
STATUS=1
step "Airflow" venv
VENV=$(venv)
build_strandline
step "provider package" provider "$WORK/site"
STATUS=0
step "lints" lints || STATUS=1
if ! scripts/services.sh status >/dev/null 2>&1; then
  SERVICES_OURS=1
  step "services" scripts/services.sh up || { STATUS=1; exit 1; }
fi
eval "$(scripts/services.sh env)"
step "tests" run_tests "$@" || STATUS=1
# shellcheck disable=SC2046  # two numbers
verdict $(count_pytest "$OUTPUT")
