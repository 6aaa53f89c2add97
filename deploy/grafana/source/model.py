"""Dashboards as Python: what a panel is here, and the JSON that Grafana reads.

In queries `$sel` stands for the job and the instances that are chosen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

SELECTED = 'job=~"$job",instance=~"$instance"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# The only colours that say something are those of thresholds.
GREEN, YELLOW, RED = "green", "#EAB839", "red"

Json = dict[str, Any]


@dataclass
class Query:
    """A query, and what its series are called."""

    expr: str
    legend: str = ""

    def json(self, number: int, *, instant: bool, table: bool) -> Json:
        """As a target of a panel."""
        return {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": re.sub(r"\s+", " ", self.expr.replace("$sel", SELECTED)).strip(),
            "legendFormat": self.legend or "__auto",
            "editorMode": "code",
            "instant": instant,
            "range": not instant,
            "format": "table" if table else "time_series",
        }


@dataclass
class Panel:
    """A question, and the queries that answer it."""

    title: str
    description: str
    unit: str
    queries: list[Query]
    width: int = 8
    height: int = 8
    # From which value on: (value, colour). What is below the first is green.
    thresholds: list[tuple[float, str]] = field(default_factory=list)
    low: float | None = 0
    high: float | None = None
    decimals: int | None = None
    kind = ""

    def defaults(self) -> Json:
        """What holds for all fields."""
        found: Json = {
            "unit": self.unit,
            "min": self.low,
            "max": self.high,
            "decimals": self.decimals,
            "color": {"mode": "thresholds"},
            "thresholds": {"mode": "absolute", "steps": self._steps()},
            "noValue": "none",
        }
        return {name: value for name, value in found.items() if value is not None}

    def options(self) -> Json:
        """What holds for this type of panel."""
        return {}

    def overrides(self) -> list[Json]:
        """What holds for some fields."""
        return []

    def transformations(self) -> list[Json]:
        """What is done with the answers before they are shown."""
        return []

    def instant(self) -> bool:
        """Whether only the last value is asked for."""
        return True

    def json(self, number: int, x: int, y: int) -> Json:
        """As Grafana wants it."""
        queries = [
            query.json(place, instant=self.instant(), table=self.kind == "table")
            for place, query in enumerate(self.queries)
        ]
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": queries,
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
            "options": self.options(),
            "transformations": self.transformations(),
        }

    def _steps(self) -> list[Json]:
        # Where the last step is the good one, what is below the first is the bad one.
        good_is_high = bool(self.thresholds) and self.thresholds[-1][1] == GREEN
        steps: list[Json] = [{"value": None, "color": RED if good_is_high else GREEN}]
        return steps + [{"value": value, "color": colour} for value, colour in self.thresholds]


class Stat(Panel):
    """One number, or a few, and its colour."""

    kind = "stat"

    def options(self) -> Json:
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background" if self.thresholds else "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "textMode": "auto",
            "orientation": "auto",
        }


class Bars(Panel):
    """A bar for each series, by its last value."""

    kind = "bargauge"

    def options(self) -> Json:
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "orientation": "horizontal",
            "displayMode": "basic",
            "showUnfilled": True,
            "valueMode": "color",
            "namePlacement": "auto",
            "sizing": "auto",
        }


class Table(Panel):
    """A row for each series of a single query: its labels and its last value."""

    kind = "table"

    def options(self) -> Json:
        return {"showHeader": True, "sortBy": [{"displayName": "Value", "desc": True}]}

    def transformations(self) -> list[Json]:
        hidden = {"Time": True}
        return [{"id": "organize", "options": {"excludeByName": hidden, "renameByName": {}}}]


@dataclass
class Lines(Panel):
    """Series over time."""

    stacked: bool = False
    # A line for each threshold.
    marked: bool = False
    # For what differs by powers of ten.
    logarithmic: bool = False
    kind = "timeseries"

    def instant(self) -> bool:
        return False

    def defaults(self) -> Json:
        custom: Json = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if self.stacked else 5,
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
            "scaleDistribution": {"type": "log", "log": 10}
            if self.logarithmic
            else {"type": "linear"},
            "thresholdsStyle": {"mode": "dashed" if self.marked else "off"},
        }
        colours = {"color": {"mode": "palette-classic"}}
        return super().defaults() | colours | {"custom": custom}

    def options(self) -> Json:
        return {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }


@dataclass
class Row:
    """A headline, and the panels below it."""

    title: str
    panels: list[Panel]


@dataclass
class Variable:
    """A choice above the dashboard, whose values are those of a label."""

    name: str
    label: str
    values: str

    def json(self) -> Json:
        query = f"label_values({self.values})"
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "current": {"text": "All", "value": "$__all"},
            "options": [],
        }


@dataclass
class Dashboard:
    """A page."""

    uid: str
    title: str
    description: str
    # The metric that tells which jobs and instances there are.
    metric: str
    rows: list[Row]
    variables: list[Variable] = field(default_factory=list)
    span: str = "now-6h"

    def json(self) -> Json:
        """As Grafana wants it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["strandline"],
            "schemaVersion": 41,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": self.span, "to": "now"},
            "timezone": "browser",
            "links": [_links()],
            "annotations": {"list": []},
            "templating": {"list": self._variables()},
            "panels": self._panels(),
        }

    def _variables(self) -> list[Json]:
        source: Json = {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
            "current": {"text": "Prometheus", "value": "prometheus"},
            "options": [],
            "multi": False,
            "includeAll": False,
        }
        job = Variable("job", "Job", f"{self.metric}, job")
        instance = Variable("instance", "Instance", f'{self.metric}{{job=~"$job"}}, instance')
        return [source] + [one.json() for one in (job, instance, *self.variables)]

    def _panels(self) -> list[Json]:
        panels: list[Json] = []
        y = 0
        for row in self.rows:
            title = {"x": 0, "y": y, "w": 24, "h": 1}
            panels.append(
                {
                    "id": len(panels) + 1,
                    "type": "row",
                    "title": row.title,
                    "collapsed": False,
                    "gridPos": title,
                    "panels": [],
                }
            )
            y, x, height = y + 1, 0, 0
            for panel in row.panels:
                if x + panel.width > 24:
                    y, x, height = y + height, 0, 0
                panels.append(panel.json(len(panels) + 1, x, y))
                x, height = x + panel.width, max(height, panel.height)
            y += height
        return panels


def _links() -> Json:
    return {
        "type": "dashboards",
        "title": "Strandline's dashboards",
        "tags": ["strandline"],
        "asDropdown": True,
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def quantile(
    share: float, metric: str, by: str = "", where: str = "", window: str = "$__rate_interval"
) -> str:
    """A quantile of a histogram; `by` and `where` narrow it down, rare events need a long window."""
    labels = ", ".join(part for part in ("le", by) if part)
    selected = ",".join(part for part in ("$sel", where) if part)
    rate = f"rate({metric}_bucket{{{selected}}}[{window}])"
    return f"histogram_quantile({share}, sum by ({labels}) ({rate}))"


def average(metric: str, by: str = "", where: str = "") -> str:
    """The mean of a histogram's observations."""
    selected = ",".join(part for part in ("$sel", where) if part)
    total, count = (
        f"sum by ({by}) (rate({metric}_{part}{{{selected}}}[$__rate_interval]))"
        for part in ("sum", "count")
    )
    return f"{total} / {count}"
