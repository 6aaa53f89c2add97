#!/usr/bin/env bash
# chaos.sh: tests/chaos on three brokers and a PostgreSQL of their own (`make chaos`).
#
#   scripts/chaos.sh [NAME …]   all tests, or those whose names hold one of the words
#
# Replicas are killed, stopped and cut off, brokers and PostgreSQL die, and everything that
# is stored is compared with what Kafka had. The random run says its seed and ends with a
# report. What it leaves behind when it fails is in target/chaos/SEED; with everything in
# order nothing is left. A cluster that is up (scripts/cluster.sh up) is used and left alone.
#
# Settings:
#   CHAOS_MINUTES   10   how long the random run goes on
#   CHAOS_SEED           one run's seed, to draw the same faults and requests again
#   CHAOS_STORE     disk where the files go: disk, or minio, a bucket behind a proxy (minio.sh)
#   CHAOS_ROUNDS    1    how often a replica is killed and ended to see who takes over
#   CHAOS_LEASES    2    with which leases, in seconds; several with spaces between them
#   CHAOS_MEGABYTES 2    how much one, two and three replicas read to be compared
# shellcheck source-path=SCRIPTDIR source=suite.sh
. "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
case ${1:-} in -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;; esac

CLUSTER_OURS=0
STORE=${CHAOS_STORE:-disk}
export MINIO_DATA=$ROOT/target/chaos/minio

# shellcheck disable=SC2317  # the trap calls it
cleanup() {
  trap '' INT TERM HUP
  end_group KILL # replicas included, also those that are stopped
  if [ $CLUSTER_OURS = 1 ]; then scripts/cluster.sh down || true; fi
  if [ "$STORE" = minio ]; then scripts/minio.sh wipe || true; fi
}
ends_with cleanup

export CHAOS_MINUTES=${CHAOS_MINUTES:-10}
cargo test --locked --no-run --test chaos
if ! scripts/cluster.sh env >/dev/null 2>&1; then
  CLUSTER_OURS=1
  scripts/cluster.sh up </dev/null
fi
eval "$(scripts/cluster.sh env)"
case $STORE in
  disk) ;;
  minio)
    scripts/minio.sh start </dev/null
    eval "$(scripts/minio.sh env)"
    export STRANDLINE_CHAOS_STORAGE=$STRANDLINE_STORAGE_URL
    ;;
  *) die "CHAOS_STORE is '$STORE', should be disk or minio" ;;
esac

# Two at a time: there are two ways to the brokers.
in_group cargo test --locked --test chaos -- --nocapture --test-threads 2 "$@" || STATUS=$?
if [ $STATUS != 0 ]; then
  scripts/cluster.sh save target/chaos/services-of-a-failed-run
  echo "logs of what failed: target/chaos" >&2
fi
exit $STATUS
