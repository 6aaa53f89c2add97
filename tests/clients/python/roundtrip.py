"""A round trip with the client of openapi-generator (`-g python`).

Usage: roundtrip.py URL DAY, where DAY is a date of the topic `flights`.
STRANDLINE_TOKEN is sent if it is set.
"""

import os
import sys
from datetime import datetime, timedelta, timezone

import strandline_client as client
from strandline_client.exceptions import (
    ConflictException,
    NotFoundException,
    UnprocessableEntityException,
)

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def main(url: str, day: str) -> None:
    """Takes a snapshot of a day, looks at all of it, and is refused in every way."""
    configuration = client.Configuration(host=url, access_token=os.environ.get("STRANDLINE_TOKEN"))
    start = datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
    with client.ApiClient(configuration) as api:
        snapshots, topics = client.SnapshotsApi(api), client.TopicsApi(api)
        look_at_snapshot(snapshots, topics, start, start + timedelta(days=1))
        be_refused(snapshots, start)


def look_at_snapshot(
    snapshots: client.SnapshotsApi, topics: client.TopicsApi, start: datetime, end: datetime
) -> None:
    request = client.SnapshotRequest(
        topic="flights", window_start=start, window_end=end, labels={"client": "python"}
    )
    asked = snapshots.create_snapshot_with_http_info(request)
    assert asked.status_code == 202 and int(asked.headers["retry-after"]) > 0, asked
    assert asked.headers["location"] == asked.data.links.var_self, asked.headers
    snapshot = snapshots.get_snapshot(asked.data.id, wait=60)
    assert snapshot.state == client.State.SUCCEEDED, snapshot
    assert snapshot.completeness == client.Completeness.SEALED, snapshot
    assert snapshot.result is not None and snapshot.result.records > 0, snapshot
    assert snapshot.window_start == start and snapshot.error is None, snapshot

    page = snapshots.list_snapshots(
        topic="flights", state=[client.State.SUCCEEDED], label=["client:python"], window_from=start
    )
    assert [item.id for item in page.items] == [snapshot.id], page
    partitions = snapshots.list_snapshot_partitions(snapshot.id, limit=3)
    assert len(partitions.items) == 3 and partitions.next_cursor, partitions
    rest = snapshots.list_snapshot_partitions(snapshot.id, cursor=partitions.next_cursor)
    records = [partition.records for partition in partitions.items + rest.items]
    assert len(records) == 4 and sum(records) == snapshot.result.records, records
    files = snapshots.list_snapshot_files(snapshot.id).items
    assert sum(file.records_in_window for file in files) == snapshot.result.records, files
    events = snapshots.stream_snapshot_events_without_preload_content(snapshot.id, limit=2)
    assert len(list(events)) == 2, events

    assert "flights" in [topic.topic for topic in topics.list_topics().items]
    coverage = topics.get_topic_coverage("flights", start, end)
    assert coverage.complete and coverage.windows[0].snapshot_id == snapshot.id, coverage


def be_refused(snapshots: client.SnapshotsApi, start: datetime) -> None:
    try:
        snapshots.create_snapshot(
            client.SnapshotRequest(topic="flights", window_start=start, window_end=start)
        )
        raise AssertionError("an empty window was taken")
    except UnprocessableEntityException as error:
        assert error.data.code == "WINDOW_INVALID" and error.data.errors, error
    try:
        snapshots.get_snapshot(UNKNOWN)
        raise AssertionError("there is an unknown snapshot")
    except NotFoundException as error:
        assert error.data.code == "NOT_FOUND" and not error.data.retryable, error
    missing = client.SnapshotRequest(
        topic="not-there", window_start=start, window_end=start + timedelta(days=1)
    )
    failed = snapshots.create_snapshot(missing, wait=60)
    assert failed.state == client.State.FAILED, failed
    assert failed.error is not None and failed.error.code == "TOPIC_NOT_FOUND", failed
    try:
        snapshots.get_snapshot_result(failed.id)
        raise AssertionError("a failed snapshot has a result")
    except ConflictException as error:
        assert error.data.code == "SNAPSHOT_FAILED", error
        assert error.data.error.code == "TOPIC_NOT_FOUND", error


if __name__ == "__main__":
    main(*sys.argv[1:])
