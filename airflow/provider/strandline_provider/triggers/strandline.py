"""Waits for a snapshot in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from strandline_provider.answers import StrandlineError, StrandlineFinalError
from strandline_provider.hooks.strandline import StrandlineAsyncHook

#: A trigger that fires before the scheduler has noticed the deferral makes it take the task for
#: one whose process died ("executor reported success, but the task is queued").
_SHORTEST_DEFERRAL_SECONDS = 5.0


class StrandlineSnapshotTrigger(BaseTrigger):
    """
    Fires when a snapshot has ended and is as complete as expected.

    It keeps nothing in memory that it could not ask for again, so it may be stopped and started
    elsewhere, and it goes on asking while Strandline restarts.

    :param snapshot_id: The snapshot.
    :param expect: ``succeeded``, ``settled`` or ``sealed``.
    :param until: When to give up, in seconds since the epoch.
    :param strandline_conn_id: The connection to Strandline.
    :param cancel_on_kill: Whether to cancel the snapshot if someone marks the task as failed or
        clears it while it is deferred (Airflow 3.3 and later tell the trigger).
    """

    def __init__(
        self,
        snapshot_id: str,
        expect: str,
        until: float,
        strandline_conn_id: str,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()
        self.snapshot_id = snapshot_id
        self.expect = expect
        self.until = until
        self.strandline_conn_id = strandline_conn_id
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, to make it again elsewhere."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "snapshot_id": self.snapshot_id,
                "expect": self.expect,
                "until": self.until,
                "strandline_conn_id": self.strandline_conn_id,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire once: with the snapshot, or with why there is none."""
        self.log.info("Waiting for snapshot %s", self.snapshot_id)
        try:
            await asyncio.sleep(_SHORTEST_DEFERRAL_SECONDS)
            yield TriggerEvent({"snapshot": await self._wait()})
        except StrandlineError as error:
            final = isinstance(error, StrandlineFinalError)
            yield TriggerEvent({"error": str(error), "code": error.code, "final": final})

    async def on_kill(self) -> None:
        """Cancel the snapshot: a person ended the task. Not called when the triggerer stops."""
        if not self.cancel_on_kill:
            return
        async with StrandlineAsyncHook(self.strandline_conn_id) as hook:
            snapshot = await hook.cancel_snapshot(self.snapshot_id)
        self.log.info("Snapshot %s is %s", self.snapshot_id, snapshot["state"])

    async def _wait(self) -> dict[str, Any]:
        async with StrandlineAsyncHook(self.strandline_conn_id) as hook:
            snapshot = await hook.get_snapshot(self.snapshot_id)
            return await hook.wait_for(snapshot, self.expect, self.until)
