"""The stack for all tests, which takes its time to start; and small ones to break."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from stack import dashboards
from stack.dags import Work, airflow_of
from stack.dashboards import Panel, Span
from stack.load import Load
from stack.prometheus import Prometheus
from stack.whole import Stack, state_folder

# How long the load lasts at least: longer than the minute of $__rate_interval.
SECONDS = 100

Drill = Callable[..., Stack]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """All that docker-compose.yml starts without a profile, watched by Prometheus."""
    with Stack(state_folder() / "stack") as running:
        yield running


@dataclass
class Busy:
    """A stack that was under load, and when."""

    stack: Stack
    start: float
    end: float


@pytest.fixture(scope="session")
def busy(stack: Stack) -> Iterator[Busy]:
    """The stack and a real Airflow, after minutes of work; Prometheus has seen it all."""
    airflow = airflow_of(stack)
    load = Load(stack.strandline, stack.kafka.brokers)
    start = time.time()
    try:
        airflow.start()
        load.prepare()
        began = time.time()
        work = Work(airflow)
        with load.running():
            work.begin()
            load.lose("forgetful")
            work.until_done()
            # What is seen now and then only, or was told once, in a packet that got lost.
            for _ in range(3):
                if not _silent(stack.prometheus, Span(start, time.time())):
                    break
                work.go_on()
                work.until_done()
            # Not before: a task of an example DAG that fails is tried again after five minutes.
            _interrupt(stack)
            time.sleep(max(20.0, began + SECONDS - time.time()))
            # Two rounds of scraping, so that the end is in it.
            time.sleep(5)
            end = _all_up(stack.prometheus)
        for replica in stack.strandline.replicas:
            assert replica.process.runs(), (replica.process.code(), replica.process.tail())
        yield Busy(stack, start, end)
    finally:
        airflow.stop()


def _all_up(prometheus: Prometheus) -> float:
    """A moment in which no target's last scrape had come late, which would make a hole."""
    for _ in range(20):
        moment = time.time()
        # One that is under way then bears the time of its start.
        time.sleep(3)
        if not prometheus.instant("up == 0", moment):
            return moment
    raise AssertionError(prometheus.explain())


def _silent(prometheus: Prometheus, span: Span) -> list[Panel]:
    """Airflow's panels that have no answer yet."""
    chosen = dashboards.all_chosen("airflow", prometheus)
    return [
        panel
        for panel in dashboards.panels("airflow")
        if not all(series for _, series in panel.answers(prometheus, span, chosen))
    ]


def _interrupt(stack: Stack) -> None:
    """Kafka and the bucket are away for a moment, so that something has to be tried again."""
    assert stack.minio is not None
    for service in (stack.minio, stack.kafka):
        service.stop()
        time.sleep(3)
        service.start()


@pytest.fixture
def drill(request: pytest.FixtureRequest) -> Iterator[Drill]:
    """Starts a stack of its own with other settings, for a test that breaks it.

    `drill(minio=False, replicas=1, rules=FOLDER, interval="1s", STRANDLINE_WORKERS="1")`
    """
    with ExitStack() as running:

        def begin(**settings: Any) -> Stack:
            return running.enter_context(Stack(state_folder() / request.node.name, **settings))

        yield begin
