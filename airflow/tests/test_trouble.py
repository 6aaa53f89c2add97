"""What goes wrong: slow snapshots, restarts, errors, and people who end tasks."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from harness.airflow import Airflow
from harness.processes import command_line, eventually, session
from harness.strandline import Strandline, Window, hour

#: The ways to wait that the examples show, and the state in which each waits.
WAYS = {
    "case_http": "running",
    "case_http_sensor": "up_for_reschedule",
    "case_http_deferrable": "deferred",
    "case_operator": "running",
    "case_deferrable": "deferred",
}


def trigger_all(airflow: Airflow, windows: dict[str, Window]) -> dict[str, str]:
    """Start a run of each DAG."""
    return {dag_id: airflow.trigger(dag_id, window.conf()) for dag_id, window in windows.items()}


def until_all_wait(airflow: Airflow, runs: dict[str, str]) -> None:
    """Wait until each task waits in its way."""
    for dag_id, run in runs.items():
        airflow.until_task(dag_id, run, WAYS[dag_id])


def assert_one_try(airflow: Airflow, dag_id: str, run: str) -> None:
    """The wait cost no try; but Airflow itself loses some of a sensor that is rescheduled soon."""
    if dag_id != "case_http_sensor":
        assert airflow.task(dag_id, run)["try_number"] == 1


def check(strandline: Strandline, window: Window, runs: int = 1) -> None:
    """There is one snapshot, it has all events of the window, and took so many runs."""
    snapshot = strandline.the_snapshot(window)
    assert snapshot["state"] == "succeeded"
    assert snapshot["result"]["records"] == window.events() > 0
    assert snapshot["run"] == runs


def test_a_snapshot_that_takes_a_minute(airflow: Airflow, strandline: Strandline) -> None:
    windows = {dag_id: hour(13, 12 + n) for n, dag_id in enumerate(WAYS)}
    with strandline.held_up():
        runs = trigger_all(airflow, windows)
        until_all_wait(airflow, runs)
        minute = time.monotonic() + 60
        eventually(lambda: time.monotonic() > minute, "a minute is over", 90)
        for window in windows.values():
            assert strandline.the_snapshot(window)["state"] == "queued"
        until_all_wait(airflow, runs)
    for dag_id, window in windows.items():
        airflow.until_ended(dag_id, runs[dag_id], "success")
        check(strandline, window)
        assert_one_try(airflow, dag_id, runs[dag_id])


@pytest.mark.parametrize(("how", "first_hour"), [(signal.SIGTERM, 10), (signal.SIGKILL, 15)])
def test_strandline_restarts(
    airflow: Airflow, strandline: Strandline, how: signal.Signals, first_hour: int
) -> None:
    windows = {dag_id: hour(14, first_hour + n) for n, dag_id in enumerate(WAYS)}
    with strandline.held_up():
        runs = trigger_all(airflow, windows)
        until_all_wait(airflow, runs)
        for window in windows.values():
            strandline.eventually(window, "queued")
        strandline.restart_api(how)
        # Until HttpOperator has met an address where nobody is, which takes it a try.
        airflow.until_task("case_http", runs["case_http"], "up_for_retry")
        # The operator may be in its pause; it has to meet nobody, too.
        eventually(lambda: met_nobody(airflow, runs["case_operator"]), "the operator met nobody")
        strandline.start_api()
    for dag_id, window in windows.items():
        airflow.until_ended(dag_id, runs[dag_id], "success")
        check(strandline, window)
    # The provider's tasks do not even need another try.
    for dag_id in ("case_operator", "case_deferrable"):
        assert airflow.task(dag_id, runs[dag_id])["try_number"] == 1


def met_nobody(airflow: Airflow, run_id: str) -> bool:
    """Whether a try of the operator has said that nobody answers, and that it goes on."""
    log = airflow.log("case_operator", run_id)
    return any("no answer from" in line and "asking again in" in line for line in log)


def test_the_triggerer_restarts(airflow: Airflow, strandline: Strandline) -> None:
    window = hour(15, 12)
    with strandline.held_up():
        run = airflow.trigger("case_deferrable", window.conf())
        airflow.until_task("case_deferrable", run, "deferred")
        triggerer = airflow.parts["triggerer"]
        triggerer.stop()
        triggerer.start()
        # It must not be taken for a person who ends the task.
        assert strandline.the_snapshot(window)["state"] == "queued"
    airflow.until_ended("case_deferrable", run, "success")
    assert airflow.task("case_deferrable", run)["try_number"] == 1
    check(strandline, window)


def test_a_try_that_dies_is_followed_by_one_that_joins(
    airflow: Airflow, strandline: Strandline
) -> None:
    window = hour(15, 13)
    with strandline.held_up():
        run = airflow.trigger("case_operator", window.conf())
        strandline.eventually(window, "queued")
        eventually(lambda: task_process(airflow, run), "the task's process is seen")
        os.kill(task_process(airflow, run), signal.SIGKILL)
        eventually(
            lambda: (
                airflow.task("case_operator", run)["try_number"] == 2
                and airflow.task("case_operator", run)["state"] == "running"
            ),
            "a second try runs",
            240,
        )
    airflow.until_ended("case_operator", run, "success")
    check(strandline, window)


def task_process(airflow: Airflow, run_id: str) -> int:
    """The process that runs the task, which it is called after; 0 if there is none yet."""
    title = f"airflow worker -- {airflow.task('case_operator', run_id)['id']}"
    pids = session(airflow.parts["scheduler"].pid())
    return next((pid for pid in pids if title in command_line(pid)), 0)


@pytest.mark.parametrize(
    ("dag_id", "is_tried_again"),
    [
        ("case_http_once", False),
        ("case_http_sensor", True),
        ("case_http_deferrable", True),
        # What another try can't mend gets none from the provider, whatever `retries` says.
        ("case_operator", False),
        ("case_deferrable", False),
    ],
)
def test_one_line_of_the_log_tells_why_it_failed(
    airflow: Airflow, strandline: Strandline, dag_id: str, is_tried_again: bool
) -> None:
    topic = f"no-such-topic-{dag_id}"
    run = airflow.trigger(dag_id, hour(15, 14).conf(topic))
    if is_tried_again:
        airflow.until_task(dag_id, run, "up_for_retry")
        airflow.set_task(dag_id, run, "failed")
    airflow.until_ended(dag_id, run, "failed")
    if not is_tried_again:
        assert airflow.task(dag_id, run)["try_number"] == 1
    strandline.the_snapshot(hour(15, 14), topic)
    lines = [line for line in airflow.log(dag_id, run) if topic in line]
    causes = [line for line in lines if line.startswith("error ") and "does not exist" in line]
    assert causes, lines
    assert all("\n" not in line for line in causes)


@pytest.mark.parametrize(
    ("dag_id", "conf", "cause"),
    [
        ("case_operator", {}, "this run has no data interval, as it was started by hand"),
        ("case_operator", {"window_start": "2013-01-01T00:00:00Z"}, "go together"),
        (
            "case_operator",
            {"window_start": "2013-01-01", "window_end": "2013-01-02"},
            "(422 ",
        ),
        ("case_operator", {"expect": "perfect"} | hour(1, 12).conf(), "expect is 'perfect'"),
        (
            "case_http_once",
            {"window_start": "2013-01-01T00:00:00Z", "window_end": "2013-01-01T00:00:00Z"},
            "CronDataIntervalTimetable",
        ),
        (
            "case_once",
            {"connection": "strandline_nowhere"} | hour(1, 12).conf(),
            "no answer from http://127.0.0.1:",
        ),
        (
            "case_operator",
            {"connection": "strandline_wrong_token"} | hour(1, 12).conf(),
            "UNAUTHENTICATED: ",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(
    airflow: Airflow, dag_id: str, conf: dict[str, str], cause: str
) -> None:
    run = airflow.trigger(dag_id, conf)
    airflow.until_task(dag_id, run, "failed")
    log = airflow.log(dag_id, run)
    assert any(line.startswith("error ") and cause in line for line in log), log
    assert not any("a-wrong-token" in line for line in log)


def test_the_empty_interval_of_a_cron_schedule_is_explained(airflow: Airflow) -> None:
    airflow.unpause("case_cron")
    eventually(lambda: airflow.runs("case_cron"), "a scheduled run")
    run = airflow.runs("case_cron")[0]["dag_run_id"]
    airflow.until_ended("case_cron", run, "failed")
    assert airflow.task("case_cron", run)["try_number"] == 1
    lines = airflow.log("case_cron", run)
    assert any("is empty" in line and "CronDataIntervalTimetable" in line for line in lines), lines


@pytest.mark.parametrize(
    ("dag_id", "how", "number"),
    [("case_operator", "running", 15), ("case_deferrable", "deferred", 16)],
)
def test_who_marks_a_task_as_failed_cancels_its_snapshot(
    airflow: Airflow, strandline: Strandline, dag_id: str, how: str, number: int
) -> None:
    window = hour(15, number)
    with strandline.held_up():
        run = airflow.trigger(dag_id, window.conf())
        strandline.eventually(window, "queued")
        airflow.until_it_waits(dag_id, run, how)
        airflow.set_task(dag_id, run, "failed")
        strandline.eventually(window, "cancelled")
    # Cleared, it goes on: the same snapshot, another run.
    airflow.clear(dag_id, run)
    airflow.until_ended(dag_id, run, "success")
    check(strandline, window, runs=2)


def test_nothing_is_cancelled_if_that_is_not_wanted(
    airflow: Airflow, strandline: Strandline
) -> None:
    window = hour(15, 17)
    with strandline.held_up():
        run = airflow.trigger("case_once", window.conf())
        strandline.eventually(window, "queued")
        airflow.set_task("case_once", run, "failed")
        eventually(
            lambda: any("Task killed!" in line for line in airflow.log("case_once", run)),
            "the task's process has ended",
        )
        assert strandline.the_snapshot(window)["state"] == "queued"
    strandline.eventually(window, "succeeded")
    check(strandline, window)


@pytest.mark.parametrize(
    ("dag_id", "how", "number"),
    [("case_operator", "running", 18), ("case_deferrable", "deferred", 19)],
)
def test_a_task_that_is_cleared_while_it_waits(
    airflow: Airflow, strandline: Strandline, dag_id: str, how: str, number: int
) -> None:
    window = hour(15, number)
    with strandline.held_up():
        run = airflow.trigger(dag_id, window.conf())
        strandline.eventually(window, "queued")
        airflow.until_it_waits(dag_id, run, how)
        airflow.clear(dag_id, run)
        eventually(
            lambda: (
                airflow.task(dag_id, run)["try_number"] >= 2
                and airflow.task(dag_id, run)["state"] in ("running", "deferred")
            ),
            "another try waits",
        )
    airflow.until_ended(dag_id, run, "success")
    assert strandline.the_snapshot(window)["state"] == "succeeded"


def test_someone_else_cancels_the_snapshot(airflow: Airflow, strandline: Strandline) -> None:
    window = hour(15, 20)
    with strandline.held_up():
        run = airflow.trigger("case_once", window.conf())
        snapshot = strandline.eventually(window, "queued")
        strandline.post(f"/v1/snapshots/{snapshot['id']}/cancel")
        airflow.until_ended("case_once", run, "failed")
    assert any("was cancelled" in line for line in airflow.log("case_once", run))


def test_the_timeout_leaves_the_snapshot_alone(airflow: Airflow, strandline: Strandline) -> None:
    window = hour(15, 21)
    with strandline.held_up():
        run = airflow.trigger("case_impatient", window.conf())
        airflow.until_ended("case_impatient", run, "failed")
        assert any(
            "is still queued and goes on" in line for line in airflow.log("case_impatient", run)
        )
    strandline.eventually(window, "succeeded")


def test_asking_without_waiting(airflow: Airflow, strandline: Strandline) -> None:
    window = hour(15, 22)
    with strandline.held_up():
        run = airflow.trigger("case_ask_only", window.conf())
        airflow.until_ended("case_ask_only", run, "success")
        assert airflow.xcom("case_ask_only", run)["state"] == "queued"
    strandline.eventually(window, "succeeded")
    link = airflow.link("case_ask_only", run, "Strandline snapshot")
    snapshot = strandline.the_snapshot(window)
    assert link == f"https://strandline.example.com/v1/snapshots/{snapshot['id']}"


def test_settled_is_waited_for(airflow: Airflow, strandline: Strandline) -> None:
    # So that the grace is not over when the slowest of them asks.
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=60)
    ways = ("case_http", "case_http_sensor", "case_operator", "case_deferrable")
    windows = {
        dag_id: Window(end - timedelta(hours=hours), timedelta(hours=hours))
        for hours, dag_id in enumerate(ways, 1)
    }
    runs = {
        dag_id: airflow.trigger(dag_id, window.conf() | {"expect": "settled"})
        for dag_id, window in windows.items()
    }
    for window in windows.values():
        assert strandline.eventually(window, "succeeded")["completeness"] == "provisional"
    for dag_id, window in windows.items():
        airflow.until_ended(dag_id, runs[dag_id], "success")
        assert strandline.the_snapshot(window)["completeness"] == "settled"
        assert_one_try(airflow, dag_id, runs[dag_id])


def test_the_sensor_waits_in_the_triggerer(airflow: Airflow, strandline: Strandline) -> None:
    window = hour(15, 23)
    with strandline.held_up():
        asked = airflow.trigger("case_ask_only", window.conf())
        airflow.until_ended("case_ask_only", asked, "success")
        snapshot_id = airflow.xcom("case_ask_only", asked)["id"]
        run = airflow.trigger("case_sensor", {"snapshot_id": snapshot_id, "expect": "sealed"})
        airflow.until_task("case_sensor", run, "deferred")
    airflow.until_ended("case_sensor", run, "success")
    assert airflow.xcom("case_sensor", run)["completeness"] == "sealed"


def test_the_sensor_fails_at_once_for_a_snapshot_that_is_not(airflow: Airflow) -> None:
    snapshot_id = "01a20696-0000-7000-8000-000000000000"
    run = airflow.trigger("case_sensor", {"snapshot_id": snapshot_id})
    airflow.until_ended("case_sensor", run, "failed")
    assert airflow.task("case_sensor", run)["try_number"] == 1
    log = airflow.log("case_sensor", run)
    assert any("NOT_FOUND: " in line and snapshot_id in line for line in log), log
