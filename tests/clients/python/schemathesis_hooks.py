"""What a request that fits its schema has to obey besides, for schemathesis.

Rules between two values, cursors that a list has given out, and JSON in plain text are beyond
JSON Schema. Without this, requests that break them count as valid ones that were refused. Only
requests that are meant to be valid are changed.
"""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext, Response

SPANS = [("from", "to"), ("window_start", "window_end")]
EARLIEST, LATEST = "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"
REQUEST = {
    "topic": "flights",
    "window_start": "2013-01-08T00:00:00Z",
    "window_end": "2013-01-09T00:00:00Z",
}

# What each list has given out last, by operation.
cursors: dict[str, str] = {}


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _arguments: dict[str, Any]) -> None:
    """Makes a request obey the rules."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if isinstance(case.query, dict):
        end_spans_later(case.query)
        if "cursor" in case.query:
            use_cursor(case)
    if case.media_type == "text/plain":
        case.body = json.dumps(REQUEST)
    elif case.media_type == "application/x-www-form-urlencoded":
        case.body = REQUEST | {"label": ["a:b", "c:d"]}
    elif isinstance(case.body, dict):
        end_spans_later(case.body)
        if "cluster" in case.body:
            case.body["cluster"] = "default"


@schemathesis.hook
def after_call(_context: HookContext, case: Case, response: Response) -> None:
    """Remembers what a list has given out."""
    if response.status_code == 200 and response.headers["content-type"] == ["application/json"]:
        document = response.json()
        if isinstance(document.get("next_cursor"), str):
            cursors[case.operation.label] = document["next_cursor"]


def use_cursor(case: Case) -> None:
    known = cursors.get(case.operation.label)
    if known is None:
        del case.query["cursor"]
    else:
        case.query["cursor"] = known


def end_spans_later(values: dict[str, Any]) -> None:
    for start, end in SPANS:
        if start in values and end in values:
            values[end] = LATEST
            if str(values[start]).startswith("9999"):
                values[start] = EARLIEST
