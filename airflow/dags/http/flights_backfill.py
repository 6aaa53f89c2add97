"""Catch up with the past: a run for each day since the start, a few at a time.

Other days, or the same ones again, by hand:

    airflow backfill create --dag-id flights_backfill \
        --from-date 2013-01-20 --to-date 2013-01-21 --reprocess-behavior completed

A window that is stored already costs next to nothing: no event is read or stored twice.
"""

import json
from datetime import datetime, timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

with DAG(
    "flights_backfill",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2013, 1, 1),
    end_date=datetime(2013, 1, 3),
    catchup=True,
    # Strandline shares its workers out by itself; this bounds what waits in Airflow's.
    max_active_runs=4,
):
    HttpOperator(
        task_id="snapshot",
        http_conn_id="strandline",
        endpoint="v1/snapshots?expect=succeeded&wait=300",
        headers={"Content-Type": "application/json"},
        data=json.dumps(
            {
                "topic": "flights",
                "window_start": "{{ data_interval_start }}",
                "window_end": "{{ data_interval_end }}",
                # Events that Kafka has removed meanwhile make the run fail, after what is left
                # was stored. The default, "report", only counts them.
                "on_loss": "fail",
            }
        ),
        extra_options={"timeout": 330},
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
