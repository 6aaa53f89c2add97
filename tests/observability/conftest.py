"""The stack for all tests, which takes its time to start; and small ones to break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from stack.whole import Stack, state_folder

Drill = Callable[..., Stack]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """All that docker-compose.yml starts without a profile, watched by Prometheus."""
    with Stack(state_folder() / "stack") as running:
        yield running


@pytest.fixture
def drill(request: pytest.FixtureRequest) -> Iterator[Drill]:
    """Starts a stack of its own with other settings, for a test that breaks it.

    `drill(minio=False, replicas=1, rules=FOLDER, interval="1s", STRANDLINE_WORKERS="1")`
    """
    with ExitStack() as running:

        def begin(**settings: object) -> Stack:
            state = state_folder() / request.node.name
            return running.enter_context(Stack(state, **settings))  # type: ignore[arg-type]

        yield begin
