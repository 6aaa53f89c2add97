#!/usr/bin/env bash
# install.sh: makes sure that everything is there to build, test and run Strandline.
#
#   scripts/install.sh           installs what is missing (Debian, Ubuntu; root or sudo)
#   scripts/install.sh --check   only says what is missing
#   scripts/install.sh --go      also Go, which builds the tests' S3 server (see minio.sh)
#   scripts/install.sh --bench   also what the benchmarks measure with
#   scripts/install.sh --clients also what clients in other languages are made with
#   scripts/install.sh --python  also Python with venv, for the tests with Airflow
#   scripts/install.sh --observability   also Go, Python and Node.js, for the tests of what watches Strandline
#   scripts/install.sh --page    also Chromium and Node.js, for the tests of the page
#
# Does nothing, and quickly, when nothing is missing. Elsewhere it prints what to
# install and exits with 1. Rust itself is never installed, only asked for.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-} in
  '' | --check | --go | --bench | --clients | --python | --observability | --page) ;;
  *) usage "${BASH_SOURCE[0]}"; exit 2 ;;
esac

MISSING=()   # for people
PACKAGES=()  # for apt-get

need() { # what it is, its Debian packages; the check is the caller's
  MISSING+=("$1")
  shift
  PACKAGES+=("$@")
}

check_rust() {
  local wanted found
  wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$ROOT/Cargo.toml")
  have cargo && found=$(rustc --version 2>/dev/null) || {
    echo "Rust $wanted or newer is missing. Install it with rustup (https://rustup.rs):" >&2
    echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
    return 1
  }
  found=${found#rustc }
  found=${found%%[ -]*}
  if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    echo "Rust $found is too old, $wanted or newer is needed: rustup update stable" >&2
    return 1
  fi
}

find_missing() { # the script's option
  MISSING=()
  PACKAGES=()
  have gcc && [ -e /usr/include/stdio.h ] || have clang || need "a C compiler (gcc)" gcc libc6-dev
  have g++ || have clang++ || need "a C++ compiler (g++)" g++
  have make || need "make" make
  have pkg-config || need "pkg-config" pkg-config
  has_library openssl || need "OpenSSL with headers" libssl-dev
  has_library zlib || need "zlib with headers" zlib1g-dev
  have perl || need "perl" perl
  have openssl || need "openssl (makes the tests' certificate)" openssl
  have curl || need "curl" curl ca-certificates
  have jq || need "jq (the documents' commands use it)" jq
  find_java >/dev/null || need "a Java runtime, 17 or newer (for the local Kafka)" JRE
  have mvn || need "Maven (fetches Kafka's jars)" maven
  [ "$1" != --go ] || have go || need "Go (builds the tests' S3 server)" golang-go
  if [ "$1" = --observability ]; then
    have go || need "Go (builds Prometheus and exporters)" golang-go
    has_node && have npm || need "Node.js 20 or newer, with npm (for Grafana's types)" nodejs npm
    has_venv || need "Python 3 with venv (runs the tests)" python3 python3-venv
  fi
  if [ "$1" = --clients ]; then
    have go || need "Go (for a client in Go)" golang-go
    has_node && have npm || need "Node.js 20 or newer, with npm (for a client in TypeScript)" nodejs npm
    has_venv || need "Python 3 with venv (for clients in Python)" python3 python3-venv
  fi
  if [ "$1" = --page ]; then
    has_node && have npm || need "Node.js 20 or newer, with npm (drives the browser)" nodejs npm
    find_chromium >/dev/null || need "Chromium (shows the page)" chromium
    has_inter || need "the typeface Inter (for the same page on every machine)" fonts-inter
  fi
  [ "$1" != --bench ] || have kcat || need "kcat (reads topics, to compare with)" kcat
  [ "$1" != --bench ] || has_venv || need "Python 3 with venv (runs benchmarks)" python3 python3-venv
  [ "$1" != --python ] || has_venv || need "Python 3 with venv (runs Airflow)" python3 python3-venv
  [ "$1" != --bench ] || have wrk || need "wrk (sends requests as fast as they are answered)" wrk
  find_postgres >/dev/null || need "PostgreSQL's server programs (initdb, postgres, pg_ctl)" postgresql
}

has_library() {
  if have pkg-config; then pkg-config --exists "$1"; else [ -e "/usr/include/${1/openssl/openssl/ssl}.h" ]; fi
}

has_node() { have node && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; }

has_inter() { ! have apt-get || [ -d /usr/share/doc/fonts-inter ]; }

has_venv() { have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

# jre_package: default-jre-headless, or a numbered one where the default is too old.
jre_package() {
  local major
  major=$(apt-cache policy default-jre-headless 2>/dev/null | sed -n 's/.*Candidate: [0-9]*:1\.\([0-9]*\).*/\1/p')
  if [ "${major:-0}" -ge 17 ]; then
    echo default-jre-headless
  else
    apt-cache pkgnames openjdk- | sed -n 's/^openjdk-\([0-9]*\)-jre-headless$/\1/p' | sort -n |
      awk '$1 >= 17 { print "openjdk-" $1 "-jre-headless"; exit }'
  fi
}

install_with_apt() {
  local sudo=() log
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  log=$(mktemp)
  # shellcheck disable=SC2064  # the name as it is now
  trap "rm -f '$log'" EXIT
  run() {
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
      apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >"$log" 2>&1 </dev/null
  }
  run update || { tail -n 5 "$log"; echo "apt-get update failed, trying with the lists there are"; } >&2
  local packages=() package
  for package in "${PACKAGES[@]}"; do
    [ "$package" = JRE ] && package=$(jre_package)
    [ -n "$package" ] || die "this release has no Java 17 or newer: install one by hand"
    packages+=("$package")
    # The package would start a server of its own on port 5432. Ours need only the programs.
    if [ "$package" = postgresql ] && ! [ -e /etc/postgresql-common/createcluster.conf ]; then
      "${sudo[@]}" mkdir -p /etc/postgresql-common
      echo "create_main_cluster = false" | "${sudo[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
  done
  echo "installing ${packages[*]}"
  run install --no-install-recommends -o Dpkg::Options::=--force-confold "${packages[@]}" || {
    tail -n 20 "$log" >&2
    die "apt-get install failed, see above"
  }
}

print_missing() {
  echo "missing:"
  printf '  - %s\n' "${MISSING[@]}"
}

may_install() {
  have apt-get || return 1
  [ "$(id -u)" = 0 ] && return 0
  have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }
}

status=0
check_rust || status=1
find_missing "${1:-}"
if [ ${#MISSING[@]} -gt 0 ]; then
  print_missing >&2
  if [ "${1:-}" = --check ]; then
    status=1
  elif may_install; then
    install_with_apt
    find_missing "${1:-}"
    [ ${#MISSING[@]} = 0 ] || { print_missing >&2; die "still missing after the installation"; }
  else
    status=1
    if have apt-get; then
      echo "as root: apt-get install --no-install-recommends ${PACKAGES[*]/#JRE/default-jre-headless}" >&2
    else
      echo "install these with your system's package manager, then try again" >&2
    fi
  fi
fi
exit $status
