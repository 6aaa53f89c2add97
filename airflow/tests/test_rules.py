"""The provider's rules, by tables: they need neither Airflow nor Strandline to run."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import airflow
import httpx
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from jsonschema import validate

from harness.strandline import ROOT
from strandline_provider import __version__, answers, get_provider_info
from strandline_provider.answers import NotNow, Patience, StrandlineError, StrandlineFinalError
from strandline_provider.assets.strandline import create_asset, sanitize_uri
from strandline_provider.connection import settings_of
from strandline_provider.window import window_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE = datetime(2026, 1, 1, 13, tzinfo=UTC)


def answer(status: int, body: Any = None, **headers: str) -> httpx.Response:
    """An answer to a request."""
    request = httpx.Request("GET", "http://strandline/v1/snapshots/1?wait=30")
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, str):
        return httpx.Response(status, text=body, headers=headers, request=request)
    return httpx.Response(status, json=body or {}, headers=headers, request=request)


def problem(status: int, code: str, retryable: bool, **more: Any) -> httpx.Response:
    """A problem document."""
    body = {"code": code, "detail": "the cause", "retryable": retryable, "request_id": "r1"}
    return answer(status, body | more, content_type="application/problem+json")


def test_documents_and_what_is_not_ready_yet() -> None:
    assert answers.read(answer(200, {"id": "1"})) == {"id": "1"}
    assert answers.read(answer(202, {"id": "1"})) == {"id": "1"}
    assert answers.read(problem(404, "NOT_READY", True)) is None


@pytest.mark.parametrize(
    ("response", "retry_after", "text"),
    [
        (problem(503, "DRAINING", True), None, "DRAINING: the cause (503 Service Unavailable)"),
        (answer(429, retry_after="7"), 7, "answered with 429"),
        (answer(503, retry_after="9999"), 120, "answered with 503"),
        (answer(502, "<html>"), None, "answered with 502"),
        (answer(504, "x", retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), None, "504"),
        (problem(500, "INTERNAL", True), None, "request r1"),
    ],
)
def test_what_is_asked_again(
    response: httpx.Response, retry_after: float | None, text: str
) -> None:
    with pytest.raises(NotNow) as caught:
        answers.read(response)
    assert caught.value.retry_after == retry_after
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("response", "final", "text"),
    [
        (problem(422, "FIELD_INVALID", False), True, "FIELD_INVALID: the cause (422 "),
        (problem(401, "UNAUTHENTICATED", False), True, "UNAUTHENTICATED"),
        (problem(404, "NOT_FOUND", False), True, "NOT_FOUND"),
        (problem(409, "SNAPSHOT_FAILED", False, error={"retryable": True}), False, "the cause"),
        (problem(409, "SNAPSHOT_FAILED", False, error={"retryable": False}), True, "the cause"),
        (problem(410, "SNAPSHOT_CANCELLED", False), False, "the cause"),
        (answer(200, "<html>\nlog in"), False, "login page"),
        (answer(302, location="/login"), False, "answered with 302 Found"),
        (answer(200, [1]), False, "login page"),
    ],
)
def test_what_is_an_error(response: httpx.Response, final: bool, text: str) -> None:
    with pytest.raises(StrandlineError) as caught:
        answers.read(response)
    assert isinstance(caught.value, AirflowFailException) is final
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "wait=30" not in str(caught.value)


def test_patience_grows_and_ends() -> None:
    patience = Patience(100)
    pauses = [patience.pause(NotNow("away"), now=0) for _ in range(8)]
    assert 0.5 <= pauses[0] <= 1
    assert 15 <= pauses[7] <= 30
    assert 7 <= patience.pause(NotNow("busy", retry_after=7), now=10) <= 8.75
    with pytest.raises(StrandlineError, match=r"away \(given up after 99 s\)"):
        patience.pause(NotNow("away"), now=99)


def snapshot(state: str, completeness: str | None = None, **more: Any) -> dict[str, Any]:
    """A snapshot document, as far as the rules read it."""
    window = {"window_start": "A", "window_end": "B"}
    return {"id": "1", "topic": "t", "state": state, "completeness": completeness} | window | more


@pytest.mark.parametrize(
    ("document", "expect", "question"),
    [
        (snapshot("queued"), "succeeded", ("/v1/snapshots/1", {})),
        # A new run of what was good before: the new one counts.
        (snapshot("running", "settled"), "succeeded", ("/v1/snapshots/1", {})),
        (snapshot("succeeded", "provisional"), "succeeded", None),
        (
            snapshot("succeeded", "provisional"),
            "settled",
            ("/v1/snapshots/1/result", {"expect": "settled"}),
        ),
        (snapshot("succeeded", "sealed"), "settled", None),
        (
            snapshot("succeeded", "settled"),
            "sealed",
            ("/v1/snapshots/1/result", {"expect": "sealed"}),
        ),
        (snapshot("failed"), "succeeded", None),
        (snapshot("cancelled"), "sealed", None),
    ],
)
def test_what_is_asked_next(
    document: dict[str, Any], expect: str, question: tuple[str, dict[str, str]] | None
) -> None:
    assert answers.next_question(document, expect) == question


def test_how_it_ends() -> None:
    good = snapshot("succeeded", "sealed")
    assert answers.conclude(good) is good
    lost = {"code": "DATA_LOST", "message": "it is gone", "retryable": False}
    with pytest.raises(
        StrandlineFinalError, match=r"snapshot 1 of t \[A, B\) failed: DATA_LOST: it"
    ):
        answers.conclude(snapshot("failed", error=lost))
    away = {"code": "KAFKA_UNAVAILABLE", "message": "away", "retryable": True}
    with pytest.raises(StrandlineError) as caught:
        answers.conclude(snapshot("failed", error=away))
    assert not isinstance(caught.value, AirflowFailException)
    with pytest.raises(StrandlineError, match="was cancelled"):
        answers.conclude(snapshot("cancelled"))
    with pytest.raises(StrandlineError, match="still running and goes on; last error: K"):
        answers.timed_out(snapshot("running", last_error=away), "succeeded")
    with pytest.raises(StrandlineError, match="still provisional, not settled"):
        answers.timed_out(snapshot("succeeded", "provisional"), "settled")


@pytest.mark.parametrize(
    ("given", "params", "interval", "window"),
    [
        (("a", "b"), {"window_start": "c", "window_end": "d"}, (NOON, ONE), ("a", "b")),
        ((None, None), {"window_start": "c", "window_end": "d"}, (NOON, ONE), ("c", "d")),
        (
            (None, None),
            {"window_start": None},
            (NOON, ONE),
            ("2026-01-01T12:00:00+00:00", "2026-01-01T13:00:00+00:00"),
        ),
        ((NOON, "b"), {}, (None, None), ("2026-01-01T12:00:00+00:00", "b")),
    ],
)
def test_the_window(given: Any, params: Any, interval: Any, window: tuple[str, str]) -> None:
    start, end = interval
    context = {"params": params, "data_interval_start": start, "data_interval_end": end}
    assert window_of(*given, context) == window


@pytest.mark.parametrize(
    ("given", "context", "text"),
    [
        ((None, None), {}, "no data interval"),
        (("a", None), {}, "go together"),
        ((None, None), {"params": {"window_end": "b"}}, "go together"),
        ((None, None), {"data_interval_start": NOON, "data_interval_end": NOON}, "is empty"),
    ],
)
def test_no_window(given: Any, context: Any, text: str) -> None:
    with pytest.raises(StrandlineFinalError, match=text):
        window_of(*given, context)


def connection(**values: Any) -> Any:
    """A connection of Airflow."""
    empty = dict.fromkeys(("host", "schema", "port", "login", "password"))
    return SimpleNamespace(conn_id="c", **(empty | values))


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({"host": "h"}, "http://h"),
        ({"host": "h", "port": 8080}, "http://h:8080"),
        ({"host": "h", "schema": "https", "port": 443}, "https://h:443"),
        ({"host": "https://h/"}, "https://h"),
        ({"host": "https://h", "port": 8443}, "https://h:8443"),
        ({"host": "http://h:1/strandline/", "port": 2}, "http://h:1/strandline"),
        ({"host": "http://[::1]", "port": 8080}, "http://[::1]:8080"),
    ],
)
def test_the_address(values: dict[str, Any], url: str) -> None:
    assert settings_of(connection(**values), {}).base_url == url
    assert settings_of(connection(**values), {"link_url": "https://x/"}).link_url == "https://x"


@pytest.mark.parametrize(
    ("values", "extra", "text"),
    [
        ({}, {}, "no host"),
        ({"host": "ftp://h"}, {}, "no http or https"),
        ({"host": "http://me:secret@h"}, {}, "belongs in the password"),
        ({"host": "h"}, {"timeout": "soon"}, "no number of seconds"),
        ({"host": "h"}, {"retry_seconds": -1}, "less than 0"),
        ({"host": "h"}, {"verify": "/no/such/file"}, "neither true, false nor a file"),
    ],
)
def test_a_bad_connection(values: dict[str, Any], extra: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        settings_of(connection(**values), extra)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("login", "password", "header"),
    [
        ("airflow", "secret", "Basic YWlyZmxvdzpzZWNyZXQ="),
        (None, "secret", "Bearer secret"),
        (None, None, None),
    ],
)
def test_who_asks(login: str | None, password: str | None, header: str | None) -> None:
    settings = settings_of(connection(host="h", login=login, password=password), {})
    request = httpx.Request("GET", "http://h/v1/version")
    if settings.auth is not None:
        request = next(settings.auth.auth_flow(request))
    assert request.headers.get("authorization") == header
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("verify", [False, "false", "No", 0])
def test_tls_is_checked_unless_that_is_switched_off(verify: Any) -> None:
    assert settings_of(connection(host="h"), {}).verify is True
    assert settings_of(connection(host="h"), {"verify": "true"}).verify is True
    assert settings_of(connection(host="h"), {"verify": verify}).verify is False


def test_asset_uris() -> None:
    assert create_asset(topic="orders").uri == "strandline://default/orders"
    for bad in ("strandline://default", "strandline:///orders", "strandline://default/a/b"):
        with pytest.raises(ValueError, match="strandline://CLUSTER/TOPIC"):
            sanitize_uri(urlsplit(bad))


def test_the_package_says_what_airflow_wants_to_know() -> None:
    schema = Path(airflow.__file__).parent / "provider_info.schema.json"
    validate(get_provider_info(), json.loads(schema.read_text()))
    project = tomllib.loads((ROOT / "airflow/provider/pyproject.toml").read_text())["project"]
    assert get_provider_info()["package-name"] == project["name"]
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert cargo["package"]["version"] == __version__
