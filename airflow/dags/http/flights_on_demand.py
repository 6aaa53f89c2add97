"""Started by hand, or by another program, with a window: there is no schedule.

airflow dags trigger flights_on_demand --conf \
        '{"window_start": "2013-01-12T00:00:00Z", "window_end": "2013-01-13T00:00:00Z"}'
"""

import json
from datetime import datetime, timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG, Param

with DAG(
    "flights_on_demand",
    schedule=None,
    start_date=datetime(2013, 1, 1),
    # Airflow asks for them in its form, and refuses a run without them.
    params={
        "topic": Param("flights", type="string"),
        "window_start": Param(type="string", format="date-time"),
        "window_end": Param(type="string", format="date-time"),
    },
):
    HttpOperator(
        task_id="snapshot",
        http_conn_id="strandline",
        endpoint="v1/snapshots?expect=succeeded&wait=300",
        headers={"Content-Type": "application/json"},
        data=json.dumps(
            {
                "topic": "{{ params.topic }}",
                "window_start": "{{ params.window_start }}",
                "window_end": "{{ params.window_end }}",
            }
        ),
        extra_options={"timeout": 330},
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
