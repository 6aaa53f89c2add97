"""Start a DAG when a snapshot is there: the asset's event says which one and what it holds."""

from datetime import datetime, timedelta

from airflow.sdk import DAG, task
from airflow.timetables.interval import CronDataIntervalTimetable

from strandline_provider.assets.strandline import create_asset
from strandline_provider.operators.strandline import StrandlineSnapshotOperator

FLIGHTS = create_asset(topic="flights")  # strandline://default/flights

with DAG(
    "snapshot_produce",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2013, 1, 1),
    catchup=False,
):
    StrandlineSnapshotOperator(
        task_id="snapshot",
        topic="flights",
        outlets=[FLIGHTS],
        retries=3,
        retry_delay=timedelta(minutes=5),
    )

with DAG("snapshot_consume", schedule=[FLIGHTS], start_date=datetime(2013, 1, 1), catchup=False):

    @task
    def snapshots(*, triggering_asset_events):
        """What started this run: id, window, completeness and counts of each snapshot."""
        return [event.extra for event in triggering_asset_events[FLIGHTS]]

    snapshots()
