#!/usr/bin/env bash
# kafka.sh: a real Apache Kafka on this machine (KRaft, one JVM), from the jars on
# Maven Central. Needs bash, a Java runtime >= 17 and, the first time, Maven.
#
#   scripts/kafka.sh fetch            the jars into the cache (about 43 MB, once)
#   scripts/kafka.sh start            formats the data folder if need be, starts, waits until ready
#   scripts/kafka.sh stop             SIGTERM, and SIGKILL after 30 s
#   scripts/kafka.sh wipe             stops and deletes the data
#   scripts/kafka.sh status           one line; exit code 1 when stopped
#   scripts/kafka.sh env              KAFKA_BOOTSTRAP=host:port of the running broker
#   scripts/kafka.sh tool CLASS ARGS  one of Kafka's own tools, such as
#                                     org.apache.kafka.tools.TopicCommand --bootstrap-server …
#
# Settings, all environment variables:
#   KAFKA_DATA     target/kafka   data, log, pid file, chosen ports
#   KAFKA_PORT     auto           a number (the controller takes the next one); auto or 0: the
#                                 ports of the last start, else free ones; auto:9092: likewise,
#                                 but 9092 is tried first
#   KAFKA_SECURED  0              1: two more ports, for TLS (its certificate, made with openssl, is
#                                 tls/ca.pem in the data folder) and for SASL (user reader, password
#                                 "s3,cret=1"); reader may do what ACLs allow, anybody else everything
#   KAFKA_VERSION  4.4.0
#   KAFKA_CACHE    ~/.cache/strandline (XDG_CACHE_HOME is honoured); shared by all copies
#   KAFKA_HEAP     512m
#   KAFKA_TIER     4              1: start with less work, run a little slower
#   KAFKA_LOG      warn           level of the broker's own log
#   KAFKA_EXTRA                   more lines for server.properties, \n between them; later ones win
#   KAFKA_TOOLS_VERSION  4.3.1    the newest kafka-tools on Maven Central
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

VERSION=${KAFKA_VERSION:-4.4.0}
TOOLS_VERSION=${KAFKA_TOOLS_VERSION:-4.3.1}
CACHE=${KAFKA_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/strandline}
JARS=$CACHE/kafka-$VERSION
DATA=$(absolute "${KAFKA_DATA:-$ROOT/target/kafka}")
PID_FILE=$DATA/pid
LOG_FILE=$DATA/broker.log
CLUSTER_ID=c3RyYW5kbGluZS1sb2NhbA
PORTS=2 # PORT, and one for the controller
[ "${KAFKA_SECURED:-0}" = 0 ] || PORTS=4 # then TLS, then SASL

# fetch FOLDER ARTIFACT VERSION: the jars of an artifact and of all it depends on.
# The folder appears complete or not at all; a lock lets parallel runs fetch once.
fetch() {
  local folder=$1 work attempt
  [ -d "$folder" ] && return 0
  have mvn || die "Maven is missing (needed once, to fetch Kafka): run scripts/install.sh"
  mkdir -p "$CACHE"
  (
    if have flock; then flock 9; fi
    [ -d "$folder" ] && exit 0
    echo "fetching $2 $3 from Maven Central (once) …"
    work=$(mktemp -d "$CACHE/.fetch-XXXXXX")
    # shellcheck disable=SC2064  # the name as it is now
    trap "rm -rf '$work'" EXIT
    cat >"$work/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>strandline</groupId><artifactId>local-kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>$2</artifactId><version>$3</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
    for attempt in 1 2 3 4; do
      if mvn -q -B -U -Dstyle.color=never -f "$work/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$work/jars" >"$work/mvn.log" 2>&1 </dev/null &&
        [ -e "$work/jars/$2-$3.jar" ]; then
        chmod 755 "$work/jars"
        mv "$work/jars" "$folder"
        exit 0
      fi
      echo "attempt $attempt failed: $(grep -m 1 ERROR "$work/mvn.log" || tail -n 1 "$work/mvn.log")" >&2
      sleep $((attempt * 3))
    done
    die "could not fetch $2 $3 from Maven Central"
  ) 9>"$CACHE/.lock"
}

# java_command HEAP JARS: sets JAVA, the command up to the class name.
java_command() {
  local java
  java=$(find_java) || die "no Java runtime of version 17 or newer: run scripts/install.sh"
  JAVA=("$java" "-Xmx$1" -Xms64m -XX:+UseSerialGC "-XX:TieredStopAtLevel=${KAFKA_TIER:-4}"
    -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=${KAFKA_LOG:-warn}"
    -Dorg.slf4j.simpleLogger.showDateTime=true -cp "$2/*")
}

# ports_taken: how many of the PORTS ports from PORT on are in use.
ports_taken() {
  local port count=0
  for ((port = PORT; port < PORT + PORTS; port++)); do port_free "$port" || count=$((count + 1)); done
  echo "$count"
}

# choose_port: sets PORT, and remembers it in the data folder.
choose_port() {
  local wanted=${KAFKA_PORT:-auto} first=
  [[ $wanted =~ ^([0-9]+|auto|auto:[0-9]+)$ ]] || die "KAFKA_PORT is '$wanted', should be a number, auto, or auto:NUMBER"
  case $wanted in
    auto:*) first=${wanted#auto:} wanted=auto ;;
    0) wanted=auto ;;
  esac
  if [ "$wanted" = auto ]; then
    local kept
    kept=$(cat "$DATA/port" 2>/dev/null || true)
    for PORT in $kept $first; do
      [ "$(ports_taken)" != 0 ] || { echo "$PORT" >"$DATA/port"; return 0; }
      echo "of the ports $PORT to $((PORT + PORTS - 1)) one is taken" >&2
    done
    PORT=$(free_ports "$PORTS")
  else
    PORT=$wanted
    port_free "$PORT" || die "port $PORT is taken: set KAFKA_PORT to another one, or to auto"
    [ "$(ports_taken)" = 0 ] || die "one of the ports $((PORT + 1)) to $((PORT + PORTS - 1)), which go with $PORT, is taken: set KAFKA_PORT to another one, or to auto"
  fi
  echo "$PORT" >"$DATA/port"
}

# make_certificate: the TLS listener's, signed by itself, in a folder that appears complete.
make_certificate() {
  local work=$DATA/tls.new
  [ ! -d "$DATA/tls" ] || return 0
  have openssl || die "openssl is missing (for the TLS listener's certificate): run scripts/install.sh"
  rm -rf "$work"
  mkdir -p "$work"
  (umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
    -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1,DNS:localhost \
    -keyout "$work/key.pem" -out "$work/ca.pem" 2>"$work/openssl.log" </dev/null) ||
    { cat "$work/openssl.log" >&2; die "openssl made no certificate"; }
  (umask 077 && cat "$work/key.pem" "$work/ca.pem" >"$work/keystore.pem")
  mv "$work" "$DATA/tls"
}

server_properties() {
  cat <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((PORT + 1))
listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$((PORT + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$PORT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$DATA/log
# A typing mistake in a topic's name shall be an error, not a new topic.
auto.create.topics.enable=false
# One node: internal topics have one partition and one replica.
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# Events with old timestamps stay; where a topic sets a retention, it acts within a
# second or so (the default is five minutes), and so does compaction.
log.retention.ms=-1
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
  [ "$PORTS" = 2 ] || secured_properties
  printf '%b\n' "${KAFKA_EXTRA:-}"
}

secured_properties() {
  local tls=SSL://127.0.0.1:$((PORT + 2)) sasl=SASL_PLAINTEXT://127.0.0.1:$((PORT + 3))
  cat <<PROPERTIES
listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$((PORT + 1)),$tls,$sasl
advertised.listeners=PLAINTEXT://127.0.0.1:$PORT,$tls,$sasl
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location=$DATA/tls/keystore.pem
sasl.enabled.mechanisms=PLAIN
# A comma and an equals sign: what a list of settings has to quote.
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_reader="s3,cret=1";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
PROPERTIES
}

# start_once: 0 ready, 1 not, 3 somebody else was quicker to take the port.
start_once() {
  local pid i log_start
  choose_port
  [ "$PORTS" = 2 ] || make_certificate
  server_properties >"$DATA/server.properties"
  if ! [ -e "$DATA/log/meta.properties" ]; then
    java_command 128m "$JARS"
    "${JAVA[@]}" kafka.tools.StorageTool format -t "$CLUSTER_ID" -c "$DATA/server.properties" >"$DATA/format.log" 2>&1 </dev/null ||
      { cat "$DATA/format.log" >&2; return 1; }
  fi
  log_start=$(wc -c 2>/dev/null <"$LOG_FILE" || echo 0)
  java_command "${KAFKA_HEAP:-512m}" "$JARS"
  detach "$PID_FILE" "$LOG_FILE" "${JAVA[@]}" kafka.Kafka "$DATA/server.properties"
  for ((i = 0; i < 600; i++)); do # up to two minutes; the ports open once the broker is ready
    pid=$(alive "$PID_FILE") || {
      tail -c +$((log_start + 1)) "$LOG_FILE" | grep -q 'Address already in use' && return 3
      echo "Kafka died, the end of $LOG_FILE:" >&2
      tail -n 20 "$LOG_FILE" >&2
      return 1
    }
    [ "$(ports_taken)" != "$PORTS" ] || { echo "Kafka $VERSION is ready on 127.0.0.1:$PORT (pid $pid)"; return 0; }
    sleep 0.2
  done
  echo "Kafka was not ready after 120 s, see $LOG_FILE" >&2
  stop_process "$PID_FILE" 30
  return 1
}

start() {
  local pid attempt status=0
  if pid=$(alive "$PID_FILE"); then
    echo "Kafka runs already on 127.0.0.1:$(cat "$DATA/port") (pid $pid)"
    return 0
  fi
  fetch "$JARS" kafka_2.13 "$VERSION"
  for attempt in 1 2 3; do
    status=0
    start_once || status=$?
    [ $status = 3 ] || return $status
    echo "of the ports $PORT to $((PORT + PORTS - 1)) one was taken meanwhile (attempt $attempt)" >&2
    rm -f "$DATA/port"
    case ${KAFKA_PORT:-auto} in auto* | 0) ;; *) return 1 ;; esac
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
  stop_process "$PID_FILE" 30
  rm -rf "$DATA"
}

case ${1:-} in
  fetch) fetch "$JARS" kafka_2.13 "$VERSION" ;;
  start) locked start ;;
  stop) [ ! -d "$DATA" ] || locked stop_process "$PID_FILE" 30 ;;
  wipe) [ ! -d "$DATA" ] || locked wipe ;;
  status)
    pid=$(alive "$PID_FILE") || { echo "Kafka is stopped"; exit 1; }
    echo "Kafka runs on 127.0.0.1:$(cat "$DATA/port") (pid $pid)"
    ;;
  env)
    alive "$PID_FILE" >/dev/null || die "Kafka is stopped"
    echo "KAFKA_BOOTSTRAP=127.0.0.1:$(cat "$DATA/port")"
    ;;
  tool)
    shift
    [ $# -gt 0 ] || die "which class? for instance org.apache.kafka.tools.TopicCommand"
    fetch "$CACHE/kafka-tools-$TOOLS_VERSION" kafka-tools "$TOOLS_VERSION" >&2
    java_command "${KAFKA_HEAP:-512m}" "$CACHE/kafka-tools-$TOOLS_VERSION"
    exec "${JAVA[@]}" "$@"
    ;;
  *) usage "${BASH_SOURCE[0]}"; exit 2 ;;
esac
