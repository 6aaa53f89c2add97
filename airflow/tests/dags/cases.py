"""DAGs that the tests start with a topic and a window: one for each way to wait."""

import json
from datetime import datetime, timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG, Param

from strandline_provider.operators.strandline import StrandlineSnapshotOperator

PARAMS = {
    "topic": Param("flights", type="string"),
    "window_start": Param(None, type=["null", "string"]),
    "window_end": Param(None, type=["null", "string"]),
    "expect": Param("succeeded", type="string"),
    "connection": Param("strandline_default", type="string"),
}
# Retries come soon: the tests wait for them.
SOON = {"retries": 6, "retry_delay": timedelta(seconds=2), "max_retry_delay": timedelta(seconds=2)}


def case(dag_id: str) -> DAG:
    """A DAG without a schedule."""
    return DAG(dag_id, schedule=None, start_date=datetime(2013, 1, 1), params=PARAMS)


def http(**arguments) -> HttpOperator:
    """As flights_on_demand.py."""
    return HttpOperator(
        task_id="snapshot",
        http_conn_id="strandline",
        endpoint="v1/snapshots?expect={{ params.expect }}&wait=300",
        headers={"Content-Type": "application/json"},
        data=json.dumps(
            {
                "topic": "{{ params.topic }}",
                "window_start": "{{ params.window_start }}",
                "window_end": "{{ params.window_end }}",
            }
        ),
        extra_options={"timeout": 330},
        **arguments,
    )


def operator(**arguments) -> StrandlineSnapshotOperator:
    """The provider's."""
    return StrandlineSnapshotOperator(
        task_id="snapshot",
        topic="{{ params.topic }}",
        expect="{{ params.expect }}",
        strandline_conn_id="{{ params.connection }}",
        **arguments,
    )


with case("case_http"):
    http(**SOON)

with case("case_http_once"):
    http()

with case("case_operator"):
    operator(**SOON)

with case("case_deferrable"):
    operator(deferrable=True, **SOON)

with case("case_no_cancel"):
    operator(cancel_on_kill=False)

with case("case_ask_only"):
    operator(wait_for_termination=False)

with case("case_impatient"):
    operator(timeout=timedelta(seconds=3))

with DAG("case_cron", schedule="0 0 * * *", start_date=datetime(2013, 1, 1), catchup=False):
    StrandlineSnapshotOperator(task_id="snapshot", topic="flights", retries=3)
