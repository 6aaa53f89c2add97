"""Asks Strandline: a blocking hook for workers, an asynchronous one for the triggerer."""

from __future__ import annotations

import asyncio
import time
from functools import cached_property
from typing import Any

import httpx
from airflow.providers.common.compat.connection import (
    get_async_connection,
    get_async_extra_dejson,
)
from airflow.providers.common.compat.sdk import BaseHook

from strandline_provider import answers
from strandline_provider.answers import Document, NotNow, Patience
from strandline_provider.connection import Settings, settings_of

#: How long one request asks to wait: less than the idle limit of common proxies (60 s).
WAIT_SECONDS = 30
#: Between two questions if Strandline did not wait, as when it is just stopping.
PAUSE_SECONDS = 1.0
#: Airflow kills a task that takes longer to end.
_CANCEL_TIMEOUT_SECONDS = 5.0


class _Names(BaseHook):
    """What both hooks are called by."""

    conn_name_attr = "strandline_conn_id"
    default_conn_name = "strandline_default"
    conn_type = "strandline"
    hook_name = "Strandline"

    def __init__(self, strandline_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strandline_conn_id = strandline_conn_id


class StrandlineHook(_Names):
    """
    Asks Strandline for snapshots, from a worker.

    Every request may be sent again, so one that meets a Strandline that is away, stopping or
    busy is: for as long as the connection's ``retry_seconds``, heeding ``Retry-After``.

    :param strandline_conn_id: The connection to Strandline. A password with a login is sent
        as Basic, without one as Bearer.
    """

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """How the connection form looks."""
        from strandline_provider import get_provider_info

        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @cached_property
    def settings(self) -> Settings:
        """What the connection says."""
        connection = self.get_connection(self.strandline_conn_id)
        return settings_of(connection, connection.extra_dejson)

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(**self.settings.client_arguments())

    def get_conn(self) -> httpx.Client:
        """The HTTP client, with address and credentials."""
        return self._client

    def create_snapshot(self, request: Document) -> Document:
        """Ask for a snapshot; answered at once. Asked again, it is the same snapshot."""
        return self._ask("POST", "/v1/snapshots", json=request)

    def get_snapshot(self, snapshot_id: str) -> Document:
        """A snapshot, as it is now."""
        return self._ask("GET", f"/v1/snapshots/{snapshot_id}")

    def get_result(self, snapshot_id: str, expect: str = "succeeded") -> Document | None:
        """A snapshot that is as complete as expected; None if it is not yet."""
        return self._call("GET", f"/v1/snapshots/{snapshot_id}/result", params={"expect": expect})

    def cancel_snapshot(self, snapshot_id: str) -> Document:
        """Stop a snapshot's run. What is stored stays. Nothing to do if it has ended."""
        return self._ask("POST", f"/v1/snapshots/{snapshot_id}/cancel")

    def cancel_now(self, snapshot_id: str) -> None:
        """As :meth:`cancel_snapshot`, for ``on_kill``: one try, and nothing is raised.

        It may interrupt a request, so it has a client of its own and asks Airflow for nothing.
        """
        arguments = self.settings.client_arguments() | {"timeout": _CANCEL_TIMEOUT_SECONDS}
        try:
            with httpx.Client(**arguments) as client:
                snapshot = answers.read(client.post(f"/v1/snapshots/{snapshot_id}/cancel"))
        except (httpx.HTTPError, NotNow, answers.StrandlineError) as error:
            self.log.warning("snapshot %s could not be cancelled: %s", snapshot_id, error)
        else:
            self.log.info("snapshot %s is %s", snapshot_id, snapshot and snapshot["state"])

    def wait_for(self, snapshot: Document, expect: str, until: float) -> Document:
        """Wait for a snapshot's end.

        :param snapshot: the document of an earlier answer
        :param expect: ``succeeded``, ``settled`` or ``sealed``
        :param until: when to give up, in seconds since the epoch
        :raises StrandlineError: it failed, was cancelled or took too long
        """
        while (question := answers.next_question(snapshot, expect)) is not None:
            left = until - time.time()
            if left <= 0:
                answers.timed_out(snapshot, expect)
            path, params = question
            asked_at = time.monotonic()
            wait = max(1, min(WAIT_SECONDS, int(left)))
            snapshot = self._call("GET", path, params=params, wait=wait) or snapshot
            if answers.next_question(snapshot, expect) is not None:
                _log_progress(self.log, snapshot)
                if time.monotonic() - asked_at < PAUSE_SECONDS:
                    time.sleep(PAUSE_SECONDS)
        return answers.conclude(snapshot)

    def link(self, snapshot_id: str) -> str:
        """Where a person can look at a snapshot."""
        return f"{self.settings.link_url}/v1/snapshots/{snapshot_id}"

    def test_connection(self) -> tuple[bool, str]:
        """What the button in the connection form does: needs a token that may read."""
        try:
            version = answers.read(self._client.get("/v1/version")) or {}
        except (httpx.HTTPError, NotNow, answers.StrandlineError, ValueError) as error:
            return False, str(error)
        return True, f"Strandline {version.get('version')}"

    def _ask(self, method: str, path: str, **kwargs: Any) -> Document:
        return self._call(method, path, **kwargs) or _not_ready(path)

    def _call(self, method: str, path: str, **kwargs: Any) -> Document | None:
        patience = Patience(self.settings.retry_seconds)
        arguments = _arguments(self.settings, **kwargs)
        while True:
            try:
                return answers.read(self._client.request(method, path, **arguments))
            except httpx.TransportError as error:
                why = answers.from_transport(error, self.settings.base_url)
            except NotNow as error:
                why = error
            pause = patience.pause(why, time.monotonic())
            self.log.warning("%s; asking again in %.0f s", why, pause)
            time.sleep(pause)


class StrandlineAsyncHook(_Names):
    """
    Asks Strandline from the triggerer. Use it as ``async with StrandlineAsyncHook(...) as hook``.

    :param strandline_conn_id: as of :class:`StrandlineHook`
    """

    _client: httpx.AsyncClient
    settings: Settings

    async def __aenter__(self) -> StrandlineAsyncHook:
        connection = await get_async_connection(self.strandline_conn_id, self)
        extra = await get_async_extra_dejson(connection)
        self.settings = settings_of(connection, extra)
        self._client = httpx.AsyncClient(**self.settings.client_arguments())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get_snapshot(self, snapshot_id: str) -> Document:
        """A snapshot, as it is now."""
        path = f"/v1/snapshots/{snapshot_id}"
        return await self._call("GET", path) or _not_ready(path)

    async def cancel_snapshot(self, snapshot_id: str) -> Document:
        """Stop a snapshot's run. What is stored stays."""
        path = f"/v1/snapshots/{snapshot_id}/cancel"
        return await self._call("POST", path) or _not_ready(path)

    async def wait_for(self, snapshot: Document, expect: str, until: float) -> Document:
        """As :meth:`StrandlineHook.wait_for`."""
        while (question := answers.next_question(snapshot, expect)) is not None:
            left = until - time.time()
            if left <= 0:
                answers.timed_out(snapshot, expect)
            path, params = question
            asked_at = time.monotonic()
            wait = max(1, min(WAIT_SECONDS, int(left)))
            snapshot = await self._call("GET", path, params=params, wait=wait) or snapshot
            if answers.next_question(snapshot, expect) is not None:
                _log_progress(self.log, snapshot)
                if time.monotonic() - asked_at < PAUSE_SECONDS:
                    await asyncio.sleep(PAUSE_SECONDS)
        return answers.conclude(snapshot)

    async def _call(self, method: str, path: str, **kwargs: Any) -> Document | None:
        patience = Patience(self.settings.retry_seconds)
        arguments = _arguments(self.settings, **kwargs)
        while True:
            try:
                return answers.read(await self._client.request(method, path, **arguments))
            except httpx.TransportError as error:
                why = answers.from_transport(error, self.settings.base_url)
            except NotNow as error:
                why = error
            pause = patience.pause(why, time.monotonic())
            self.log.warning("%s; asking again in %.0f s", why, pause)
            await asyncio.sleep(pause)


def _arguments(
    settings: Settings,
    *,
    params: dict[str, str] | None = None,
    json: Document | None = None,
    wait: int = 0,
) -> dict[str, Any]:
    """A request's arguments. The timeout is longer than what the request asks to wait."""
    params = dict(params or {})
    if wait:
        params["wait"] = str(wait)
    timeout = settings.timeout_seconds + wait
    return {"params": params, "timeout": timeout} | ({"json": json} if json is not None else {})


def _not_ready(path: str) -> Document:
    raise answers.StrandlineError(f"{path} is not ready")


def _log_progress(log: Any, snapshot: Document) -> None:
    progress = snapshot.get("progress") or {}
    eta = progress.get("eta_seconds")
    log.info(
        "%s is %s: %.0f %%, %s records%s",
        answers.describe(snapshot),
        snapshot["state"],
        100 * (progress.get("fraction") or 0.0),
        progress.get("records", 0),
        "" if eta is None else f", about {eta} s left",
    )
