#!/usr/bin/env bash
# demo.sh: Strandline at work on this machine, from nothing (`make demo`).
#
#   scripts/demo.sh up      installs what is missing, builds, starts Kafka, loads January 2013 of the
#                           New York airports, starts Strandline, takes 32 snapshots, shows them;
#                           leaves all of it running; the second time it is quick and changes nothing
#   scripts/demo.sh down    stops Strandline and Kafka; the data stay
#   scripts/demo.sh clean   stops them and removes the data
#
# All files are under .demo. Settings, all environment variables:
#   STRANDLINE_LISTEN           127.0.0.1:8080 if that is free, else a free port
#   STRANDLINE_DEMO_KAFKA_PORT  9092 if that is free, else a free port
#   STRANDLINE_DEMO_PROFILE     dev, or release: slower to build, faster to run
# and every other STRANDLINE_… setting of `strandline serve`, but for the database and
# the storage: the demo always uses a private PostgreSQL and local files.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

DEMO=$ROOT/.demo
PID_FILE=$DEMO/strandline.pid
LOG_FILE=$DEMO/strandline.log
PROFILE=${STRANDLINE_DEMO_PROFILE:-dev}
export KAFKA_DATA=$DEMO/kafka
export KAFKA_PORT=${STRANDLINE_DEMO_KAFKA_PORT:-auto:9092}

step() { echo "==> $*"; }

build() {
  local target
  # With the examples, so that it is the same build as that of the tests.
  cargo build --locked --profile "$PROFILE" --bin strandline --example load-events --example demo-days
  target=$(cargo metadata --locked --offline --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  BIN=${target:-$ROOT/target}/$PROFILE
  [ "$PROFILE" != dev ] || BIN=${target:-$ROOT/target}/debug
  [ -x "$BIN/strandline" ] || die "the build left no $BIN/strandline"
}

# choose_listen: sets LISTEN: as asked for, else as the last time, else port 8080, else a free one.
choose_listen() {
  local address
  LISTEN=${STRANDLINE_LISTEN:-}
  [ -z "$LISTEN" ] || return 0
  for address in $(cat "$DEMO/listen" 2>/dev/null || true) 127.0.0.1:8080; do
    if port_free "${address##*:}"; then
      LISTEN=$address
      return 0
    fi
  done
  LISTEN=127.0.0.1:$(free_ports 1)
}

# base_url: where a client on this machine finds LISTEN.
base_url() {
  case $LISTEN in
    0.0.0.0:* | '[::]':*) echo "http://127.0.0.1:${LISTEN##*:}" ;;
    *) echo "http://$LISTEN" ;;
  esac
}

ready() { curl -fs --noproxy '*' --max-time 5 -o "$DEMO/readyz" "$URL/readyz"; }

start_strandline() {
  local pid i
  if pid=$(alive "$PID_FILE"); then
    if [ "$(cat "$DEMO/brokers" 2>/dev/null)" = "$BROKERS" ]; then
      LISTEN=$(cat "$DEMO/listen")
      URL=$(base_url)
      echo "Strandline runs already on $URL (pid $pid)"
      if [ "$BIN/strandline" -nt "$PID_FILE" ]; then
        echo "note: it was built anew since it was started; make down, then make demo, to run the new one"
      fi
      return 0
    fi
    stop_process "$PID_FILE" 30 # Kafka has moved to another port
  fi
  choose_listen
  URL=$(base_url)
  port_free "${LISTEN##*:}" || die "$LISTEN is taken: set STRANDLINE_LISTEN to another address"
  echo "$LISTEN" >"$DEMO/listen"
  echo "$BROKERS" >"$DEMO/brokers"
  (
    unset STRANDLINE_DATABASE_URL STRANDLINE_STORAGE_URL STRANDLINE_KAFKA_PROPERTIES
    export STRANDLINE_LISTEN=$LISTEN STRANDLINE_KAFKA_BROKERS=$BROKERS STRANDLINE_DATA_DIR=$DEMO/strandline
    detach "$PID_FILE" "$LOG_FILE" "$BIN/strandline" serve
  )
  for ((i = 0; i < 600; i++)); do # the first time PostgreSQL makes its files, too
    if ! pid=$(alive "$PID_FILE"); then
      tail -n 20 "$LOG_FILE" >&2
      die "Strandline ended, see above and $LOG_FILE"
    fi
    if ready; then
      echo "Strandline is ready on $URL (pid $pid)"
      return 0
    fi
    sleep 0.2
  done
  tail -n 20 "$LOG_FILE" >&2
  die "Strandline was not ready after 120 s: $(cat "$DEMO/readyz" 2>/dev/null)"
}

take_snapshots() {
  "$BIN/examples/demo-days" --url "$URL" --topic flights --from 2013-01-01 --days 32 \
    --expect-records 27004 --expect-first 697 --expect-last 184 --summary "$DEMO/summary" ||
    die "the demo did not come out as it should; Strandline's log is $LOG_FILE"
}

show_what_next() {
  local snapshot files
  snapshot=$(sed -n 's/^snapshot=//p' "$DEMO/summary")
  files=$(sed -n 's/^files=//p' "$DEMO/summary")
  cat <<TEXT

Look at the first day:
  curl -s $URL/v1/snapshots/$snapshot
  curl -s $URL/v1/snapshots/$snapshot/partitions
  curl -s $URL/v1/snapshots/$snapshot/files
  curl -s "$URL/v1/snapshots/$snapshot/events?limit=3"

Ask for one yourself (asking again is free), and wait for it:
  curl --fail-with-body "$URL/v1/snapshots?expect=succeeded" -H 'content-type: application/json' \\
    -d '{"topic": "flights", "window_start": "2013-01-10T00:00:00Z", "window_end": "2013-01-10T12:00:00Z"}'

Query the demo's Parquet files with DuckDB (in earnest take the paths that /files names, see the README):
  duckdb -c "SELECT decode(value)::JSON->>'carrier' AS carrier, count(*) AS flights
             FROM read_parquet('$files') GROUP BY ALL ORDER BY flights DESC LIMIT 5"

The page:       $URL/
Swagger UI:     $URL/docs
Kafka:          $BROKERS, topic flights
Logs, files:    .demo
Stop:           make down          (the data stay)
Stop, remove:   make clean-demo
TEXT
}

up() {
  step "install"
  scripts/install.sh
  step "build ($PROFILE profile; STRANDLINE_DEMO_PROFILE=release for a fast one)"
  build
  step "Kafka"
  scripts/kafka.sh start
  BROKERS=127.0.0.1:$(cat "$KAFKA_DATA/port")
  step "events"
  "$BIN/examples/load-events" --brokers "$BROKERS" --topic flights --partitions 4 --file data/flights-2013-01.ndjson.gz
  step "Strandline"
  start_strandline
  step "snapshots: 1 January to 1 February 2013, one a day"
  take_snapshots
  show_what_next
}

down() {
  if alive "$PID_FILE" >/dev/null; then
    stop_process "$PID_FILE" 30
    echo "Strandline is stopped"
  fi
  scripts/kafka.sh stop
  echo "Kafka is stopped"
}

clean() {
  local link=$DEMO/strandline/postgres elsewhere
  down
  # As root, and where PostgreSQL's user may not go, its files are elsewhere, behind a link.
  if [ -L "$link" ]; then
    elsewhere=$(readlink -f "$link")
    case $(basename "$elsewhere") in
      strandline-pg-*) rm -rf "$elsewhere" ;;
      *) echo "left alone, as it does not look like the demo's: $elsewhere" >&2 ;;
    esac
  fi
  rm -rf "$DEMO"
  echo "the demo's data are removed"
}

case ${1:-} in
  up | down | clean) ;;
  *) usage "${BASH_SOURCE[0]}"; exit 2 ;;
esac
if [ "$1" != up ] && ! [ -d "$DEMO" ]; then
  echo "there is no demo here"
  exit 0
fi
mkdir -p "$DEMO"
exec 9>"$DEMO/.lock" # not two of these at a time
if have flock; then flock 9; fi
"$1"
