"""One task is all: take yesterday's events, with nothing but the HTTP provider."""

import json
from datetime import datetime, timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable

with DAG(
    "flights_daily",
    # Not "@daily": in Airflow 3 a plain cron schedule has empty data intervals.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2013, 1, 1),
    catchup=False,
    # A run that is started by hand may have no data interval; it can be given a window.
    params={
        "window_start": Param(None, type=["null", "string"]),
        "window_end": Param(None, type=["null", "string"]),
    },
):
    HttpOperator(
        task_id="snapshot",
        http_conn_id="strandline",
        # The answer comes when the snapshot is done, and its status tells the outcome.
        endpoint="v1/snapshots?expect=succeeded&wait=300",
        headers={"Content-Type": "application/json"},
        # A string: a dict would be sent as a form, and request_kwargs are not templated.
        data=json.dumps(
            {
                "topic": "flights",
                "window_start": "{{ params.window_start or data_interval_start }}",
                "window_end": "{{ params.window_end or data_interval_end }}",
                "labels": {"dag_id": "{{ dag.dag_id }}", "run_id": "{{ run_id }}"},
            }
        ),
        # Longer than the wait. Without it a lost connection is waited for for ever.
        extra_options={"timeout": 330},
        # The same request is the same snapshot: a retry joins it while it runs.
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
