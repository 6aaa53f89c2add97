#!/usr/bin/env bash
# services.sh: the real Kafka and the real PostgreSQL that the integration tests need.
#
#   scripts/services.sh up       starts both, side by side; nothing to do when they are up
#   scripts/services.sh down     stops both and deletes their data
#   scripts/services.sh status   one line each; exit code 1 unless both are up
#   scripts/services.sh env      where they are, to be used as:  eval "$(scripts/services.sh env)"
#
# `up` writes to the file `env` in the state folder: STRANDLINE_TEST_KAFKA, where Kafka
# lets everybody in; STRANDLINE_TEST_KAFKA_TLS, where it shows the certificate that is in
# STRANDLINE_TEST_KAFKA_CA; STRANDLINE_TEST_KAFKA_SASL, where it asks for a password (see
# kafka.sh); and STRANDLINE_TEST_DATABASE_URL. Ports and sockets are chosen anew for each
# state folder, so that two copies of the repository do not meet.
#
# Settings: STRANDLINE_TEST_STATE (target/services), and those of kafka.sh and postgres.sh.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

STATE=$(absolute "${STRANDLINE_TEST_STATE:-$ROOT/target/services}")
export KAFKA_DATA=$STATE/kafka POSTGRES_STATE=$STATE/postgres
export KAFKA_PORT=${STRANDLINE_TEST_KAFKA_PORT:-auto}
export KAFKA_SECURED=1
export KAFKA_TIER=${KAFKA_TIER:-1} # tests are short: a quick start is worth more than peak speed

running() { "$ROOT/scripts/kafka.sh" status >/dev/null && "$ROOT/scripts/postgres.sh" status >/dev/null; }

up() {
  local kafka postgres port failed=0
  if running && [ -s "$STATE/env" ]; then
    echo "the services are up already"
    return 0
  fi
  "$ROOT/scripts/kafka.sh" start & kafka=$!
  "$ROOT/scripts/postgres.sh" start & postgres=$!
  wait "$kafka" || failed=1
  wait "$postgres" || failed=1
  if [ $failed = 1 ]; then
    stop_both || true
    die "the services did not start"
  fi
  port=$(cat "$KAFKA_DATA/port")
  {
    echo "STRANDLINE_TEST_KAFKA=127.0.0.1:$port"
    echo "STRANDLINE_TEST_KAFKA_TLS=127.0.0.1:$((port + 2))"
    echo "STRANDLINE_TEST_KAFKA_SASL=127.0.0.1:$((port + 3))"
    printf 'STRANDLINE_TEST_KAFKA_CA=%q\n' "$KAFKA_DATA/tls/ca.pem"
    echo "STRANDLINE_TEST_DATABASE_URL=$("$ROOT/scripts/postgres.sh" url)"
  } >"$STATE/env.new"
  mv "$STATE/env.new" "$STATE/env"
}

stop_both() {
  local kafka failed=0
  rm -f "$STATE/env"
  "$ROOT/scripts/kafka.sh" stop & kafka=$!
  "$ROOT/scripts/postgres.sh" stop || failed=1
  wait "$kafka" || failed=1
  return $failed
}

down() {
  stop_both
  "$ROOT/scripts/kafka.sh" wipe
  "$ROOT/scripts/postgres.sh" wipe
  rm -rf "$STATE"
}

# locked FUNCTION: `up` and `down` of one state folder wait for each other.
locked() {
  mkdir -p "$STATE"
  exec 9>"$STATE/.lock"
  if have flock; then flock 9; fi
  "$@"
}

case ${1:-} in
  up) locked up ;;
  down) [ ! -d "$STATE" ] || locked down ;;
  status)
    status=0
    "$ROOT/scripts/kafka.sh" status || status=1
    "$ROOT/scripts/postgres.sh" status || status=1
    exit $status
    ;;
  env)
    [ -s "$STATE/env" ] || die "the services are down: scripts/services.sh up"
    sed 's/^/export /' "$STATE/env"
    ;;
  *) usage "${BASH_SOURCE[0]}"; exit 2 ;;
esac
