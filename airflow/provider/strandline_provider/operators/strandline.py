"""Takes a snapshot of a topic and a window of time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from strandline_provider import answers
from strandline_provider.answers import Document, StrandlineFinalError, StrandlineTimeout
from strandline_provider.assets.strandline import add_to_events
from strandline_provider.hooks.strandline import StrandlineHook
from strandline_provider.links.strandline import LINK_KEY, StrandlineSnapshotLink
from strandline_provider.triggers.strandline import StrandlineSnapshotTrigger
from strandline_provider.window import window_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

#: A snapshot that ends within this is not worth the way through the triggerer and back.
_WAIT_BEFORE_DEFERRING_SECONDS = 5.0


class StrandlineSnapshotOperator(BaseOperator):
    """
    Copies exactly the events of a Kafka topic and a window of time into Parquet files.

    The request is its own key: cluster, topic, window and ``capture`` name the snapshot. So a
    retry, a cleared task and a backfill meet the snapshot that is there: they join it while it
    runs, and add what is missing when it has ended. Nothing has to be remembered between tries.

    Returns the snapshot document, which is small.

    :param topic: The topic. (templated)
    :param window_start: Start of the window, with a time zone. Without it and ``window_end``: the
        params of these names if the run has them, else the data interval. (templated)
    :param window_end: End of the window, which does not belong to it. (templated)
    :param capture: ``events``, or ``offsets`` to record the ranges and copy nothing. (templated)
    :param on_loss: ``report`` or ``fail``: what to make of offsets that are lost. (templated)
    :param cluster: The Kafka cluster, if not Strandline's default. (templated)
    :param labels: Labels of the snapshot, besides ``dag_id``, ``run_id`` and ``task_id``.
        (templated)
    :param expect: What to take for success. ``succeeded``: all that there is now is stored.
        ``settled``: and the window and its grace are over. ``sealed``: and nothing can be added
        any more. (templated)
    :param strandline_conn_id: The connection to Strandline. (templated)
    :param wait_for_termination: Whether to wait for the end, or only to ask for the snapshot.
    :param deferrable: Whether to wait in the triggerer.
    :param timeout: How long to wait, also in the triggerer. The snapshot goes on after it, and
        another try joins it.
    :param cancel_on_kill: Whether to cancel the snapshot when someone ends the task: marks it as
        failed, clears it, or by ``execution_timeout``. Switch it off where other tasks want the
        same snapshot.
    """

    template_fields: Sequence[str] = (
        "topic",
        "window_start",
        "window_end",
        "capture",
        "on_loss",
        "cluster",
        "labels",
        "expect",
        "strandline_conn_id",
    )
    template_fields_renderers = {"labels": "json"}
    operator_extra_links = (StrandlineSnapshotLink(),)
    ui_color = "#d6e8f0"

    def __init__(
        self,
        *,
        topic: str,
        window_start: str | datetime | None = None,
        window_end: str | datetime | None = None,
        capture: str = "events",
        on_loss: str = "report",
        cluster: str | None = None,
        labels: dict[str, str] | None = None,
        expect: str = "succeeded",
        strandline_conn_id: str = StrandlineHook.default_conn_name,
        wait_for_termination: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: timedelta = timedelta(hours=24),
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.topic = topic
        self.window_start = window_start
        self.window_end = window_end
        self.capture = capture
        self.on_loss = on_loss
        self.cluster = cluster
        self.labels = labels
        self.expect = expect
        self.strandline_conn_id = strandline_conn_id
        self.wait_for_termination = wait_for_termination
        self.deferrable = deferrable
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self._hook: StrandlineHook | None = None
        self._snapshot_id: str | None = None

    def execute(self, context: Context) -> Document:
        """Ask for the snapshot, and wait for it here or in the triggerer."""
        if self.expect not in answers.EXPECTATIONS:
            wanted = ", ".join(answers.EXPECTATIONS)
            raise StrandlineFinalError(f"expect is {self.expect!r}, not one of {wanted}")
        self._hook = hook = StrandlineHook(self.strandline_conn_id)
        snapshot = hook.create_snapshot(self._request(context))
        self._snapshot_id = snapshot["id"]
        context["ti"].xcom_push(key=LINK_KEY, value=hook.link(snapshot["id"]))
        self.log.info(
            "%s is %s (run %s)", answers.describe(snapshot), snapshot["state"], snapshot["run"]
        )
        if not self.wait_for_termination:
            return snapshot
        until = time.time() + self.timeout.total_seconds()
        if not self.deferrable:
            return self._finish(context, hook.wait_for(snapshot, self.expect, until))
        soon = min(until, time.time() + _WAIT_BEFORE_DEFERRING_SECONDS)
        try:
            return self._finish(context, hook.wait_for(snapshot, self.expect, soon))
        except StrandlineTimeout:
            self._defer(snapshot["id"], until)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Document:
        """Go on when the trigger has fired."""
        if "error" in event:
            raise answers.error_of(event["error"], event["code"], retryable=not event["final"])
        return self._finish(context, event["snapshot"])

    def on_kill(self) -> None:
        """Cancel the snapshot, if that is wanted and it has been asked for."""
        if self.cancel_on_kill and self._hook and self._snapshot_id:
            self._hook.cancel_now(self._snapshot_id)

    def _request(self, context: Context) -> Document:
        start, end = window_of(self.window_start, self.window_end, context)
        request = {
            "topic": self.topic,
            "window_start": start,
            "window_end": end,
            "capture": self.capture,
            "on_loss": self.on_loss,
            "labels": self._labels(context),
        }
        if self.cluster:
            request["cluster"] = self.cluster
        return request

    def _labels(self, context: Context) -> dict[str, str]:
        ti = context["ti"]
        labels = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}
        if getattr(ti, "map_index", -1) not in (None, -1):
            labels["map_index"] = str(ti.map_index)
        return labels | (self.labels or {})

    def _defer(self, snapshot_id: str, until: float) -> NoReturn:
        self.defer(
            trigger=StrandlineSnapshotTrigger(
                snapshot_id=snapshot_id,
                expect=self.expect,
                until=until,
                strandline_conn_id=self.strandline_conn_id,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_complete",
            timeout=self.execution_timeout,
        )

    def _finish(self, context: Context, snapshot: Document) -> Document:
        result = snapshot["result"]
        self.log.info(
            "%s is %s: %s records in %s files",
            answers.describe(snapshot),
            snapshot["completeness"],
            result["records"],
            result["files"],
        )
        if result["lost_offsets"] or result["uncertain_partitions"]:
            self.log.warning(
                "%s lost offsets, %s partitions with an uncertain start: Kafka had removed events "
                "before they were read (on_loss='fail' makes the task fail)",
                result["lost_offsets"],
                result["uncertain_partitions"],
            )
        add_to_events(context, self.outlets, snapshot)
        return snapshot
