"""DAGs that the tests start with a topic and a window: one for each way to wait.

They are the examples, but for the retries, which come soon, as the tests wait for them.
"""

import json
from datetime import datetime, timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import AirflowException

from strandline_provider.operators.strandline import StrandlineSnapshotOperator
from strandline_provider.sensors.strandline import StrandlineSnapshotSensor

PARAMS = {
    "topic": Param("flights", type="string"),
    "window_start": Param(None, type=["null", "string"]),
    "window_end": Param(None, type=["null", "string"]),
    "expect": Param("succeeded", type="string"),
    "connection": Param("strandline_default", type="string"),
    "snapshot_id": Param("", type="string"),
}
SOON = {"retries": 6, "retry_delay": timedelta(seconds=2), "max_retry_delay": timedelta(seconds=2)}


def case(dag_id: str) -> DAG:
    """A DAG without a schedule."""
    return DAG(dag_id, schedule=None, start_date=datetime(2013, 1, 1), params=PARAMS)


def http(endpoint, task_id="snapshot", **arguments) -> HttpOperator:
    """The HTTP provider's."""
    return HttpOperator(
        task_id=task_id,
        http_conn_id="strandline",
        endpoint=endpoint,
        headers={"Content-Type": "application/json"},
        data=json.dumps(
            {
                "topic": "{{ params.topic }}",
                "window_start": "{{ params.window_start }}",
                "window_end": "{{ params.window_end }}",
            }
        ),
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


def succeeded(response) -> bool:
    """As in flights_deferrable.py."""
    snapshot = response.json()
    if snapshot["state"] == "succeeded":
        return True
    error = snapshot["error"] or {"message": "not done within the wait, the next try joins it"}
    raise AirflowException(f"snapshot {snapshot['id']} is {snapshot['state']}: {error['message']}")


ONE_REQUEST = "v1/snapshots?expect={{ params.expect }}&wait=300"

with case("case_http"):
    http(ONE_REQUEST, extra_options={"timeout": 330}, **SOON)

with case("case_http_once"):
    http(ONE_REQUEST, extra_options={"timeout": 330})

with case("case_http_deferrable"):
    http(
        "v1/snapshots?wait=240",
        deferrable=True,
        response_check=succeeded,
        warn_on_non_idempotent=False,
        **SOON,
    )

with case("case_http_sensor"):
    ask = http(
        "v1/snapshots",
        task_id="ask",
        extra_options={"timeout": 30},
        response_filter=lambda response: response.json()["id"],
        **SOON,
    )
    ask >> HttpSensor(
        task_id="snapshot",
        http_conn_id="strandline",
        endpoint=f"v1/snapshots/{ask.output}/result?expect={{{{ params.expect }}}}",
        response_error_codes_allowlist=["404", "429", "502", "503"],
        extra_options={"timeout": 30},
        mode="reschedule",
        poke_interval=10,
        timeout=600,
        **SOON,
    )

with case("case_operator"):
    operator(**SOON)

with case("case_deferrable"):
    operator(deferrable=True, **SOON)

with case("case_once"):
    operator(cancel_on_kill=False)

with case("case_ask_only"):
    operator(wait_for_termination=False)

with case("case_impatient"):
    operator(timeout=timedelta(seconds=3))

with case("case_sensor"):
    StrandlineSnapshotSensor(
        task_id="snapshot",
        snapshot_id="{{ params.snapshot_id }}",
        expect="{{ params.expect }}",
        deferrable=True,
        **SOON,
    )

with DAG("case_cron", schedule="0 0 * * *", start_date=datetime(2013, 1, 1), catchup=False):
    StrandlineSnapshotOperator(task_id="snapshot", topic="flights", retries=3)
