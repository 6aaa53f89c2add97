"""Wait in the triggerer. The provider's operator does this better; see snapshot_deferrable.py."""

import json
from datetime import datetime, timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException
from airflow.timetables.interval import CronDataIntervalTimetable


def succeeded(response) -> bool:
    """Whether it is done. In deferrable mode an error's text is lost, so no `expect` here."""
    snapshot = response.json()
    if snapshot["state"] == "succeeded":
        return True
    error = snapshot["error"] or {"message": "not done within the wait, the next try joins it"}
    raise AirflowException(f"snapshot {snapshot['id']} is {snapshot['state']}: {error['message']}")


with DAG(
    "flights_deferrable",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2013, 1, 1),
    catchup=False,
):
    HttpOperator(
        task_id="snapshot",
        http_conn_id="strandline",
        deferrable=True,
        # Airflow's asynchronous client gives up after 300 s.
        endpoint="v1/snapshots?wait=240",
        headers={"Content-Type": "application/json"},
        data=json.dumps(
            {
                "topic": "flights",
                "window_start": "{{ data_interval_start }}",
                "window_end": "{{ data_interval_end }}",
            }
        ),
        response_check=succeeded,
        # A triggerer that restarts sends the request again: that is the same snapshot.
        warn_on_non_idempotent=False,
        # Soon: Airflow may take a deferral that is over at once for a process that died.
        retries=10,
        retry_delay=timedelta(seconds=30),
    )
