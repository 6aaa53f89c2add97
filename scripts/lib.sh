# shellcheck shell=bash
# lib.sh: what the other scripts share. Sourced, never run by itself.
set -euo pipefail

# shellcheck disable=SC2034  # for the scripts that source this file
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# A shell that was opened before rustup ran does not know cargo yet.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${HOME:-}/.cargo/bin/cargo" ]; then
  PATH=$HOME/.cargo/bin:$PATH
fi

have() { command -v "$1" >/dev/null 2>&1; }
die() { echo "error: $*" >&2; exit 1; }
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

# usage FILE: the header comment of a script, as its help text.
usage() { sed -n '2,/^[^#]/{/shellcheck/d;/^#/s/^# \{0,1\}//p}' "$1"; }

# exec_without_fds COMMAND ARGS: exec with no inherited descriptor but 0, 1 and 2,
# so that a service which stays behind keeps nobody's lock or pipe open.
exec_without_fds() {
  local fd
  for fd in /proc/"$BASHPID"/fd/*; do
    fd=${fd##*/}
    case $fd in [012] | *[!0-9]*) ;; *) eval "exec $fd>&-" ;; esac
  done
  exec "$@"
}

# --- processes that outlive the script -------------------------------------------

# detach PID_FILE LOG_FILE COMMAND ARGS: starts a process in a session of its own.
# The pid file holds the pid and the command line, by which `alive` knows it again.
detach() {
  local pid_file=$1 log_file=$2 session=nohup i
  shift 2
  have setsid && session=setsid
  rm -f "$pid_file"
  # shellcheck disable=SC2016  # expanded by the inner shell
  exec_without_fds "$session" bash -c '
    pid_file=$1; shift
    printf "%s\n" "$$" "${1##*/}" "${*:2}" >"$pid_file.new" && mv "$pid_file.new" "$pid_file"
    exec "$@"' detach "$pid_file" "$@" >>"$log_file" 2>&1 </dev/null &
  for ((i = 0; i < 200; i++)); do
    [ -s "$pid_file" ] && return 0
    sleep 0.02
  done
  die "could not start $1, see $log_file"
}

# command_line PID: its arguments, separated by spaces; nothing for a dead process.
command_line() {
  if [ -d /proc/self ]; then
    [ -r "/proc/$1/cmdline" ] && tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null || true
  else
    ps -p "$1" -o args= 2>/dev/null || true
  fi
}

# alive PID_FILE: prints the pid when the process that `detach` started still runs.
# Pids are used again, so the command line has to match too.
alive() {
  local pid name arguments line i
  [ -s "$1" ] || return 1
  { read -r pid && read -r name && read -r arguments; } <"$1" || return 1
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  # A process that is turning into another one has no command line for a moment.
  for ((i = 0; i < 5; i++)); do
    line=$(command_line "$pid")
    if [ -n "$line" ] || ! kill -0 "$pid" 2>/dev/null; then break; fi
    sleep 0.02
  done
  [[ $line == *"$name"*"$arguments"* ]] || return 1
  echo "$pid"
}

# stop_process PID_FILE SECONDS: SIGTERM, and SIGKILL when the seconds are over.
stop_process() {
  local pid i
  if pid=$(alive "$1"); then
    kill "$pid" 2>/dev/null || true
    for ((i = 0; i < $2 * 10; i++)); do
      alive "$1" >/dev/null || break
      sleep 0.1
    done
    if alive "$1" >/dev/null; then
      echo "pid $pid did not stop within $2 s: killed" >&2
      kill -9 "$pid" 2>/dev/null || true
      sleep 0.2
    fi
  fi
  rm -f "$1"
}

# end_session NOTE: kills all processes of the session whose leader's pid is in this file. Pids are
# used again: a leader that is younger than the note is somebody else's.
end_session() {
  local leader age pid
  leader=$(cat "$1")
  age=$(ps -o etimes= -p "$leader" 2>/dev/null | tr -d ' ')
  [ -z "$age" ] || [ $(($(date +%s) - age)) -le $(($(stat -c %Y "$1") + 1)) ] || return 0
  for pid in $(ps -e -o pid=,sid= | awk -v leader="$leader" '$2 == leader { print $1 }'); do
    kill -9 "$pid" 2>/dev/null || true
  done
}

# --- ports -----------------------------------------------------------------------

# port_free PORT: nobody listens on it on the loopback address.
port_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_ports COUNT: the first of COUNT free ports in a row. Chosen at random, below
# the range from which outgoing connections take theirs.
free_ports() {
  local port i tries
  for ((tries = 0; tries < 200; tries++)); do
    port=$((20000 + RANDOM % 11000))
    for ((i = 0; i < $1; i++)); do port_free $((port + i)) || continue 2; done
    echo "$port"
    return 0
  done
  die "found no free port between 20000 and 31000"
}

# --- programs --------------------------------------------------------------------

# java_major PATH: 17 for Java 17; from the release file, because a JVM starts slowly.
java_major() {
  local home major=
  home=$(readlink -f "$1" 2>/dev/null || echo "$1")
  home=${home%/bin/java}
  [ -r "$home/release" ] && major=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release")
  [ -n "$major" ] || major=$("$1" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  echo "${major:-0}"
}

# find_java: a java of version 17 or newer: JAVA_HOME, PATH, then the usual folder.
find_java() {
  local java
  for java in "${JAVA_HOME:-/nonexistent}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    if [ -x "$java" ] && [ "$(java_major "$java")" -ge 17 ]; then
      echo "$java"
      return 0
    fi
  done
  return 1
}

# find_postgres: the folder with the newest PostgreSQL server programs.
find_postgres() {
  local bin
  # shellcheck disable=SC2012  # version folders: no odd names
  bin=$(ls /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb 2>/dev/null | sort -V | tail -n 1 || true)
  bin=$(dirname "$(readlink -f "${bin:-$(command -v initdb || echo /nonexistent/initdb)}")")
  bin=${POSTGRES_BIN:-$bin}
  [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && [ -x "$bin/pg_ctl" ] || return 1
  echo "$bin"
}

# find_chromium: the browser that the page is tested with.
find_chromium() { command -v "${CHROMIUM:-chromium}" || command -v chromium-browser; }

# find_go MINOR NEWER: sets GO to one of version 1.MINOR or later; where there is only an
# earlier one, that fetches NEWER. Modules and objects go to the folders of the environment.
find_go() {
  local minor toolchain
  GO=$(command -v go)
  minor=$("$GO" version | sed -n 's/^go version go1\.\([0-9]*\).*/\1/p')
  [ "${minor:-0}" -lt "$1" ] || return 0
  toolchain=$("$GO" mod download -json "golang.org/toolchain@v0.0.1-$2.$("$GO" env GOOS)-$("$GO" env GOARCH)" |
    sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -d "$toolchain" ] || return 1
  # What a module brings is not executable.
  chmod -R u+w "$toolchain"
  chmod u+x "$toolchain"/bin/* "$toolchain"/pkg/tool/*/*
  GO=$toolchain/bin/go
  export GOROOT=$toolchain
}
