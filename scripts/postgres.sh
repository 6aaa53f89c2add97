#!/usr/bin/env bash
# postgres.sh: a private, real PostgreSQL for the tests: one Unix socket, no TCP.
# NOT for data that matters: fsync is off, so a power cut may leave it unreadable.
#
#   scripts/postgres.sh start    makes the cluster if need be, starts it, waits until ready
#   scripts/postgres.sh stop     fast shutdown; `stop immediate` one that leaves recovery to do
#   scripts/postgres.sh wipe     stops and deletes it
#   scripts/postgres.sh status   one line; exit code 1 when stopped
#   scripts/postgres.sh url      a URL for STRANDLINE_DATABASE_URL (user strandline, no password)
#
# Settings, all environment variables:
#   POSTGRES_STATE  target/postgres   where the cluster lives, or, where that can't be, a note of the
#                                     folder /tmp/strandline-pg-XXXXXX that was made for it: when the
#                                     path is too long for a socket, or when root's postgres user
#                                     may not go there
#   POSTGRES_BIN                      folder with initdb and postgres (else the newest one is found)
#   POSTGRES_MAX_CONNECTIONS  300
#   POSTGRES_EXTRA                    more lines for postgresql.conf, \n between them; later ones win
#
# PostgreSQL refuses to run as root; started by root it runs as postgres, or else nobody.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

STATE=$(absolute "${POSTGRES_STATE:-$ROOT/target/postgres}")

if [ "$(id -u)" = 0 ]; then
  OWNER=postgres
  id -u "$OWNER" >/dev/null 2>&1 || OWNER=nobody
  AS_OWNER=(setpriv --reuid "$OWNER" --regid "$(id -g "$OWNER")" --clear-groups)
else
  OWNER=
  AS_OWNER=()
fi

as_owner() (exec_without_fds ${AS_OWNER[@]+"${AS_OWNER[@]}"} env HOME="$DIR" LC_ALL=C.UTF-8 "$@")

give() { if [ -n "$OWNER" ]; then chown "$OWNER:$(id -g "$OWNER")" "$1"; fi; chmod 700 "$1"; }

# read_folder: sets DIR to the folder of the cluster, or to nothing if there is none.
read_folder() {
  DIR=$(cat "$STATE/dir" 2>/dev/null || true)
  [ -d "$DIR" ] || DIR=
}

# choose_folder: sets DIR, and makes a note of it.
choose_folder() {
  [ -z "$DIR" ] || return 0
  DIR=$STATE/cluster
  mkdir -p "$DIR"
  give "$DIR"
  if [ ${#DIR} -gt 90 ] || [[ $DIR == *[!A-Za-z0-9_./-]* ]] || ! as_owner test -w "$DIR"; then
    rmdir "$DIR" 2>/dev/null || true
    DIR=$(mktemp -d /tmp/strandline-pg-XXXXXX)
    give "$DIR"
  fi
  echo "$DIR" >"$STATE/dir"
}

# server_pid: the pid of our server, if it runs; checked, because pids are used again.
server_pid() {
  local pid
  [ -n "$DIR" ] || return 1
  pid=$(head -n 1 "$DIR/data/postmaster.pid" 2>/dev/null) || return 1
  [[ $(command_line "$pid") == *postgres*"$DIR/data"* ]] || return 1
  echo "$pid"
}

# make_cluster: under another name first, so that a broken one is never used.
make_cluster() {
  rm -rf "$DIR/data.new"
  as_owner "$BIN/initdb" -D "$DIR/data.new" -U strandline -A trust -E UTF8 --no-sync >"$DIR/initdb.log" 2>&1 </dev/null ||
    { cat "$DIR/initdb.log" >&2; die "initdb failed"; }
  cat >>"$DIR/data.new/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$DIR'
unix_socket_permissions = 0700
max_connections = ${POSTGRES_MAX_CONNECTIONS:-300}
# for tests only: quick, not durable
fsync = off
synchronous_commit = off
full_page_writes = off
$(printf '%b' "${POSTGRES_EXTRA:-}")
CONF
  mv "$DIR/data.new" "$DIR/data"
}

start() {
  local pid
  if pid=$(server_pid); then
    echo "PostgreSQL runs already in $DIR (pid $pid)"
    return 0
  fi
  BIN=$(find_postgres) || die "PostgreSQL's server programs are missing: run scripts/install.sh"
  mkdir -p "$STATE"
  choose_folder
  cd "$DIR"
  local major
  major=$("$BIN/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
  if [ -e data/PG_VERSION ] && [ "$(cat data/PG_VERSION)" != "$major" ]; then
    echo "the test cluster is of PostgreSQL $(cat data/PG_VERSION), the programs are $major: made anew" >&2
    rm -rf data
  fi
  [ -d data ] || make_cluster
  # A server that was killed leaves its pid file behind, and for a moment its
  # children, or itself as a zombie: the second attempt is for that.
  local attempt
  for attempt in 1 2 3; do
    if as_owner "$BIN/pg_ctl" -D "$DIR/data" -l "$DIR/postgres.log" -w -t 60 start >"$STATE/pg_ctl.log" 2>&1 </dev/null; then
      echo "PostgreSQL $major is ready in $DIR (pid $(server_pid))"
      return 0
    fi
    sleep "$attempt"
    server_pid >/dev/null || rm -f "$DIR/data/postmaster.pid"
  done
  tail -n 20 "$STATE/pg_ctl.log" "$DIR/postgres.log" >&2
  die "PostgreSQL did not start"
}

stop() {
  local mode
  for mode in "$@"; do
    server_pid >/dev/null || return 0
    BIN=$(find_postgres) || die "PostgreSQL's server programs are missing"
    as_owner "$BIN/pg_ctl" -D "$DIR/data" -m "$mode" -w -t 30 stop >"$STATE/pg_ctl.log" 2>&1 </dev/null || true
  done
  ! server_pid >/dev/null || die "PostgreSQL does not stop, see $STATE/pg_ctl.log"
}

wipe() {
  stop fast immediate
  if [ -n "$DIR" ]; then
    case $DIR in
      "$STATE/cluster" | /tmp/strandline-pg-*) rm -rf "$DIR" ;;
      *) die "$STATE/dir names a folder that is not ours: $DIR" ;;
    esac
  fi
  rm -rf "$STATE"
}

# locked FUNCTION: not two starts or stops of the same cluster at a time.
locked() {
  mkdir -p "$STATE"
  exec 9>"$STATE/.lock"
  if have flock; then flock 9; fi
  read_folder
  "$@"
}

read_folder
case ${1:-} in
  start) locked start ;;
  stop) [ ! -d "$STATE" ] || locked stop "${2:-fast}" immediate ;;
  wipe) [ ! -d "$STATE" ] || locked wipe ;;
  status)
    pid=$(server_pid) || { echo "PostgreSQL is stopped"; exit 1; }
    echo "PostgreSQL runs in $DIR (pid $pid)"
    ;;
  url)
    [ -n "$DIR" ] || die "there is no cluster: scripts/postgres.sh start"
    echo "postgres://strandline@${DIR//\//%2F}/postgres"
    ;;
  *) usage "${BASH_SOURCE[0]}"; exit 2 ;;
esac
