"""Started by hand with a window; then waits, without holding a worker, until nothing can be added.

airflow dags trigger snapshot_on_demand --conf \
        '{"window_start": "2013-01-12T00:00:00Z", "window_end": "2013-01-13T00:00:00Z"}'
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from strandline_provider.operators.strandline import StrandlineSnapshotOperator
from strandline_provider.sensors.strandline import StrandlineSnapshotSensor

with DAG(
    "snapshot_on_demand",
    schedule=None,
    start_date=datetime(2013, 1, 1),
    params={
        "topic": Param("flights", type="string"),
        "window_start": Param(type="string", format="date-time"),
        "window_end": Param(type="string", format="date-time"),
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
):
    snapshot = StrandlineSnapshotOperator(
        task_id="snapshot",
        topic="{{ params.topic }}",
        # From the params, as there is no data interval.
    )
    StrandlineSnapshotSensor(
        task_id="sealed",
        snapshot_id="{{ ti.xcom_pull(task_ids='snapshot')['id'] }}",
        expect="sealed",
        mode="reschedule",
        poke_interval=60,
        timeout=timedelta(days=1).total_seconds(),
    ).set_upstream(snapshot)
