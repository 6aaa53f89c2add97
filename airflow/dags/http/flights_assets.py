"""Start a DAG when a snapshot is there, and let it find the files."""

import json
from datetime import datetime, timedelta

from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG, Asset, task
from airflow.timetables.interval import CronDataIntervalTimetable

FLIGHTS = Asset("strandline-flights")

with DAG(
    "flights_produce",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2013, 1, 1),
    catchup=False,
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
            }
        ),
        extra_options={"timeout": 330},
        retries=3,
        retry_delay=timedelta(minutes=5),
        outlets=[FLIGHTS],
    )

# A run that an asset starts has no data interval of its own: it takes the window from the
# snapshot that started it.
with DAG("flights_consume", schedule=[FLIGHTS], start_date=datetime(2013, 1, 1), catchup=False):

    @task
    def files(*, ti, triggering_asset_events):
        """The addresses of the files, of all snapshots that started this run."""
        hook = HttpHook(method="GET", http_conn_id="strandline")
        urls = []
        for event in triggering_asset_events[FLIGHTS]:
            source = event.source_task_instance
            snapshot = json.loads(
                ti.xcom_pull(dag_id=source.dag_id, task_ids=source.task_id, run_id=source.run_id)
            )
            query = {"limit": 200}
            while query:
                answer = hook.run(
                    f"v1/snapshots/{snapshot['id']}/files",
                    data=query,
                    extra_options={"timeout": 30},
                ).json()
                urls += [file["url"] for file in answer["items"]]
                query = answer["next_cursor"] and {"limit": 200, "cursor": answer["next_cursor"]}
        return urls

    files()
