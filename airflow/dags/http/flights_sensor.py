"""Ask, then wait without holding a worker, with nothing but the HTTP provider."""

import json
from datetime import datetime, timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

with DAG(
    "flights_sensor",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2013, 1, 1),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
):
    ask = HttpOperator(
        task_id="ask",
        http_conn_id="strandline",
        endpoint="v1/snapshots",
        headers={"Content-Type": "application/json"},
        data=json.dumps(
            {
                "topic": "flights",
                "window_start": "{{ data_interval_start }}",
                "window_end": "{{ data_interval_end }}",
            }
        ),
        extra_options={"timeout": 30},
        # All that the sensor needs to know.
        response_filter=lambda response: response.json()["id"],
    )
    wait = HttpSensor(
        task_id="wait",
        http_conn_id="strandline",
        # 404 until it is ready, 409 if it failed, 410 if it was cancelled. Without the result at
        # its end the address would answer 200 at once, and the sensor would take that for done.
        endpoint=f"v1/snapshots/{ask.output}/result?expect=settled",
        # "Not yet", and what a Strandline that restarts or is busy answers. Anything else fails
        # the sensor. 404 is also what an unknown id gets; this one is from the task before.
        response_error_codes_allowlist=["404", "429", "502", "503"],
        extra_options={"timeout": 30},
        mode="reschedule",
        poke_interval=30,
        timeout=timedelta(hours=12).total_seconds(),
    )
    ask >> wait
