"""An Airflow with something to do, which sends its metrics as docker-compose.yml says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from harness.airflow import DATABASE, ENDED, Airflow
from harness.processes import eventually
from harness.strandline import Window, day, hour
from stack.services import ROOT
from stack.whole import Stack

# Run by the scheduler once they are let go: schedules, a backfill, one DAG that starts another.
SCHEDULED = [
    "flights_daily",
    "snapshot_daily",
    "snapshot_backfill",
    "snapshot_produce",
    "snapshot_consume",
]


def airflow_of(stack: Stack) -> Airflow:
    """Not started yet. It works for this Strandline, and keeps its state in this PostgreSQL."""
    settings = metrics_settings() | {
        # Less than there is to do, so that something waits.
        "AIRFLOW__CORE__PARALLELISM": "3",
        # The default, 30, passes over tasks that are as short as these.
        "AIRFLOW__SCHEDULER__TI_METRICS_INTERVAL": "5",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(stack.statsd_port),
        DATABASE: (f"postgresql+psycopg2://airflow@/airflow?host={stack.postgres.socket}"),
    }
    return Airflow(stack.state, stack.strandline, settings)


def metrics_settings() -> dict[str, str]:
    """What docker-compose.yml tells Airflow about metrics."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    told: dict[str, str] = compose["x-airflow"]["environment"]
    found = {name: value for name, value in told.items() if name.startswith("AIRFLOW__METRICS__")}
    assert len(found) >= 5, found
    return found


class Work:
    """Runs of the example DAGs, and some that go wrong in the ways that dashboards are for."""

    def __init__(self, airflow: Airflow) -> None:
        self._airflow = airflow
        self._runs: list[tuple[str, str]] = []
        self._rounds = 0

    def begin(self) -> None:
        """Let the scheduled ones go, start the others."""
        for dag_id in SCHEDULED:
            self._airflow.unpause(dag_id)
        self._start("snapshot_deferrable", lambda dag: self._airflow.trigger_for(dag, day(9)))
        self.go_on()

    def go_on(self) -> None:
        """One more run of each of those that are not scheduled."""
        self._rounds += 1
        self._conf("case_operator", self._next_hour())
        self._conf("case_deferrable", self._next_hour())
        # No retries, and a token that Strandline does not know.
        self._conf("case_once", self._next_hour(), connection="strandline_wrong_token")
        # Nobody is there: it is tried again, and again.
        self._conf("case_operator", self._next_hour(), connection="strandline_nowhere")

    def until_done(self, seconds: float = 480) -> None:
        """Wait until what was started has ended, well or not, and one has been tried again."""

        def left() -> list[tuple[str, str]]:
            return [run for run in self._runs if self._state(*run) not in ENDED]

        # But for those that nobody answers.
        eventually(
            lambda: len(left()) <= self._rounds, "the runs have ended", seconds, lambda: str(left())
        )

        def consumed() -> bool:
            return any(run["state"] == "success" for run in self._airflow.runs("snapshot_consume"))

        eventually(consumed, "an asset has started a DAG", seconds)

    def _next_hour(self) -> Window:
        return hour(10, len(self._runs))

    def _conf(self, dag_id: str, window: Window, **more: Any) -> None:
        self._start(dag_id, lambda dag: self._airflow.trigger(dag, window.conf() | more))

    def _start(self, dag_id: str, trigger: Callable[[str], str]) -> None:
        self._runs.append((dag_id, trigger(dag_id)))

    def _state(self, dag_id: str, run_id: str) -> str:
        return self._airflow.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
