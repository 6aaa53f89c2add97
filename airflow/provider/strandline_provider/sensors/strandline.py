"""Waits for a snapshot that someone else asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseSensorOperator, PokeReturnValue, conf

from strandline_provider import answers
from strandline_provider.answers import Document
from strandline_provider.hooks.strandline import StrandlineHook
from strandline_provider.triggers.strandline import StrandlineSnapshotTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class StrandlineSnapshotSensor(BaseSensorOperator):
    """
    Waits until a snapshot is as complete as expected; its document is the result.

    Fails at once if the snapshot failed or was cancelled, or if there is none with this id.

    :param snapshot_id: The snapshot. (templated)
    :param expect: ``succeeded``, ``settled`` or ``sealed``. (templated)
    :param strandline_conn_id: The connection to Strandline. (templated)
    :param deferrable: Whether to wait in the triggerer.
    """

    template_fields: Sequence[str] = ("snapshot_id", "expect", "strandline_conn_id")

    def __init__(
        self,
        *,
        snapshot_id: str,
        expect: str = "settled",
        strandline_conn_id: str = StrandlineHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.snapshot_id = snapshot_id
        self.expect = expect
        self.strandline_conn_id = strandline_conn_id
        self.deferrable = deferrable

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        hook = StrandlineHook(self.strandline_conn_id)
        snapshot = hook.get_result(self.snapshot_id, self.expect)
        return PokeReturnValue(is_done=snapshot is not None, xcom_value=snapshot)

    def execute(self, context: Context) -> Any:
        """Poke until done, or wait in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        looked = self.poke(context)
        if looked.is_done:
            return looked.xcom_value
        self.defer(
            trigger=StrandlineSnapshotTrigger(
                snapshot_id=self.snapshot_id,
                expect=self.expect,
                until=time.time() + self.timeout,
                strandline_conn_id=self.strandline_conn_id,
                cancel_on_kill=False,
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Document:
        """Go on when the trigger has fired."""
        if "error" in event:
            raise answers.error_of(event["error"], event["code"], retryable=not event["final"])
        return event["snapshot"]
