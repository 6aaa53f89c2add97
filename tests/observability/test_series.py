"""Every metric and every label that a query names is one that the real exporters have.

That a query answers proves less: `or vector(0)` stands in for a metric that is none, and a matcher
that leaves out what has a label leaves out nothing where no series has it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from conftest import Busy
from stack import dashboards, promql
from stack.dashboards import Span
from stack.prometheus import RULES, Prometheus
from stack.services import ROOT

ELSEWHERE = {
    # PostgreSQL 17 with the exporter of docker-compose.yml has them; the tests have neither.
    "pg_stat_checkpointer_num_timed_total",
    "pg_stat_checkpointer_num_requested_total",
    # Is there from the first such error on, as the one of 4xx.
    "minio_s3_requests_5xx_errors_total",
}


def asked() -> Iterator[Any]:
    """All queries, each with what its series are called."""
    for panel in dashboards.panels():
        for target in panel.json["targets"]:
            filled = Span(0, 900).fill(target["expr"], dashboards.anything(panel.dashboard))
            name = f"{panel.dashboard}: {panel.title} {target['refId']}"
            yield pytest.param(filled, target["legendFormat"], id=name)
    for file in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                yield pytest.param(rule["expr"], "", id=rule.get("alert") or rule["record"])


@pytest.mark.parametrize(("expr", "legend"), list(asked()))
def test_what_a_query_names_is_there(expr: str, legend: str, busy: Busy) -> None:
    kept = promql.grouped(expr)
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert not kept or shown <= kept | promql.made(expr), f"{legend} of {expr}"
    known = promql.made(expr)
    for selector, _ in promql.selectors(promql_parser.parse(expr)):
        matchers = selector.matchers.matchers
        name = selector.name or next(one.value for one in matchers if one.name == "__name__")
        labels = labels_of(name, busy.stack.prometheus)
        if not labels:
            assert is_elsewhere(name), f"nothing exports {name}"
            return
        lacking = {matcher.name for matcher in matchers} - labels
        assert not lacking, f"{name} has no label {lacking}"
        known |= labels
    assert kept | shown <= known, expr


def labels_of(name: str, prometheus: Prometheus) -> set[str]:
    """The labels of all series of a metric, or of those whose names match."""
    return {label for one in prometheus.series(f'{{__name__=~"{name}"}}') for label in one}


def is_elsewhere(name: str) -> bool:
    """Whether a metric is known that nothing in the stack has happened to need."""
    if name.startswith("strandline_"):
        return f"| `{name}` |" in (ROOT / "docs/metrics.md").read_text()
    return name in ELSEWHERE or name in recorded() or name in airflow()


def recorded() -> set[str]:
    """What rules record, some of it from the first error on. Their own queries are asked, too."""
    return {
        rule["record"]
        for file in RULES.glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }


def airflow() -> set[str]:
    """The counters that Airflow lists, as the StatsD exporter calls them."""
    package = Path(os.environ["STRANDLINE_TEST_AIRFLOW_BIN"]).parent / "lib"
    [listed] = package.glob(
        "python3*/site-packages/airflow/_shared/observability/metrics/metrics_template.yaml"
    )
    names = [
        one["name"]
        for one in yaml.safe_load(listed.read_text())["metrics"]
        if one["type"] == "counter"
    ]
    return {f"airflow_{name.replace('.', '_')}_total" for name in names}
