"""Every example DAG, run by the scheduler: what it took is what the topic holds, and only once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from harness.airflow import Airflow
from harness.processes import eventually
from harness.strandline import Strandline, Window, day, hour


def check(strandline: Strandline, window: Window) -> dict:
    """There is one snapshot, with all events of the window."""
    snapshot = strandline.the_snapshot(window)
    assert snapshot["state"] == "succeeded"
    assert snapshot["completeness"] == "sealed"
    assert snapshot["result"]["records"] == window.events() > 0
    return snapshot


@pytest.mark.parametrize("dag_id", ["flights_daily", "snapshot_daily"])
def test_the_scheduler_asks_for_the_day_that_is_over(
    airflow: Airflow, strandline: Strandline, dag_id: str
) -> None:
    airflow.unpause(dag_id)

    def scheduled() -> list[str]:
        runs = airflow.runs(dag_id)
        return [run["dag_run_id"] for run in runs if run["run_type"] == "scheduled"]

    eventually(scheduled, f"a scheduled run of {dag_id}")
    assert len(scheduled()) == 1
    airflow.until_ended(dag_id, scheduled()[0], "success")
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    snapshot = strandline.the_snapshot(Window(midnight - timedelta(days=1)))
    assert snapshot["result"]["records"] == 0


@pytest.mark.parametrize(("dag_id", "number"), [("flights_daily", 5), ("snapshot_daily", 6)])
def test_a_run_for_a_past_day(
    airflow: Airflow, strandline: Strandline, dag_id: str, number: int
) -> None:
    run = airflow.trigger_for(dag_id, day(number))
    airflow.until_ended(dag_id, run, "success")
    snapshot = check(strandline, day(number))
    assert snapshot["labels"]["run_id"] == run
    returned = airflow.xcom(dag_id, run)
    if isinstance(returned, str):  # HttpOperator's is text
        returned = json.loads(returned)
    assert returned["id"] == snapshot["id"]


@pytest.mark.parametrize(
    ("dag_id", "number"),
    [
        ("flights_daily", 0),
        ("snapshot_daily", 1),
        ("flights_on_demand", 2),
        ("snapshot_on_demand", 3),
    ],
)
def test_a_run_by_hand_without_a_data_interval(
    airflow: Airflow, strandline: Strandline, dag_id: str, number: int
) -> None:
    window = hour(7, 12 + number)
    conf = window.conf()
    if dag_id.endswith("_daily"):
        del conf["topic"]
    run = airflow.trigger(dag_id, conf)
    airflow.until_ended(dag_id, run, "success")
    check(strandline, window)


@pytest.mark.parametrize(
    ("dag_id", "task_id", "number"),
    [
        ("flights_sensor", "wait", 8),
        ("flights_deferrable", "snapshot", 9),
        ("snapshot_deferrable", "snapshot", 10),
    ],
)
def test_ways_to_wait(
    airflow: Airflow, strandline: Strandline, dag_id: str, task_id: str, number: int
) -> None:
    run = airflow.trigger_for(dag_id, day(number))
    airflow.until_ended(dag_id, run, "success")
    if dag_id != "flights_deferrable":  # Airflow may lose a deferral that is over at once
        assert airflow.task(dag_id, run, task_id)["try_number"] == 1
    assert check(strandline, day(number))["run"] == 1


@pytest.mark.parametrize(
    ("dag_id", "caught_up", "asked_for"),
    [("flights_backfill", [1, 2], [20, 21]), ("snapshot_backfill", [3, 4], [22, 23])],
)
def test_backfill(
    airflow: Airflow,
    strandline: Strandline,
    dag_id: str,
    caught_up: list[int],
    asked_for: list[int],
) -> None:
    airflow.unpause(dag_id)
    first, last = (day(number).start.date().isoformat() for number in asked_for)
    airflow.command(
        *("backfill", "create", "--dag-id", dag_id),
        *("--from-date", first, "--to-date", last, "--reprocess-behavior", "completed"),
    )
    eventually(lambda: len(airflow.runs(dag_id)) >= 4, f"four runs of {dag_id}", 240)
    for run in airflow.runs(dag_id):
        airflow.until_ended(dag_id, run["dag_run_id"], "success")
    for number in caught_up + asked_for:
        check(strandline, day(number))


@pytest.mark.parametrize(
    ("kind", "task_id", "number"), [("flights", "files", 11), ("snapshot", "snapshots", 12)]
)
def test_an_asset_starts_the_next_dag(
    airflow: Airflow, strandline: Strandline, kind: str, task_id: str, number: int
) -> None:
    produce, consume = f"{kind}_produce", f"{kind}_consume"
    airflow.unpause(consume)
    airflow.unpause(produce)
    # The run that is due first: of two events at once Airflow keeps the second for a later run.
    started = next_run(airflow, consume, [])
    run = airflow.trigger_for(produce, day(number))
    airflow.until_ended(produce, run, "success")
    snapshot = check(strandline, day(number))
    started = next_run(airflow, consume, started)
    assert started[0]["run_type"] == "asset_triggered"
    found = airflow.xcom(consume, started[0]["dag_run_id"], task_id)
    if kind == "flights":
        files = strandline.get(f"/v1/snapshots/{snapshot['id']}/files")["items"]
        assert found == [file["url"] for file in files]
    else:
        assert found == [
            {
                "snapshot_id": snapshot["id"],
                "topic": "flights",
                "window_start": snapshot["window_start"],
                "window_end": snapshot["window_end"],
                "completeness": "sealed",
                "records": snapshot["result"]["records"],
                "lost_offsets": 0,
            }
        ]


def next_run(airflow: Airflow, dag_id: str, before: list[dict]) -> list[dict]:
    """The runs of a DAG, newest first, once there is one more and it has ended."""
    eventually(lambda: len(airflow.runs(dag_id)) > len(before), f"a run of {dag_id}", 120)
    newest_first = sorted(airflow.runs(dag_id), key=lambda run: run["run_after"], reverse=True)
    airflow.until_ended(dag_id, newest_first[0]["dag_run_id"], "success")
    return newest_first
