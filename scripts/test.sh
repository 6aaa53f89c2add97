#!/usr/bin/env bash
# test.sh: everything that has to hold before a change is merged (`make test`).
#
#   scripts/test.sh [ARGUMENTS FOR cargo test]
#
# Installs what is missing, starts a real Kafka and a real PostgreSQL (see
# services.sh) while it compiles, checks scripts, formatting and lints, runs all
# tests, then, if no arguments are given, a short run of tests/chaos (see chaos.sh),
# stops what it started, and ends with one line: "N passed, N failed". The exit code
# is 0 only if every step went well and at least one test ran. Services that were up
# before (make services-up) are used and left alone, which saves some seconds.
#
# Settings: STRANDLINE_TEST_STATE (see services.sh), CHAOS_MINUTES (1) and CHAOS_SEED (see
# chaos.sh); cargo's own, such as CARGO_TARGET_DIR.
# shellcheck source-path=SCRIPTDIR source=suite.sh
. "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
case ${1:-} in -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;; esac

STATE=$(absolute "${STRANDLINE_TEST_STATE:-$ROOT/target/services}")
export STRANDLINE_TEST_STATE=$STATE
OUTPUT=$(mktemp) # of cargo test, for the counts
SERVICES_LOG=$(mktemp)
SERVICES_PID=   # of `services.sh up`, while it runs
SERVICES_OURS=0 # 1 if this script has to stop them
FAILED=()       # names of the phases that failed

cleanup() {
  trap '' INT TERM HUP
  end_group TERM
  [ -z "$SERVICES_PID" ] || wait "$SERVICES_PID" || true
  stop_services || true
  rm -f "$OUTPUT" "$SERVICES_LOG"
}
ends_with cleanup

# phase NAME COMMAND ARGS: a step; a failure is remembered.
phase() { step "$@" || { FAILED+=("$1"); return 1; }; }

check_scripts() {
  local script scripts=(scripts/*.sh .ci/run) status=0
  for script in "${scripts[@]}"; do bash -n "$script" || status=1; done
  if have shellcheck; then shellcheck -x -S warning "${scripts[@]}" || status=1; fi
  return "$status"
}

rust_components() {
  cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return 0
  have rustup || { echo "rustfmt and clippy are missing: install them beside cargo" >&2; return 1; }
  rustup component add rustfmt clippy
}

wait_for_services() {
  local status=0
  if [ -n "$SERVICES_PID" ]; then
    # The process is a child of the script, not of this phase: hence no `wait`.
    while kill -0 "$SERVICES_PID" 2>/dev/null; do sleep 0.1; done
  fi
  cat "$SERVICES_LOG"
  scripts/services.sh status >/dev/null || status=1
  return "$status"
}

run_tests() { cargo test --locked --no-fail-fast "$@" 2>&1 | tee "$OUTPUT"; }

run_chaos() { CHAOS_MINUTES=${CHAOS_MINUTES:-1} scripts/chaos.sh 2>&1 | tee -a "$OUTPUT"; }

# tests/chaos is not among what cargo takes by itself.
lints() {
  cargo clippy --locked --all-targets -- -D warnings &&
    cargo clippy --locked --test chaos -- -D warnings
}

build() { cargo test --locked --no-run && cargo test --locked --no-run --test chaos; }

stop_services() {
  [ $SERVICES_OURS = 1 ] || return 0
  SERVICES_OURS=0
  scripts/services.sh down
}

main() {
  phase "install" scripts/install.sh || return 0
  phase "rust components" rust_components || return 0

  # Two runs in one place would stop each other's services.
  mkdir -p "$(dirname "$STATE")"
  exec 8>"$STATE.lock"
  if have flock && ! flock -n 8; then
    echo "another scripts/test.sh runs here, waiting for it"
    flock 8
  fi

  if ! scripts/services.sh status >/dev/null 2>&1; then
    SERVICES_OURS=1
    scripts/services.sh up >"$SERVICES_LOG" 2>&1 </dev/null 8>&- &
    SERVICES_PID=$!
  fi

  phase "scripts" check_scripts || true
  phase "format" cargo fmt --all -- --check || true
  phase "lints" lints || true
  phase "build" build || return 0
  phase "services" wait_for_services || return 0
  SERVICES_PID=
  eval "$(scripts/services.sh env)"
  phase "tests" run_tests "$@" || true
  [ $# = 0 ] || return 0
  stop_services || true # three brokers are enough
  phase "chaos" run_chaos || true
}

main "$@"
if [ ${#FAILED[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${FAILED[@]}"
  STATUS=1
fi
# shellcheck disable=SC2046  # two numbers
verdict $(count_cargo "$OUTPUT")
