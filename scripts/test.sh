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
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

STATE=$(absolute "${STRANDLINE_TEST_STATE:-$ROOT/target/services}")
export STRANDLINE_TEST_STATE=$STATE CARGO_NET_RETRY=${CARGO_NET_RETRY:-5}
OUTPUT=$(mktemp) # of cargo test, for the counts
SERVICES_LOG=$(mktemp)
SERVICES_PID=   # of `services.sh up`, while it runs
SERVICES_OURS=0 # 1 if this script has to stop them
GROUP=          # process group of the phase that runs
FAILED=()       # names of the phases that failed

cleanup() {
  trap '' INT TERM HUP
  if [ -n "$GROUP" ]; then
    kill -TERM -- "-$GROUP" 2>/dev/null || true
    wait "$GROUP" || true # it may have services of its own to stop
  fi
  [ -z "$SERVICES_PID" ] || wait "$SERVICES_PID" || true
  stop_services || true
  rm -f "$OUTPUT" "$SERVICES_LOG"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# phase NAME COMMAND ARGS: runs it, says how long it took, remembers a failure.
# It gets a process group of its own, so that a signal to this script ends all of it.
phase() {
  local name=$1 started=$SECONDS status=0 outcome=ok
  shift
  echo "==> $name"
  set -m
  "$@" </dev/null 8>&- &
  GROUP=$!
  set +m
  wait "$GROUP" || status=$?
  GROUP=
  if [ $status != 0 ]; then
    FAILED+=("$name")
    outcome=FAILED
  fi
  echo "    $name: $outcome, $((SECONDS - started)) s"
  return "$status"
}

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
read -r PASSED BROKEN <<<"$(count_tests "$OUTPUT")"
cleanup
trap - EXIT
status=0
if [ ${#FAILED[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${FAILED[@]}"
  status=1
elif [ "$PASSED" = 0 ] || [ "$BROKEN" != 0 ]; then
  status=1
fi
echo "$PASSED passed, $BROKEN failed"
exit $status
