"""Every query of every panel, variable and alert is run, and answers with data after the load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from conftest import Busy
from stack import dashboards
from stack.dashboards import Panel, Span
from stack.pictures import draw
from stack.prometheus import RULES, Prometheus

NAMES = sorted(dashboards.documents())
# The node exporter of docker-compose.yml, and Debian's: each must fill every panel by itself.
ONE_BY_ONE = ["node"]


@pytest.fixture(scope="session")
def span(busy: Busy) -> Span:
    return Span(busy.start, busy.end)


@pytest.fixture(scope="session", params=["shipped", "debian"])
def prometheus(request: pytest.FixtureRequest, busy: Busy) -> Iterator[Prometheus]:
    """The version of docker-compose.yml; and Debian's older one, which reads the other's data."""
    if request.param == "shipped":
        yield busy.stack.prometheus
        return
    older = Prometheus(
        busy.stack.state,
        {},
        program=os.environ["DEBIAN_PROMETHEUS"],
        name="prometheus-debian",
        reads=busy.stack.prometheus.url,
    )
    try:
        older.start()
        yield older
    finally:
        older.stop()


@pytest.mark.parametrize(
    "panel", dashboards.panels(), ids=lambda panel: f"{panel.dashboard}: {panel.title}"
)
def test_every_query_of_a_panel_answers(panel: Panel, prometheus: Prometheus, span: Span) -> None:
    everything = dashboards.all_chosen(panel.dashboard, prometheus)
    choices = [everything]
    if panel.dashboard in ONE_BY_ONE:
        variable = dashboards.variables(panel.dashboard)["instance"]
        found = dashboards.values(variable, prometheus, everything)
        assert len(found) == 2
        choices += [everything | {"instance": one} for one in found]
    for chosen in choices:
        for target, series in panel.answers(prometheus, span, chosen):
            assert series, f"nothing from {span.fill(target['expr'], chosen)}"


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_has_values(name: str, busy: Busy) -> None:
    chosen = dashboards.all_chosen(name, busy.stack.prometheus)
    assert set(chosen) == set(dashboards.variables(name))
    job = "airflow" if name == "airflow" else name
    assert chosen["job"] == f"({job})", "a dashboard is about one job"


@pytest.mark.parametrize("name", NAMES)
def test_no_panel_draws_two_series_under_one_name(name: str, busy: Busy, span: Span) -> None:
    for panel in dashboards.panels(name):
        names: list[str] = []
        answers = panel.answers(
            busy.stack.prometheus, span, dashboards.all_chosen(name, busy.stack.prometheus)
        )
        for target, series in answers:
            names += [dashboards.legend(target, one) for one in series]
        assert panel.json["type"] == "table" or len(names) == len(set(names)), (panel.title, names)


def test_every_rule_is_loaded_and_evaluated(prometheus: Prometheus, span: Span) -> None:
    written = [
        rule
        for file in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]
    for rule in written:
        prometheus.instant(rule["expr"], span.end)
    loaded = prometheus.rules()
    assert len(loaded) == len(written)
    assert [rule for rule in loaded if rule["health"] == "err"] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_is_drawn(name: str, busy: Busy, span: Span, tmp_path: Path) -> None:
    """Into docs/observability where that is asked for."""
    folder = Path(os.environ.get("STRANDLINE_TEST_PICTURES", tmp_path))
    # Two exporters tell of this machine.
    chosen = {"instance": busy.stack.nodes[0].address} if name == "node" else {}
    draw(name, busy.stack.prometheus, span, folder / f"{name}.png", **chosen)
    assert 10_000 < (folder / f"{name}.png").stat().st_size < 300_000
