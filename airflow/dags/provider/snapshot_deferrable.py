"""Wait in the triggerer, until the window is settled: the result does not grow unseen later."""

from datetime import datetime, timedelta

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from strandline_provider.operators.strandline import StrandlineSnapshotOperator

with DAG(
    "snapshot_deferrable",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2013, 1, 1),
    catchup=False,
):
    StrandlineSnapshotOperator(
        task_id="snapshot",
        topic="flights",
        deferrable=True,
        expect="settled",
        # Retention must not have been quicker.
        on_loss="fail",
        timeout=timedelta(hours=6),
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
