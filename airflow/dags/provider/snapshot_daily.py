"""One task, with the operator of airflow-provider-strandline: the window is the data interval."""

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable

from strandline_provider.operators.strandline import StrandlineSnapshotOperator

with DAG(
    "snapshot_daily",
    # Not "@daily": in Airflow 3 a plain cron schedule has empty data intervals.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2013, 1, 1),
    catchup=False,
    # The operator takes params of these names in place of the data interval, if they are set:
    # a run that is started by hand can be given a window.
    params={
        "window_start": Param(None, type=["null", "string"], format="date-time"),
        "window_end": Param(None, type=["null", "string"], format="date-time"),
    },
):
    StrandlineSnapshotOperator(
        task_id="snapshot",
        topic="flights",
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
