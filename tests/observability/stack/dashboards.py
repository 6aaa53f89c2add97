"""The dashboards as Grafana sees them: panels, variables, and the queries that come of both."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from stack.prometheus import Prometheus, Series
from stack.services import ROOT

FOLDER = ROOT / "deploy/grafana/dashboards"
# Grafana's: four times the scrape interval that the data source is told of.
RATE_INTERVAL = "60s"


@dataclass(frozen=True)
class Span:
    """What a dashboard's time picker is set to."""

    start: float
    end: float

    @property
    def step(self) -> float:
        """So that a line has a few hundred points."""
        return max(1.0, (self.end - self.start) / 300)

    def fill(self, expr: str, chosen: dict[str, str]) -> str:
        """A query with all variables put in."""
        values = {
            "__rate_interval": RATE_INTERVAL,
            "__range": f"{round(self.end - self.start)}s",
            "__interval": f"{round(self.step)}s",
        } | chosen

        def value(found: re.Match[str]) -> str:
            return values[found[1]]

        # Not $1, which is Prometheus's own.
        return re.sub(r"\$([a-z_]\w*)", value, expr)


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard."""

    dashboard: str
    document: str

    @property
    def json(self) -> dict[str, Any]:
        """As in the file."""
        return json.loads(self.document)

    @property
    def title(self) -> str:
        """Its question."""
        return self.json["title"]

    def answers(
        self, prometheus: Prometheus, span: Span, chosen: dict[str, str]
    ) -> list[tuple[dict[str, Any], list[Series]]]:
        """Each of its queries, and the series that have a number."""
        found = []
        for target in self.json["targets"]:
            query = span.fill(target["expr"], chosen)
            if target["instant"]:
                series = prometheus.instant(query, span.end)
            else:
                series = prometheus.between(query, span.start, span.end, span.step)
            found.append((target, [one for one in series if _numbers(one)]))
        return found


@cache
def documents() -> dict[str, dict[str, Any]]:
    """All dashboards, by the names of their files."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
    assert len(found) >= 5
    return found


def panels(name: str | None = None) -> list[Panel]:
    """All panels, of a dashboard or of all, without the headlines."""
    return [
        Panel(dashboard, json.dumps(panel))
        for dashboard, document in documents().items()
        for panel in document["panels"]
        if panel["type"] != "row" and name in (None, dashboard)
    ]


def variables(name: str) -> dict[str, dict[str, Any]]:
    """The variables of a dashboard that are queries."""
    found = documents()[name]["templating"]["list"]
    return {one["name"]: one for one in found if one["type"] == "query"}


def anything(name: str) -> dict[str, str]:
    """A value for each variable, where it does not matter which."""
    return dict.fromkeys(variables(name), ".*")


def all_chosen(name: str, prometheus: Prometheus) -> dict[str, str]:
    """What a dashboard shows when it is opened: of each variable all values that there are."""
    chosen: dict[str, str] = {}
    for one, variable in variables(name).items():
        found = values(variable, prometheus, chosen)
        assert found, f"{name}: {one} has no values"
        # As Grafana does; the backslashes are doubled within a PromQL string.
        escaped = (re.escape(value).replace("\\", "\\\\") for value in found)
        chosen[one] = f"({'|'.join(escaped)})"
    return chosen


def values(variable: dict[str, Any], prometheus: Prometheus, chosen: dict[str, str]) -> list[str]:
    """What can be chosen: the values of a label, as `label_values(SERIES, LABEL)` asks for."""
    asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert asked is not None, variable
    match = Span(0, 0).fill(asked[1], chosen)
    return sorted({labels[asked[2]] for labels in prometheus.series(match) if asked[2] in labels})


def legend(target: dict[str, Any], series: Series) -> str:
    """What Grafana calls a series."""
    labels = {name: value for name, value in series["metric"].items() if name != "__name__"}
    if target["legendFormat"] == "__auto":
        return ", ".join(labels.values()) or "Value"
    named = re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), target["legendFormat"])
    return named.strip()


def _numbers(series: Series) -> bool:
    points = series["values"] if "values" in series else [series["value"]]
    return any(not math.isnan(float(value)) for _, value in points)
