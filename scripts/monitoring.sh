#!/usr/bin/env bash
# monitoring.sh: Prometheus, its tools and the exporters, as programs on this machine: what
# docker-compose.yml runs as images, built from the Go module proxy, and what Debian ships.
#
#   scripts/monitoring.sh fetch    gets what is not there (once; ten minutes on two cores, 4 GB while it does)
#   scripts/monitoring.sh env      where they are, to be used as:  eval "$(scripts/monitoring.sh env)"
#   scripts/monitoring.sh version NAME   the version of a module that is built here
#
# `env` sets PROMETHEUS, PROMTOOL, STATSD_EXPORTER, NODE_EXPORTER and COMPOSE_CHECK, which are the
# versions of docker-compose.yml, and DEBIAN_PROMETHEUS, DEBIAN_PROMTOOL, DEBIAN_NODE_EXPORTER and
# DEBIAN_POSTGRES_EXPORTER. Debian's packages are taken apart, not installed: they would start daemons.
#
# Settings: MONITORING_CACHE (~/.cache/strandline, XDG_CACHE_HOME is honoured), shared by all copies.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PROMETHEUS_VERSION=0.316.0 # of the module; the release is 3.16.0
STATSD_EXPORTER_VERSION=0.31.0
NODE_EXPORTER_VERSION=1.12.1
GO_MINOR=26        # the oldest Go 1.x that builds them
GO_NEWER=go1.26.8  # what is fetched where there is only an older one
PACKAGES=(prometheus prometheus-node-exporter prometheus-postgres-exporter)
SOURCES=$ROOT/tests/observability/compose

CACHE=${MONITORING_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/strandline}
BUILT=$CACHE/monitoring-$PROMETHEUS_VERSION-$STATSD_EXPORTER_VERSION-$NODE_EXPORTER_VERSION
COMPOSE=$CACHE/compose-check-$(cat "$SOURCES"/{go.mod,go.sum,main.go} | cksum | cut -d ' ' -f 1)
DEBIAN=$CACHE/monitoring-debian

export CGO_ENABLED=0 GOTOOLCHAIN=local

# install_modules: builds into GOBIN. Of Prometheus without service discovery but by DNS, as a module of
# one of the clouds is not to be had everywhere.
install_modules() {
  "$GO" install -trimpath -ldflags '-s -w' -tags remove_all_sd,enable_dns_sd \
    "github.com/prometheus/prometheus/cmd/prometheus@v$PROMETHEUS_VERSION" \
    "github.com/prometheus/prometheus/cmd/promtool@v$PROMETHEUS_VERSION" &&
    "$GO" install -trimpath -ldflags '-s -w' "github.com/prometheus/statsd_exporter@v$STATSD_EXPORTER_VERSION" &&
    "$GO" install -trimpath -ldflags '-s -w' "github.com/prometheus/node_exporter@v$NODE_EXPORTER_VERSION"
}

build_modules() {
  [ -x "$BUILT/prometheus" ] && return 0
  local work=$CACHE/.monitoring-build attempt
  echo "building Prometheus $PROMETHEUS_VERSION and exporters from the Go module proxy (once) …"
  mkdir -p "$work"
  (
    # Half of a build is worth keeping for the next attempt, all of it is not.
    export GOMODCACHE=$work/modules GOCACHE=$work/objects GOFLAGS=-modcacherw
    export GOBIN=$work/bin
    find_go $GO_MINOR $GO_NEWER || die "could not get $GO_NEWER"
    for attempt in 1 2 3; do
      if install_modules >"$work/log" 2>&1 </dev/null; then
        mv "$work/bin" "$BUILT"
        exit 0
      fi
      echo "attempt $attempt failed: $(tail -n 1 "$work/log")" >&2
      sleep $((attempt * 3))
    done
    die "could not build them, see $work/log"
  ) || return 1
  rm -rf "$work"
}

# build_compose_check: the parser of `docker compose` as a program that only reads.
build_compose_check() {
  [ -x "$COMPOSE/compose-check" ] && return 0
  local work=$COMPOSE.new
  mkdir -p "$work"
  (
    find_go $GO_MINOR $GO_NEWER || die "could not get $GO_NEWER"
    cd "$SOURCES"
    "$GO" build -mod=readonly -trimpath -o "$work/compose-check" .
  ) || return 1
  mv "$work" "$COMPOSE"
}

# unpack_packages: Debian's programs, whose version is that of the release.
unpack_packages() {
  [ -x "$DEBIAN/prometheus" ] && return 0
  have apt-get || die "these tests need Debian's packages ${PACKAGES[*]}"
  local work package
  work=$(mktemp -d "$CACHE/.debian-XXXXXX")
  # shellcheck disable=SC2064  # the name as it is now
  trap "rm -rf '$work'" RETURN
  chmod 755 "$work"
  cd "$work"
  if ! apt-get -q download "${PACKAGES[@]}" >log 2>&1; then
    update_lists >>log 2>&1 || true
    apt-get -q download "${PACKAGES[@]}" >>log 2>&1 || { tail -n 5 log >&2; die "apt-get download failed"; }
  fi
  for package in *.deb; do dpkg-deb -x "$package" all; done
  rm -rf "$DEBIAN"
  mv all/usr/bin "$DEBIAN"
  cd "$ROOT"
}

update_lists() {
  local sudo=()
  [ "$(id -u)" = 0 ] || sudo=(sudo -n)
  "${sudo[@]}" apt-get -q -y -o Acquire::Retries=3 update
}

fetch() {
  mkdir -p "$CACHE"
  (
    if have flock; then flock 9; fi
    have go || die "Go is missing: run scripts/install.sh --go"
    # Their programs must not keep the lock.
    build_modules 9>&- && build_compose_check 9>&- && unpack_packages 9>&-
  ) 9>"$CACHE/.monitoring-lock"
}

programs() {
  local name
  for name in prometheus promtool statsd_exporter node_exporter; do
    echo "${name^^}=$BUILT/$name"
  done
  echo "COMPOSE_CHECK=$COMPOSE/compose-check"
  echo "DEBIAN_PROMETHEUS=$DEBIAN/prometheus"
  echo "DEBIAN_PROMTOOL=$DEBIAN/promtool"
  echo "DEBIAN_NODE_EXPORTER=$DEBIAN/prometheus-node-exporter"
  echo "DEBIAN_POSTGRES_EXPORTER=$DEBIAN/prometheus-postgres-exporter"
}

case ${1:-} in
  fetch) fetch ;;
  env) programs | sed 's/^/export /' ;;
  version)
    name=${2^^}_VERSION
    [ -n "${!name:-}" ] || die "there is no version of ${2:-}"
    echo "${!name}"
    ;;
  *) usage "${BASH_SOURCE[0]}"; exit 2 ;;
esac
