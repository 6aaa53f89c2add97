"""A round trip with the client of openapi-python-client.

Usage: roundtrip_opc.py URL DAY, where DAY is a date of the topic `flights`.
STRANDLINE_TOKEN is sent if it is set.
"""

import os
import sys
from datetime import datetime, timedelta, timezone
from uuid import UUID

from strandline_opc_client import AuthenticatedClient, Client
from strandline_opc_client.api.snapshots import (
    create_snapshot,
    get_snapshot,
    get_snapshot_result,
    list_snapshot_files,
    list_snapshot_partitions,
    list_snapshots,
)
from strandline_opc_client.api.topics import get_topic_coverage, list_topics
from strandline_opc_client.models import (
    Completeness,
    Problem,
    Snapshot,
    SnapshotRequest,
    SnapshotRequestLabels,
    State,
)

UNKNOWN = UUID("00000000-0000-4000-8000-000000000000")


def main(url: str, day: str) -> None:
    """Takes a snapshot of a day, looks at all of it, and is refused in every way."""
    token = os.environ.get("STRANDLINE_TOKEN")
    client = AuthenticatedClient(base_url=url, token=token) if token else Client(base_url=url)
    start = datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
    with client:
        look_at_snapshot(client, start, start + timedelta(days=1))
        be_refused(client, start)


def look_at_snapshot(client: Client, start: datetime, end: datetime) -> None:
    labels = SnapshotRequestLabels.from_dict({"client": "opc"})
    request = SnapshotRequest(topic="flights", window_start=start, window_end=end, labels=labels)
    asked = create_snapshot.sync_detailed(client=client, body=request)
    assert asked.status_code == 202 and isinstance(asked.parsed, Snapshot), asked
    snapshot = get_snapshot.sync(asked.parsed.id, client=client, wait=60)
    assert isinstance(snapshot, Snapshot) and snapshot.state == State.SUCCEEDED, snapshot
    assert snapshot.completeness == Completeness.SEALED, snapshot
    assert snapshot.result is not None and snapshot.result.records > 0, snapshot

    page = list_snapshots.sync(client=client, state=[State.SUCCEEDED], label=["client:opc"])
    assert [item.id for item in page.items] == [snapshot.id], page
    partitions = list_snapshot_partitions.sync(snapshot.id, client=client)
    assert sum(item.records for item in partitions.items) == snapshot.result.records, partitions
    files = list_snapshot_files.sync(snapshot.id, client=client).items
    assert sum(file.records_in_window for file in files) == snapshot.result.records, files

    assert "flights" in [topic.topic for topic in list_topics.sync(client=client).items]
    coverage = get_topic_coverage.sync("flights", client=client, from_=start, to=end)
    assert coverage.complete and coverage.windows[0].snapshot_id == snapshot.id, coverage


def be_refused(client: Client, start: datetime) -> None:
    empty = SnapshotRequest(topic="flights", window_start=start, window_end=start)
    problem = create_snapshot.sync(client=client, body=empty)
    assert isinstance(problem, Problem) and problem.code == "WINDOW_INVALID", problem
    problem = get_snapshot.sync(UNKNOWN, client=client)
    assert isinstance(problem, Problem) and problem.code == "NOT_FOUND", problem
    missing = SnapshotRequest(
        topic="not-there", window_start=start, window_end=start + timedelta(days=1)
    )
    failed = create_snapshot.sync(client=client, body=missing, wait=60)
    assert isinstance(failed, Snapshot) and failed.state == State.FAILED, failed
    assert failed.error is not None and failed.error.code == "TOPIC_NOT_FOUND", failed
    problem = get_snapshot_result.sync(failed.id, client=client)
    assert isinstance(problem, Problem) and problem.code == "SNAPSHOT_FAILED", problem
    assert problem.error.code == "TOPIC_NOT_FOUND", problem


if __name__ == "__main__":
    main(*sys.argv[1:])
