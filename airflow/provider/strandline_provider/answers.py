"""What an answer of Strandline means. No network, no clock, no Airflow but its exceptions.

The blocking and the asynchronous hook share these rules: what is an answer, what is worth
asking again, and what is an error, told in one line.
"""

from __future__ import annotations

import random
import ssl
from typing import Any, NoReturn

import httpx
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

Document = dict[str, Any]

#: How far a snapshot can get, least first; each is also the next ones' condition.
EXPECTATIONS = ("succeeded", "settled", "sealed")

#: Answers of Strandline, or of a proxy before it, that say "not now".
_COME_BACK_LATER = (408, 429, 500, 502, 503, 504)
_LONGEST_PAUSE_SECONDS = 30.0
_LONGEST_RETRY_AFTER_SECONDS = 120.0


class StrandlineError(AirflowException):
    """Strandline said no, or a snapshot did not end well. The text is one line with the cause."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(" ".join(message.split()))
        #: Strandline's code, such as ``TOPIC_NOT_FOUND``, if it gave one.
        self.code = code


class StrandlineFinalError(StrandlineError, AirflowFailException):
    """Another try can't help before somebody changes something, so Airflow makes none."""


class StrandlineTimeout(StrandlineError):
    """The snapshot goes on, but the task does not wait any longer."""


class NotNow(Exception):
    """Worth asking again, perhaps after so many seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.retry_after = retry_after


def read(response: httpx.Response) -> Document | None:
    """The document of an answer; None if it says that the snapshot is not ready yet.

    :raises NotNow: the same request may succeed later
    :raises StrandlineError: it can't
    """
    status = response.status_code
    body = _json(response)
    code = body.get("code") if body else None
    if status == 404 and code == "NOT_READY":
        return None
    if status in _COME_BACK_LATER:
        raise NotNow(_cause(response, body), _retry_after(response))
    if 200 <= status < 300 and body is not None:
        return body
    raise error_of(_cause(response, body), code, _is_retryable(status, body))


def from_transport(error: httpx.TransportError, base_url: str) -> NotNow:
    """A failure to reach Strandline at all. A certificate that does not fit won't pass."""
    what = f"no answer from {base_url}: {type(error).__name__} {error}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise StrandlineFinalError(what) from error
        cause = cause.__cause__ or cause.__context__
    return NotNow(what)


class Patience:
    """How long to go on asking a Strandline that is away or busy, and with what pauses."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._tries = 0

    def pause(self, why: NotNow, now: float) -> float:
        """Seconds until the next try.

        :raises StrandlineError: there has been no answer for too long
        """
        self._since = now if self._since is None else self._since
        longest = min(_LONGEST_PAUSE_SECONDS, 2.0**self._tries)
        self._tries += 1
        pause = longest * random.uniform(0.5, 1.0)
        if why.retry_after is not None:
            # Everybody was told the same: not all at once.
            pause = why.retry_after * random.uniform(1.0, 1.25)
        if now + pause - self._since > self._seconds:
            raise StrandlineError(f"{why} (given up after {now - self._since:.0f} s)")
        return pause


def has_ended(snapshot: Document) -> bool:
    """Whether the run that was asked for is over."""
    return snapshot["state"] not in ("queued", "running")


def is_good_enough(snapshot: Document, expect: str) -> bool:
    """Whether it has ended, and as complete as expected."""
    if snapshot["state"] != "succeeded":
        return False
    if expect == "succeeded":
        return True
    return snapshot["completeness"] in EXPECTATIONS[EXPECTATIONS.index(expect) :]


def next_question(snapshot: Document, expect: str) -> tuple[str, dict[str, str]] | None:
    """Path and parameters of what to ask next; None if there is nothing to wait for."""
    path = f"/v1/snapshots/{snapshot['id']}"
    if not has_ended(snapshot):
        return path, {}
    if snapshot["state"] == "succeeded" and not is_good_enough(snapshot, expect):
        return f"{path}/result", {"expect": expect}
    return None


def conclude(snapshot: Document) -> Document:
    """The snapshot, if it ended well.

    :raises StrandlineError: it did not
    """
    if snapshot["state"] == "failed":
        error = snapshot["error"] or {}
        code = error.get("code")
        message = f"{describe(snapshot)} failed: {code}: {error.get('message')}"
        raise error_of(message, code, error.get("retryable", True))
    if snapshot["state"] == "cancelled":
        raise StrandlineError(
            f"{describe(snapshot)} was cancelled; another try goes on from what is stored",
            code="SNAPSHOT_CANCELLED",
        )
    return snapshot


def timed_out(snapshot: Document, expect: str) -> NoReturn:
    """The error of a task that waited long enough."""
    state = snapshot["state"]
    if state == "succeeded":
        state = f"{snapshot['completeness']}, not {expect}"
    last_error = snapshot.get("last_error")
    trouble = f"; last error: {last_error['code']}: {last_error['message']}" if last_error else ""
    raise StrandlineTimeout(
        f"{describe(snapshot)} is still {state} and goes on{trouble}; "
        "the task's timeout is over, another try joins it"
    )


def describe(snapshot: Document) -> str:
    """Which snapshot, for people."""
    window = f"[{snapshot['window_start']}, {snapshot['window_end']})"
    return f"snapshot {snapshot['id']} of {snapshot['topic']} {window}"


def error_of(message: str, code: str | None, retryable: bool) -> StrandlineError:
    """An error that Airflow tries again after, or does not."""
    kind = StrandlineError if retryable else StrandlineFinalError
    return kind(message, code=code)


def _is_retryable(status: int, problem: Document | None) -> bool:
    if problem is None or status == 410:  # whoever cancelled it need not be this task
        return True
    if isinstance(problem.get("error"), dict):  # why the snapshot failed
        return bool(problem["error"].get("retryable", True))
    return bool(problem.get("retryable", True))


def _json(response: httpx.Response) -> Document | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _cause(response: httpx.Response, body: Document | None) -> str:
    """One line: what Strandline says itself, or else who may have answered in its place."""
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if body is not None and isinstance(body.get("detail"), str):
        request = f", request {body['request_id']}" if response.status_code == 500 else ""
        return f"{body.get('code', status)}: {body['detail']} ({status}{request})"
    kind = response.headers.get("content-type", "no content type")
    where = f"{response.request.method} {response.request.url.copy_with(query=None)}"
    hint = "; is that Strandline's address, and no proxy or login page in between?"
    if response.status_code in _COME_BACK_LATER:
        hint = ""
    return f"{where} was answered with {status} and {kind}, not by Strandline{hint}"


def _retry_after(response: httpx.Response) -> float | None:
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS)
