"""Catch up with the past: a run for each day since the start, a few at a time.

airflow backfill create --dag-id snapshot_backfill \
        --from-date 2013-01-22 --to-date 2013-01-23 --reprocess-behavior completed
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from strandline_provider.operators.strandline import StrandlineSnapshotOperator

with DAG(
    "snapshot_backfill",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2013, 1, 3),
    end_date=datetime(2013, 1, 5),
    catchup=True,
    max_active_runs=4,
):
    StrandlineSnapshotOperator(
        task_id="snapshot",
        topic="flights",
        on_loss="fail",
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
