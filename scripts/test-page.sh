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
#   PAGE_STATE           target/page  logs, pictures of tests that failed, the services' data
#   CHROMIUM             chromium     the browser
#   STRANDLINE_TEST_BIN               a folder with a built strandline and load-events, see suite.sh
#   XDG_CACHE_HOME       ~/.cache     tools, shared by all copies
# shellcheck source-path=SCRIPTDIR source=suite.sh
. "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
case ${1:-} in -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;; esac

STATE=$(absolute "${PAGE_STATE:-$ROOT/target/page}")
SOURCES=$ROOT/tests/page
export KAFKA_DATA=$STATE/kafka POSTGRES_STATE=$STATE/postgres KAFKA_PORT=auto KAFKA_TIER=1

# shellcheck disable=SC2317,SC2329  # the trap calls it
cleanup() {
  trap '' INT TERM HUP
  cd "$ROOT" # the tests run elsewhere
  end_group KILL # services and browser included
  scripts/kafka.sh wipe || true
  scripts/postgres.sh wipe || true
  rm -rf "$STATE/data" "$STATE/work"
}

page_node() { make_node "$1" "$SOURCES"; }

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

scripts/install.sh --page
NODE_MODULES=$(cached page-node "$SOURCES/package-lock.json" page_node)/node_modules
if [ "${1:-}" = --vendor ]; then
  rm -rf page/vendor
  vendor page/vendor
  exit 0
fi

mkdir -p "$STATE"
exec 9>"$STATE.lock" # not two of these with one folder
if have flock; then flock 9; fi
ends_with cleanup
rm -rf "$STATE/vendor" "$STATE/failed" "$STATE/data" "$STATE/work" "$STATE"/*.log
mkdir -p "$STATE/data" "$STATE/work"
vendor "$STATE/vendor"
build_strandline
start_services 9>&- </dev/null

# Modules are looked for beside those that ask for them.
cp "$SOURCES"/*.mjs "$STATE/work"
ln -s "$NODE_MODULES" "$STATE/work/node_modules"
PAGE_POSTGRES=$(scripts/postgres.sh url)
PAGE_BROKERS=127.0.0.1:$(cat "$KAFKA_DATA/port")
PAGE_PSQL=$(find_postgres)/psql
PAGE_CHROMIUM=$(find_chromium)
export PAGE_POSTGRES PAGE_BROKERS PAGE_PSQL PAGE_CHROMIUM PAGE_STATE=$STATE PAGE_ROOT=$ROOT
cd "$STATE/work"
if [ "${1:-}" = --screenshots ]; then
  in_group node screenshots.mjs || STATUS=$?
  cd "$ROOT"
  exit $STATUS
fi
in_group node --test --test-reporter=spec --test-concurrency=1 ${1:+--test-name-pattern="$1"} ./*.test.mjs >"$STATE/output" 2>&1 || STATUS=1
cd "$ROOT"
cat "$STATE/output"
# shellcheck disable=SC2046  # two numbers
verdict $(count_node "$STATE/output")
