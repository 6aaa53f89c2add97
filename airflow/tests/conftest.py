"""One Strandline and one Airflow for all tests; both take their time to start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.airflow import Airflow
from harness.strandline import Strandline


@pytest.fixture(scope="session")
def strandline() -> Iterator[Strandline]:
    """A running Strandline, whose topic holds the flights of January 2013."""
    service = Strandline(_state())
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="session")
def airflow(strandline: Strandline) -> Iterator[Airflow]:
    """A running Airflow that has read all DAGs."""
    service = Airflow(_state(), strandline)
    try:
        service.start()
        yield service
    finally:
        service.stop()


def _state() -> Path:
    return Path(os.environ["STRANDLINE_TEST_AIRFLOW_STATE"])
