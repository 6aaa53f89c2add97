#!/usr/bin/env bash
# minio.sh: a real MinIO on this machine, the S3 server of the tests, built from the Go
# module proxy. Needs bash, curl >= 7.75 and, the first time, any Go with modules (one that
# is too old for MinIO fetches a newer one from the same proxy).
#
#   scripts/minio.sh fetch    builds the program into the cache (once; minutes, 2 GB while it does)
#   scripts/minio.sh start    starts it, waits until it is ready, makes the bucket
#   scripts/minio.sh stop     SIGTERM, and SIGKILL after 10 s
#   scripts/minio.sh wipe     stops it and deletes the data
#   scripts/minio.sh status   one line; exit code 1 when stopped
#   scripts/minio.sh env      where it is, to be used as:  eval "$(scripts/minio.sh env)"
#   scripts/minio.sh program  the path of the program
#
# `env` prints what Strandline needs: AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, the keys, the region,
# and STRANDLINE_STORAGE_URL, which names the bucket.
#
# Settings, all environment variables:
#   MINIO_DATA     target/minio   objects, log, pid file, chosen port
#   MINIO_PORT     auto           a number; auto or 0: the port of the last start, else a free one
#   MINIO_VERSION  the newest that the module proxy has, pinned below
#   MINIO_CACHE    ~/.cache/strandline (XDG_CACHE_HOME is honoured); shared by all copies
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The newest that the module proxy has; MinIO gives its releases no version that Go knows.
VERSION=${MINIO_VERSION:-v0.0.0-20260212201848-7aac2a2c5b7c}
CACHE=${MINIO_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/strandline}
PROGRAM=$CACHE/minio-$VERSION/minio
DATA=$(absolute "${MINIO_DATA:-$ROOT/target/minio}")
PID_FILE=$DATA/pid
LOG_FILE=$DATA/minio.log
BUCKET=strandline
GO_MINOR=24        # the oldest Go 1.x that builds it
GO_NEWER=go1.24.13 # what is fetched where there is only an older one
# The server listens on the loopback address only.
export MINIO_ROOT_USER=strandline MINIO_ROOT_PASSWORD=strandline-secret
export MINIO_BROWSER=off MINIO_UPDATE=off MINIO_CALLHOME_ENABLE=off

build() {
  find_go "$GO_MINOR" "$GO_NEWER" || return 1
  CGO_ENABLED=0 GOTOOLCHAIN=local GOBIN=$1 "$GO" install -trimpath -ldflags '-s -w' \
    "github.com/minio/minio@$VERSION"
}

# fetch: the program. It appears complete or not at all; a lock lets parallel runs build once.
fetch() {
  local work attempt
  [ -x "$PROGRAM" ] && return 0
  mkdir -p "$CACHE"
  (
    if have flock; then flock 9; fi
    [ -x "$PROGRAM" ] && exit 0
    echo "building MinIO $VERSION from the Go module proxy (once) …"
    work=$CACHE/.minio-build
    # Half of a build is worth keeping for the next attempt, all of it is not.
    export GOMODCACHE=$work/modules GOCACHE=$work/objects GOFLAGS=-modcacherw
    have go || die "Go is missing (needed once, to build MinIO): run scripts/install.sh --go"
    mkdir -p "$work"
    for attempt in 1 2 3; do
      if build "$work/bin" >"$work/log" 2>&1 </dev/null; then
        mkdir -p "$(dirname "$PROGRAM")"
        mv "$work/bin/minio" "$PROGRAM"
        rm -rf "$work"
        exit 0
      fi
      echo "attempt $attempt failed: $(tail -n 1 "$work/log")" >&2
      sleep $((attempt * 3))
    done
    die "could not build MinIO, see $work/log"
  ) 9>"$CACHE/.minio-lock"
}

# choose_port: sets PORT, and remembers it in the data folder.
choose_port() {
  local wanted=${MINIO_PORT:-auto} kept
  case $wanted in
    auto | 0)
      kept=$(cat "$DATA/port" 2>/dev/null || true)
      if [ -n "$kept" ] && port_free "$kept"; then PORT=$kept; else PORT=$(free_ports 1); fi
      ;;
    *[!0-9]*) die "MINIO_PORT is '$wanted', should be a number or auto" ;;
    *) PORT=$wanted ;;
  esac
  port_free "$PORT" || die "port $PORT is taken: set MINIO_PORT to another one, or to auto"
  echo "$PORT" >"$DATA/port"
}

# request METHOD PATH: a signed request; prints the status.
request() {
  curl -s -o /dev/null -w '%{http_code}' -X "$1" --user "$MINIO_ROOT_USER:$MINIO_ROOT_PASSWORD" \
    --aws-sigv4 aws:amz:us-east-1:s3 "http://127.0.0.1:$PORT$2" </dev/null
}

# start_once: 0 ready, 1 not, 3 somebody else was quicker to take the port.
start_once() {
  local pid i log_start status
  choose_port
  log_start=$(wc -c 2>/dev/null <"$LOG_FILE" || echo 0)
  detach "$PID_FILE" "$LOG_FILE" "$PROGRAM" server --quiet --address "127.0.0.1:$PORT" "$DATA/objects"
  for ((i = 0; i < 300; i++)); do # up to a minute
    pid=$(alive "$PID_FILE") || {
      tail -c +$((log_start + 1)) "$LOG_FILE" | grep -q 'already in use' && return 3
      echo "MinIO died, the end of $LOG_FILE:" >&2
      tail -n 20 "$LOG_FILE" >&2
      return 1
    }
    # 409: it is there already, and ours. Before the server is ready it is something else.
    status=$(request PUT "/$BUCKET") || true
    case $status in
      200 | 409)
        echo "MinIO is ready on 127.0.0.1:$PORT (pid $pid)"
        return 0
        ;;
    esac
    sleep 0.2
  done
  echo "MinIO was not ready after 60 s, see $LOG_FILE" >&2
  stop_process "$PID_FILE" 10
  return 1
}

start() {
  local pid attempt status=0
  if pid=$(alive "$PID_FILE"); then
    echo "MinIO runs already on 127.0.0.1:$(cat "$DATA/port") (pid $pid)"
    return 0
  fi
  fetch
  for attempt in 1 2 3; do
    status=0
    start_once || status=$?
    [ $status = 3 ] || return $status
    echo "port $PORT was taken meanwhile (attempt $attempt)" >&2
    rm -f "$DATA/port"
  done
  return 1
}

# locked FUNCTION: not two starts or stops of the same data folder at a time.
locked() {
  mkdir -p "$DATA"
  exec 9>"$DATA/.lock"
  if have flock; then flock 9; fi
  "$@"
}

wipe() {
  stop_process "$PID_FILE" 10
  rm -rf "$DATA"
}

case ${1:-} in
  fetch) fetch ;;
  start) locked start ;;
  stop) [ ! -d "$DATA" ] || locked stop_process "$PID_FILE" 10 ;;
  wipe) [ ! -d "$DATA" ] || locked wipe ;;
  status)
    pid=$(alive "$PID_FILE") || { echo "MinIO is stopped"; exit 1; }
    echo "MinIO runs on 127.0.0.1:$(cat "$DATA/port") (pid $pid)"
    ;;
  env)
    alive "$PID_FILE" >/dev/null || die "MinIO is stopped"
    echo "export AWS_ENDPOINT_URL=http://127.0.0.1:$(cat "$DATA/port") AWS_ALLOW_HTTP=true"
    echo "export AWS_ACCESS_KEY_ID=$MINIO_ROOT_USER AWS_SECRET_ACCESS_KEY=$MINIO_ROOT_PASSWORD"
    echo "export AWS_REGION=us-east-1 STRANDLINE_STORAGE_URL=s3://$BUCKET"
    ;;
  program)
    fetch >&2
    echo "$PROGRAM"
    ;;
  *) usage "${BASH_SOURCE[0]}"; exit 2 ;;
esac
