"""The alert rules: promtool's own tests of them, their runbooks, and the metrics that they name.

Needs no service: `pytest tests/observability/test_rules.py` with promtool in PROMTOOL.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
CASES = sorted((ROOT / "deploy/prometheus/tests").glob("*.yml"))
METRICS = (ROOT / "docs/metrics.md").read_text()
RUNBOOKS = (ROOT / "docs/operating.md").read_text()
FAILURES = (ROOT / "src/snapshot/failure.rs").read_text()

# The newest one, and the oldest that docs/operating.md speaks of.
PROMTOOLS = [name for name in ("PROMTOOL", "DEBIAN_PROMTOOL") if name in os.environ]

# `metric`, or `metric{…}`.
SELECTOR = re.compile(r"\b((?:strandline|process)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules that are alerts, or that are records."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = rules("alert")
NAMES = [alert["alert"] for alert in ALERTS]


def promtool(name: str, *arguments: str | Path) -> None:
    command = [os.environ[name], *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_a_promtool() -> None:
    assert PROMTOOLS, "PROMTOOL is not set"


@pytest.mark.parametrize("name", PROMTOOLS)
def test_promtool_can_read_all_rules(name: str) -> None:
    promtool(name, "check", "rules", *RULES)


@pytest.mark.parametrize("name", PROMTOOLS)
@pytest.mark.parametrize("cases", CASES, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should(name: str, cases: Path) -> None:
    promtool(name, "test", "rules", cases)


def looks() -> Iterator[tuple[str, bool]]:
    """The alerts that promtool's tests look at, each with whether it is to fire then."""
    for file in CASES:
        for case in yaml.safe_load(file.read_text())["tests"]:
            for look in case.get("alert_rule_test", []):
                yield look["alertname"], bool(look.get("exp_alerts"))


def test_every_alert_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    wanted = {(name, fires) for name in NAMES for fires in (True, False)}
    assert wanted == set(looks())


def test_every_alert_has_one_section_of_the_runbook() -> None:
    assert len(set(NAMES)) == len(NAMES)
    sections = RUNBOOKS[RUNBOOKS.index("## When an alert fires") :]
    assert sorted(re.findall(r"^### (.*)$", sections, re.MULTILINE)) == sorted(NAMES)
    for alert in ALERTS:
        anchor = f"docs/operating.md#{alert['alert'].lower()}"
        assert alert["annotations"]["runbook"] == anchor, alert["alert"]


@pytest.mark.parametrize("section", re.split(r"^### ", RUNBOOKS, flags=re.MULTILINE)[-len(NAMES) :])
def test_a_section_says_where_to_look_what_to_do_and_when_to_relax(section: str) -> None:
    assert re.findall(r"^- \*(\w+)\*: \S", section, re.MULTILINE) == ["Look", "Do", "Relax"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_it_has_to(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert "for" in alert
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    # Of which Strandline, exporter or machine.
    assert re.search(r"\$labels\.(job|instance|datname)", alert["annotations"]["description"])


def test_records_are_named_as_records_are() -> None:
    for rule in rules("record"):
        assert re.fullmatch(r"job(_topic)?:strandline_\w+:\w+", rule["record"]), rule["record"]
        level = ", ".join(rule["record"].split(":")[0].split("_"))
        assert f"by ({level})" in rule["expr"], rule["record"]


def test_links_of_the_runbook_lead_somewhere() -> None:
    links = re.findall(r"\]\(([\w.-]*)(?:#([\w-]+))?\)", RUNBOOKS)
    assert len(links) > 5
    for file, anchor in links:
        text = (ROOT / "docs" / file).read_text() if file else RUNBOOKS
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
        assert not anchor or anchor in anchors, f"{file}#{anchor}"


def test_the_runbook_speaks_of_what_there_is() -> None:
    sources = "".join(file.read_text() for file in (ROOT / "src").rglob("*.rs"))
    codes = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", RUNBOOKS))
    codes = {code for code in codes if not code.startswith(("STRANDLINE_", "AIRFLOW_", "TOKEN"))}
    said = set(re.findall(r'"((?:could not|can.t|the) [a-z \']+)"', RUNBOOKS))
    assert len(codes) > 8
    assert len(said) > 4
    quoted = {f'"{code}"' for code in codes}
    assert [one for one in sorted(quoted | said) if one not in sources] == []
    records = set(re.findall(r"`(job\w*:[\w:]+)`", RUNBOOKS))
    assert records < {rule["record"] for rule in rules("record")}
    routes = json.loads((ROOT / "openapi/strandline.json").read_text())["paths"]
    asked = re.findall(r"\$url(/[\w/$]+)|`(?:GET )?(/(?:v1/|readyz|livez)[^`?]*)", RUNBOOKS)
    for one in {first or second for first, second in asked}:
        assert re.sub(r"\$(\w+)", r"{\1}", one) in routes, one
    assert len(asked) > 8
    named = set(re.findall(r"`((?:Strandline|Postgres|Airflow|Node|Target)[A-Z]\w+)`", RUNBOOKS))
    assert len(named) > 8
    assert named <= set(NAMES)


def documented() -> dict[str, tuple[str, str]]:
    """The metrics of docs/metrics.md: kind and labels of each."""
    row = r"^\| `(strandline_\w+)` \| (\w+) \| (.*?) \|"
    return {name: (kind, labels) for name, kind, labels in re.findall(row, METRICS, re.MULTILINE)}


def targets() -> Iterator[dict[str, Any]]:
    """The queries of all panels."""
    for file in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            yield from panel.get("targets", [])


def named() -> Iterator[tuple[str, str]]:
    """Metrics and matchers of alerts, of panels, and of the questions that the runbook asks."""
    expressions = [rule["expr"] for rule in ALERTS + rules("record")]
    expressions += [alert["annotations"]["description"] for alert in ALERTS]
    expressions += [target["expr"] for target in targets()]
    for text in [*expressions, RUNBOOKS]:
        # The names of records are made of names of metrics.
        yield from SELECTOR.findall(re.sub(r"\bjob(?:_topic)?:\w+:\w+", "", text))


@pytest.mark.parametrize(("metric", "matchers"), sorted(set(named())))
def test_every_metric_and_label_is_one_that_strandline_has(metric: str, matchers: str) -> None:
    if metric.startswith("process_"):
        assert f"`{metric}`" in METRICS
        return
    known = documented()
    family = metric
    if metric not in known:
        family = re.sub(r"_(bucket|sum|count)$", "", metric)
        assert known.get(family, ("",))[0] == "histogram", f"docs/metrics.md has no {metric}"
    labels = known[family][1]
    for label, value in MATCHER.findall(matchers):
        if label in ("job", "instance"):
            continue
        assert f"`{label}`:" in labels, f"{metric} has no label {label}"
        if "a run's error code" in labels:
            assert all(f'"{code}"' in FAILURES for code in value.split("|")), value
        elif metric == "strandline_http_requests_total":
            assert label in ("code", "route"), label
        else:
            words = re.findall(r"`(\w+)`", labels)
            for one in value.split("|"):
                assert any(re.fullmatch(one, word) for word in words), f"{metric}: {one}"


def test_every_record_is_used() -> None:
    used = " ".join(alert["expr"] for alert in ALERTS)
    for rule in rules("record"):
        assert rule["record"] in used, rule["record"]


def test_every_counter_that_alerts_use_begins_at_zero() -> None:
    """`increase()` does not see a series' first sample; of HTTP requests the runbook says so."""
    for metric, _ in named():
        labels = documented().get(metric, ("", ""))[1]
        if metric.endswith("_total") and metric != "strandline_http_requests_total":
            values = re.sub(r"`\w+`: (`\w+`(, )?)+(; )?|`code`: a run's error code", "", labels)
            assert not values.strip(), f"{metric}: {values}"
