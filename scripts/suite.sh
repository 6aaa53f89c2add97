# shellcheck shell=bash
# suite.sh: what the scripts that run tests share, beside lib.sh. Sourced, never run by itself.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

CACHE=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/strandline # tools, shared by all copies of the repository
export CARGO_NET_RETRY=${CARGO_NET_RETRY:-5}
export RUST_BACKTRACE=0 # a failed test tells by its message; the stack is the runtime's, and long
STATUS=0 # the suite's exit code
GROUP=   # process group of what runs
CLEANUP= # what is done at the end

# --- steps -----------------------------------------------------------------------

# ends_with COMMAND: runs it when the script ends, by a signal as well.
ends_with() {
  CLEANUP=$1
  # shellcheck disable=SC2064  # the command is known now
  trap "$1" EXIT
  trap 'STATUS=130; exit 130' INT
  trap 'STATUS=143; exit 143' TERM HUP
}

# in_group COMMAND ARGS: in a process group of its own, so that a signal to the script ends all of
# it; and without the locks that the script holds.
in_group() {
  local status=0
  set -m
  "$@" </dev/null 8>&- 9>&- &
  GROUP=$!
  set +m
  wait "$GROUP" || status=$?
  GROUP=
  return "$status"
}

# end_group SIGNAL: ends what in_group runs. It may have services of its own to stop.
end_group() {
  [ -n "$GROUP" ] || return 0
  kill "-$1" -- "-$GROUP" 2>/dev/null || true
  wait "$GROUP" || true
}

# step NAME COMMAND ARGS: runs it in a group, and says how it went and how long it took.
step() {
  local name=$1 started=$SECONDS outcome=ok status=0
  shift
  echo "==> $name"
  in_group "$@" || { status=$?; outcome=FAILED; }
  echo "    $name: $outcome, $((SECONDS - started)) s"
  return "$status"
}

# end_sessions FOLDERS: what tests could not stop themselves. Each leads a session of its own, and
# has a note in one of these.
end_sessions() {
  local folder note
  for folder; do
    for note in "$folder"/*; do
      [ ! -e "$note" ] || end_session "$note"
    done
  done
}

# verdict PASSED FAILED: cleans up, prints the last line of a suite, and ends it. No test at all is
# a failure.
verdict() {
  if [ "$1" = 0 ] || [ "$2" != 0 ]; then STATUS=1; fi
  "$CLEANUP"
  trap - EXIT
  echo "$1 passed, $2 failed"
  exit "$STATUS"
}

# --- tools -----------------------------------------------------------------------

# cached NAME FILE COMMAND: prints the folder of the cache for this content of a lock file.
# COMMAND FOLDER fills it if it is not there whole; others that want it wait for that.
cached() {
  local folder
  folder=$CACHE/$1-$(sha256sum "$2" | cut -c 1-12)
  if ! [ -e "$folder/.whole" ]; then
    mkdir -p "$CACHE"
    (
      if have flock; then flock 8; fi
      [ -e "$folder/.whole" ] && exit 0
      rm -rf "$folder" && mkdir -p "$folder" && "$3" "$folder" 8>&- && touch "$folder/.whole"
    ) 8>"$CACHE/$1.lock" >&2 || return 1
  fi
  echo "$folder"
}

# python_tag: 3.11 for the PYTHON (python3) that tests are run with; environments differ by it.
python_tag() {
  "${PYTHON:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))' ||
    die "${PYTHON:-python3} is no Python 3.11 or newer: set PYTHON to one"
}

# make_venv FOLDER REQUIREMENTS: an environment with what the file names.
make_venv() {
  "${PYTHON:-python3}" -m venv "$1" &&
    "$1/bin/pip" install --quiet --disable-pip-version-check --retries 5 --requirement "$2"
}

# make_node FOLDER SOURCES: node_modules, as the lock file there says.
make_node() {
  cp "$2"/package*.json "$1" &&
    npm ci --prefix "$1" --no-audit --no-fund --ignore-scripts --loglevel error
}

# build_strandline: sets STRANDLINE_TEST_BIN and STRANDLINE_TEST_LOAD_EVENTS to programs of this
# tree; or to those of the folder that STRANDLINE_TEST_BIN names.
build_strandline() {
  local folder target
  if [ -n "${STRANDLINE_TEST_BIN:-}" ]; then
    folder=$(absolute "$STRANDLINE_TEST_BIN")
    export STRANDLINE_TEST_BIN=$folder/strandline STRANDLINE_TEST_LOAD_EVENTS=$folder/load-events
    return 0
  fi
  # With an example, so that it is the same build as that of the other tests, places to freeze at included.
  step "build" cargo build --locked --bin strandline --example load-events || return 1
  target=$(cargo metadata --locked --offline --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  export STRANDLINE_TEST_BIN=$target/debug/strandline
  export STRANDLINE_TEST_LOAD_EVENTS=$target/debug/examples/load-events
}

# --- counts ----------------------------------------------------------------------

# count_cargo FILE: passed and failed, of all that `cargo test` printed into the file.
count_cargo() {
  awk '
    /^test result:/ {
      for (i = 1; i < NF; i++) {
        if ($(i + 1) == "passed;") passed += $i
        if ($(i + 1) == "failed;") failed += $i
      }
    }
    END { print passed + 0, failed + 0 }' "$1"
}

# count_pytest FILE: the same, by the last line of pytest.
count_pytest() {
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

# count_node FILE: the same, by what `node --test` says at its end.
count_node() { awk '/^ℹ pass/ { passed = $3 } /^ℹ fail/ { failed = $3 } END { print passed + 0, failed + 0 }' "$1"; }
