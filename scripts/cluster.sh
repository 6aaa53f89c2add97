#!/usr/bin/env bash
# cluster.sh: what tests/chaos stands on: three Kafka brokers that are controllers too, and a
# PostgreSQL that keeps what it has committed when it is killed.
#
#   scripts/cluster.sh up          starts all, side by side
#   scripts/cluster.sh down        stops all and deletes their data
#   scripts/cluster.sh env         where they are, to be used as:  eval "$(scripts/cluster.sh env)"
#   scripts/cluster.sh start WHAT  starts one part again; WHAT is 1, 2, 3 or postgres
#   scripts/cluster.sh kill WHAT   SIGKILL to one part
#   scripts/cluster.sh stop WHAT   a clean stop of a broker, an immediate one of PostgreSQL
#   scripts/cluster.sh save DIR    copies the services' logs
#
# Each broker has a listener that clients reach directly, and two, the lanes, that are
# advertised at other ports: there the tests put proxies. `env` tells the ports:
# STRANDLINE_CHAOS_KAFKA is the direct addresses, STRANDLINE_CHAOS_LANES the lanes, separated
# by semicolons, each PROXY=BROKER,PROXY=BROKER,PROXY=BROKER.
#
# Settings: STRANDLINE_CHAOS_STATE (target/chaos/services), and those of kafka.sh and postgres.sh.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

STATE=$(absolute "${STRANDLINE_CHAOS_STATE:-$ROOT/target/chaos/services}")
BROKERS=3
PORTS_EACH=6 # direct, controller, two lanes' listeners, two lanes' proxies
export POSTGRES_STATE=$STATE/postgres
# What was committed outlives a kill -9, also in the middle of a page.
export POSTGRES_EXTRA='synchronous_commit = on\nfull_page_writes = on'
export KAFKA_HEAP=${KAFKA_HEAP:-256m} KAFKA_TIER=${KAFKA_TIER:-1}

# port BROKER WHICH: 0 direct, 1 controller, 2 and 3 the lanes' listeners, 4 and 5 their proxies
port() { echo $((BASE + ($1 - 1) * PORTS_EACH + $2)); }

broker_properties() {
  local n=$1 voters="" peer
  for ((peer = 1; peer <= BROKERS; peer++)); do voters+=${voters:+,}$peer@127.0.0.1:$(port "$peer" 1); done
  cat <<PROPERTIES
node.id=$n
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$(port "$n" 0),CONTROLLER://127.0.0.1:$(port "$n" 1),LANE1://127.0.0.1:$(port "$n" 2),LANE2://127.0.0.1:$(port "$n" 3)
advertised.listeners=PLAINTEXT://127.0.0.1:$(port "$n" 0),LANE1://127.0.0.1:$(port "$n" 4),LANE2://127.0.0.1:$(port "$n" 5)
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LANE1:PLAINTEXT,LANE2:PLAINTEXT
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
# A broker that was killed is given up after three seconds, not nine.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
# Only the tests move leaders.
auto.leader.rebalance.enable=false
PROPERTIES
}

# kafka BROKER VERB
kafka() {
  local n=$1 extra
  extra=$(broker_properties "$n")
  KAFKA_DATA=$STATE/broker-$n KAFKA_PORT=$(port "$n" 0) KAFKA_EXTRA=${extra//$'\n'/\\n} \
    "$ROOT/scripts/kafka.sh" "$2"
}

read_base() { BASE=$(cat "$STATE/base" 2>/dev/null) || die "the cluster is down: make chaos, or scripts/cluster.sh up"; }

up() {
  local n pids=() failed=0
  mkdir -p "$STATE"
  "$ROOT/scripts/kafka.sh" fetch # once, before three want it
  BASE=$(cat "$STATE/base" 2>/dev/null || free_ports $((BROKERS * PORTS_EACH)))
  echo "$BASE" >"$STATE/base"
  for ((n = 1; n <= BROKERS; n++)); do kafka "$n" start & pids+=($!); done
  "$ROOT/scripts/postgres.sh" start & pids+=($!)
  for n in "${pids[@]}"; do wait "$n" || failed=1; done
  [ $failed = 0 ] || die "the cluster did not start"
}

down() {
  local n pids=()
  for ((n = 1; n <= BROKERS; n++)); do KAFKA_DATA=$STATE/broker-$n "$ROOT/scripts/kafka.sh" wipe & pids+=($!); done
  "$ROOT/scripts/postgres.sh" wipe
  for n in "${pids[@]}"; do wait "$n"; done
  rm -rf "$STATE"
}

environment() {
  local n lane direct="" lanes="" one
  read_base
  for ((n = 1; n <= BROKERS; n++)); do direct+=${direct:+,}127.0.0.1:$(port "$n" 0); done
  for lane in 1 2; do
    one=
    for ((n = 1; n <= BROKERS; n++)); do
      one+=${one:+,}127.0.0.1:$(port "$n" $((lane + 3)))=127.0.0.1:$(port "$n" $((lane + 1)))
    done
    lanes+=${lanes:+;}$one
  done
  echo "export STRANDLINE_CHAOS_KAFKA=$direct"
  echo "export STRANDLINE_CHAOS_LANES='$lanes'"
  echo "export STRANDLINE_CHAOS_DATABASE_URL=$("$ROOT/scripts/postgres.sh" url)"
  printf 'export STRANDLINE_CHAOS_STATE=%q\n' "$STATE"
}

# pid_of WHAT
pid_of() {
  case $1 in
    postgres) head -n 1 "$(cat "$POSTGRES_STATE/dir")/data/postmaster.pid" ;;
    *) alive "$STATE/broker-$1/pid" ;;
  esac
}

what() { case ${1:-} in [1-3] | postgres) ;; *) die "which part? 1, 2, 3 or postgres" ;; esac; }

save() {
  local n dir
  mkdir -p "$1"
  for ((n = 1; n <= BROKERS; n++)); do cp "$STATE/broker-$n/broker.log" "$1/broker-$n.log" 2>/dev/null || true; done
  dir=$(cat "$POSTGRES_STATE/dir" 2>/dev/null || true)
  cp "$dir/postgres.log" "$1/postgres.log" 2>/dev/null || true
}

case ${1:-} in
  up) up ;;
  down) [ ! -d "$STATE" ] || down ;;
  env) environment ;;
  start)
    what "${2:-}"
    read_base
    if [ "$2" = postgres ]; then "$ROOT/scripts/postgres.sh" start; else kafka "$2" start; fi
    ;;
  kill)
    what "${2:-}"
    kill -9 "$(pid_of "$2")"
    ;;
  stop)
    what "${2:-}"
    read_base
    if [ "$2" = postgres ]; then "$ROOT/scripts/postgres.sh" stop immediate; else kafka "$2" stop; fi
    ;;
  save) save "${2:?a folder}" ;;
  *) usage "${BASH_SOURCE[0]}"; exit 2 ;;
esac
