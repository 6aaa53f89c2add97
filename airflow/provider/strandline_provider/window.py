"""Which window of time a task run is about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from strandline_provider.answers import StrandlineFinalError

Time = str | datetime


def window_of(
    window_start: Time | None, window_end: Time | None, context: Mapping[str, Any]
) -> tuple[str, str]:
    """The window: as given, else the run's params of these names, else its data interval.

    :raises StrandlineFinalError: there is none, with what to do about it; a retry has none either
    """
    params = context.get("params") or {}
    for start, end in (
        (window_start, window_end),
        (params.get("window_start"), params.get("window_end")),
    ):
        if (start is None) != (end is None):
            raise StrandlineFinalError(
                "window_start and window_end go together: one of them is missing"
            )
        if start is not None and end is not None:
            return _text(start), _text(end)
    return _data_interval(context)


def _data_interval(context: Mapping[str, Any]) -> tuple[str, str]:
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start is None or end is None:
        raise StrandlineFinalError(
            "this run has no data interval, as it was started by hand or by an asset: give the "
            "operator window_start and window_end, or the run params of these names"
        )
    if start == end:
        raise StrandlineFinalError(
            f"the data interval of this run is empty, it starts and ends at {_text(start)}: in "
            "Airflow 3 a cron schedule has empty data intervals unless it is a "
            "CronDataIntervalTimetable"
        )
    return _text(start), _text(end)


def _text(time: Time) -> str:
    return time.isoformat() if isinstance(time, datetime) else str(time)
