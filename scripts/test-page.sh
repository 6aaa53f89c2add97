#!/usr/bin/env bash
# test-page.sh: the page at / in a real Chromium, against a real service (`make test-page`).
#
#   scripts/test-page.sh [PATTERN]      all tests, or those whose names match the pattern
#   scripts/test-page.sh --screenshots  takes those of docs/page.md anew
#   scripts/test-page.sh --vendor       copies the library into page/vendor anew
#
# Installs Chromium with apt-get and what drives it with npm, pinned by tests/page/package-lock.json,
# starts a Kafka, a PostgreSQL and several Strandlines of its own on free ports, stops them, and
# ends with one line: "N passed, N failed". The exit code is 0 only if every test passed.
#
# Settings:
#   PAGE_STATE  target/page          logs, pictures of tests that failed, the services' data
#   PAGE_CACHE  ~/.cache/strandline  (XDG_CACHE_HOME is honoured); tools, shared by all copies
#   CHROMIUM    chromium             the browser
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case ${1:-} in -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;; esac
cd "$ROOT"

STATE=$(absolute "${PAGE_STATE:-$ROOT/target/page}")
CACHE=${PAGE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/strandline}
SOURCES=$ROOT/tests/page
BIN=$(absolute "${CARGO_TARGET_DIR:-$ROOT/target}")/debug
export KAFKA_DATA=$STATE/kafka POSTGRES_STATE=$STATE/postgres KAFKA_PORT=auto KAFKA_TIER=1
GROUP= # process group of the tests: services and browser included

# shellcheck disable=SC2317,SC2329  # the trap calls it
cleanup() {
  trap '' INT TERM HUP
  [ -z "$GROUP" ] || kill -KILL -- "-$GROUP" 2>/dev/null || true
  scripts/kafka.sh wipe || true
  scripts/postgres.sh wipe || true
  rm -rf "$STATE/data" "$STATE/work"
}

# install_tools: sets NODE_MODULES to what the lock file names.
install_tools() {
  local folder
  folder=$CACHE/page-node-$(sha256sum "$SOURCES/package-lock.json" | cut -c 1-12)
  mkdir -p "$CACHE"
  exec 8>"$CACHE/page.lock" # two copies of the repository share the cache
  if have flock; then flock 8; fi
  if ! [ -e "$folder/.whole" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$SOURCES"/package*.json "$folder"
    npm ci --prefix "$folder" --no-audit --no-fund --ignore-scripts --loglevel error >&2 8>&-
    touch "$folder/.whole"
  fi
  exec 8>&-
  NODE_MODULES=$folder/node_modules
}

# vendor FOLDER: the library as the page loads it: modules that find one another by path.
vendor() {
  mkdir -p "$1"
  grep -v '^//# sourceMappingURL' "$NODE_MODULES/preact/dist/preact.mjs" >"$1/preact.js"
  grep -v '^//# sourceMappingURL' "$NODE_MODULES/preact/hooks/dist/hooks.mjs" |
    sed 's|from"preact"|from"./preact.js"|' >"$1/hooks.js"
  cp "$NODE_MODULES/htm/dist/htm.mjs" "$1/htm.js"
  cp "$NODE_MODULES/preact/LICENSE" "$1/LICENSE-preact"
  cp "$NODE_MODULES/htm/LICENSE" "$1/LICENSE-htm"
}

start_services() {
  scripts/kafka.sh start & local kafka=$!
  scripts/postgres.sh start
  wait "$kafka"
}

# run COMMAND ARGS: in a process group of its own, so that a signal to this script ends it.
run() {
  local status=0
  set -m
  "$@" </dev/null 9>&- &
  GROUP=$!
  set +m
  wait "$GROUP" || status=$?
  GROUP=
  return "$status"
}

scripts/install.sh --page
install_tools
if [ "${1:-}" = --vendor ]; then
  rm -rf page/vendor
  vendor page/vendor
  exit 0
fi

mkdir -p "$STATE"
exec 9>"$STATE.lock" # not two of these with one folder
if have flock; then flock 9; fi
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
rm -rf "$STATE/vendor" "$STATE/failed" "$STATE/data" "$STATE/work" "$STATE"/*.log
mkdir -p "$STATE/data" "$STATE/work"
vendor "$STATE/vendor"
# With the examples, so that it has the tests' places to freeze at.
cargo build --locked --bin strandline --example load-events 9>&- </dev/null
start_services 9>&- </dev/null

# Modules are looked for beside those that ask for them.
cp "$SOURCES"/*.mjs "$STATE/work"
ln -s "$NODE_MODULES" "$STATE/work/node_modules"
PAGE_POSTGRES=$(scripts/postgres.sh url)
PAGE_BROKERS=127.0.0.1:$(cat "$KAFKA_DATA/port")
PAGE_PSQL=$(find_postgres)/psql
PAGE_CHROMIUM=$(find_chromium)
export PAGE_POSTGRES PAGE_BROKERS PAGE_PSQL PAGE_CHROMIUM PAGE_BIN=$BIN PAGE_STATE=$STATE PAGE_ROOT=$ROOT
cd "$STATE/work"
if [ "${1:-}" = --screenshots ]; then
  status=0
  run node screenshots.mjs || status=$?
  cd "$ROOT"
  exit $status
fi
status=0
run node --test --test-reporter=spec --test-concurrency=1 ${1:+--test-name-pattern="$1"} ./*.test.mjs >"$STATE/output" 2>&1 || status=1
cd "$ROOT"
cat "$STATE/output"
PASSED=$(sed -n 's/^ℹ pass //p' "$STATE/output")
FAILED=$(sed -n 's/^ℹ fail //p' "$STATE/output")
cleanup
trap - EXIT
[ "${PASSED:-0}" != 0 ] || status=1
echo "${PASSED:-0} passed, ${FAILED:-1} failed"
exit $status
