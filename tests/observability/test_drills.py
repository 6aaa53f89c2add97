"""Drills: what alerts are there for is done to the stack, and Prometheus has to say so.

Three of them, as nothing else stops everything or loses something for good: Kafka is away, Kafka
deletes what is not stored, PostgreSQL is away. And a replica that dies, which must not matter. The
rules are the project's with a quicker clock (`stack/quick.py`). Each drill does what the runbook in
docs/operating.md says, and sees the alert end.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from harness.processes import eventually
from stack.load import Load
from stack.prometheus import RULES, Prometheus
from stack.quick import quicken, write_quick_rules
from stack.whole import Stack, state_folder

MINUTE = 60_000
HOUR = 60 * MINUTE


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack to break. Tasks are tried again for longer than a drill takes."""
    state = state_folder() / "drills"
    rules = write_quick_rules(state / "rules")
    with Stack(state, rules=rules, interval="1s", STRANDLINE_RETRY_SECONDS="600") as running:
        running.prometheus.until_resolved("StrandlineAbsent")
        yield running


def test_kafka_is_away(stack: Stack) -> None:
    now = milliseconds()
    write(stack, "away", [now - 110 * MINUTE + i for i in range(1000)])
    # A topic that Strandline knows, and for how long Kafka keeps its events.
    until_state(stack, ask(stack, "away", now - 20 * MINUTE, now - 10 * MINUTE), "succeeded")
    known = 'strandline_topic_retention_seconds{topic="away"} == 7200'
    eventually(lambda: stack.prometheus.instant(known), "the topic's retention is known")
    stack.kafka.stop()
    asked = ask(stack, "away", now - 110 * MINUTE, now - 30 * MINUTE)

    fired = ("StrandlineTasksFailing", "StrandlineKafkaAway", "StrandlineRetentionRunsOut")
    for name in fired:
        stack.prometheus.until_firing(name)
    said = the_alert(stack.prometheus, "StrandlineTasksFailing")["annotations"]["description"]
    assert "A task of strandline has been failing for" in said
    assert the_alert(stack.prometheus, "StrandlineRetentionRunsOut")["labels"]["topic"] == "away"
    assert snapshot(stack, asked)["last_error"]["code"] == "KAFKA_UNAVAILABLE"

    stack.kafka.start()
    assert until_state(stack, asked, "succeeded")["result"]["records"] == 1000
    for name in fired:
        stack.prometheus.until_resolved(name)


def test_kafka_deletes_what_is_not_stored(stack: Stack) -> None:
    assert stack.minio
    now = milliseconds()
    write(stack, "short", [now - 110 * MINUTE + i * 1000 for i in range(600)])
    # The store is away: what is asked for can't be stored, and retention does not wait.
    stack.minio.stop()
    asked = ask(stack, "short", now - 110 * MINUTE, now - 30 * MINUTE)
    stack.prometheus.until_firing("StrandlineRetentionRunsOut")
    alert = the_alert(stack.prometheus, "StrandlineRetentionRunsOut")
    assert alert["labels"] | {"topic": "short", "severity": "page"} == alert["labels"]
    assert snapshot(stack, asked)["last_error"]["code"] == "STORAGE_UNAVAILABLE"

    # The runbook: first the time.
    keep(stack, "short", 24 * HOUR)
    stack.prometheus.until_resolved("StrandlineRetentionRunsOut")

    # Too late: of each partition ten events are deleted before the store is back; and no worker
    # holds them any more, which would store them then.
    for replica in stack.strandline.replicas:
        replica.stop()
    Load(stack.strandline, stack.kafka.brokers).delete_before("short", 10)
    for replica in stack.strandline.replicas:
        replica.start()
    nothing = "count(strandline_lost_offsets_total == 0 and up == 1) == 2"
    eventually(lambda: stack.prometheus.instant(nothing), "both have said that nothing is lost")
    stack.minio.start()
    ended = until_state(stack, asked, "succeeded")
    assert (ended["result"]["lost_offsets"], ended["result"]["records"]) == (40, 560)
    stack.prometheus.until_firing("StrandlineDataLost")
    lost = "sum(strandline_lost_offsets_total) == 40"
    eventually(lambda: stack.prometheus.instant(lost), "40 offsets are lost")
    stack.prometheus.until_resolved("StrandlineDataLost")


def test_postgresql_is_away(stack: Stack) -> None:
    pids = [replica.process.pid() for replica in stack.strandline.replicas]
    stack.postgres.stop()
    stack.prometheus.until_firing("StrandlineDatabaseAway")
    for replica in stack.strandline.replicas:
        assert httpx.get(f"{replica.url}/readyz", timeout=10).status_code == 503

    stack.postgres.start()
    stack.prometheus.until_resolved("StrandlineDatabaseAway")
    # By themselves, as the runbook says.
    assert [replica.process.pid() for replica in stack.strandline.replicas] == pids
    for replica in stack.strandline.replicas:
        assert httpx.get(f"{replica.url}/readyz", timeout=10).status_code == 200


def test_a_replica_is_killed(stack: Stack) -> None:
    dead = stack.strandline.replicas[1]
    dead.process.stop(signal.SIGKILL)
    stack.prometheus.until_firing("StrandlineReplicaDown")
    alert = the_alert(stack.prometheus, "StrandlineReplicaDown")
    assert alert["labels"]["instance"] == dead.metrics
    assert "Of 2 replicas 1 do" in alert["annotations"]["description"]
    # Not for as long as one is there; its scrape may come late once.
    eventually(lambda: "StrandlineAbsent" not in stack.prometheus.firing(), "one is there")
    dead.start()
    stack.prometheus.until_resolved("StrandlineReplicaDown")


def test_quick_rules_are_quick() -> None:
    assert quicken("for: 5m") == "for: 5s"
    assert quicken("rate(x[1h]) > 14.4 * 0.001") == "rate(x[60s]) > 14.4 * 0.001"
    assert quicken("x_timestamp_seconds) > 90") == "x_timestamp_seconds) > 22.5"
    assert quicken("x_timestamp_seconds < 60") == "x_timestamp_seconds < 60"
    for file in RULES.glob("*.yml"):
        assert not re.search(r"\[\d+[mh]\]|for: [1-9]\d*[mh]", quicken(file.read_text()))


def write(stack: Stack, topic: str, times: list[int]) -> None:
    """A topic that keeps its events for two hours, with events of these times."""
    load = Load(stack.strandline, stack.kafka.brokers)
    load.make_topic(topic, 2 * HOUR)
    load.write(topic, times)


def ask(stack: Stack, topic: str, start: int, end: int) -> str:
    """Ask for a window, wait for nothing."""
    body = {"topic": topic, "window_start": iso(start), "window_end": iso(end)}
    with stack.strandline.client() as client:
        answer = client.post("/v1/snapshots", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


def snapshot(stack: Stack, snapshot_id: str) -> dict[str, Any]:
    with stack.strandline.client() as client:
        return client.get(f"/v1/snapshots/{snapshot_id}").raise_for_status().json()


def until_state(stack: Stack, snapshot_id: str, state: str) -> dict[str, Any]:
    eventually(
        lambda: snapshot(stack, snapshot_id)["state"] == state,
        f"the snapshot is {state}",
        180,
        lambda: str(snapshot(stack, snapshot_id)),
    )
    return snapshot(stack, snapshot_id)


def the_alert(prometheus: Prometheus, name: str) -> dict[str, Any]:
    (found,) = prometheus.alerts(name)
    return found


def keep(stack: Stack, topic: str, retention: int) -> None:
    """Change how long a topic keeps its events."""
    entry = ConfigEntry("retention.ms", str(retention), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": stack.kafka.brokers})
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)


def milliseconds() -> int:
    return int(time.time() * 1000)


def iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
