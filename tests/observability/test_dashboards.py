"""The dashboards' files: Grafana's own types, and rules that keep panels honest."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from stack import dashboards
from stack.dashboards import Panel, Span
from stack.promql import selectors
from stack.services import ROOT

SPAN = Span(0, 900)
NAMES = sorted(dashboards.documents())
ALL = dashboards.panels()


# JSON has texts where the types have enumerations of texts. Of a type of panel only the fields that
# are there are looked at: what is left out is the default.
PLAIN = """
import type { Dashboard } from "@grafana/schema";
type Plain<T> = T extends string ? T | `${T}`
  : T extends (infer One)[] ? Plain<One>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> }
  : T;
type Some<T> = T extends string ? T | `${T}`
  : T extends (infer One)[] ? Some<One>[]
  : T extends object ? { [K in keyof T]?: Some<T[K]> }
  : T;
export type PlainDashboard = Plain<Dashboard>;
"""
TYPES = {"stat": "Stat", "bargauge": "BarGauge", "table": "Table", "timeseries": "TimeSeries"}
for _kind, _name in TYPES.items():
    _place = f"./node_modules/@grafana/schema/dist/esm/raw/composable/{_kind}/panelcfg/x/{_name}"
    PLAIN += f'import type * as {_name} from "{_place}PanelCfg_types.gen";\n'
    PLAIN += f"export type {_name}Options = Some<{_name}.Options>;\n"
PLAIN += "export type TimeSeriesFields = Some<TimeSeries.FieldConfig>;\n"

# Grafana's names; one that it does not know is shown as it is.
UNITS = {"none", "short", "s", "bytes", "Bps", "ops", "reqps", "rowsps", "percentunit"}
UNITS |= {"bool_yes_no"}


def ids(panel: Panel) -> str:
    return f"{panel.dashboard}: {panel.title}"


def test_the_files_are_what_the_source_makes(tmp_path: Path) -> None:
    make = ROOT / "deploy/grafana/make.py"
    subprocess.run([sys.executable, str(make), str(tmp_path)], check=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in dashboards.FOLDER.iterdir()}
    assert made == kept, "make dashboards"


def test_grafana_knows_every_field(tmp_path: Path) -> None:
    modules = Path(os.environ["STRANDLINE_TEST_NODE_MODULES"])
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "plain.ts").write_text(PLAIN)
    node = dashboards.documents()["node"]
    # What is wrong has to be found.
    wrong = {
        "wrong-field": node | {"schemaVersion": "41"},
        "wrong-option": changed(node, "options", {"colorModes": "value"}),
        "wrong-line": changed(node, "fieldConfig", {"defaults": {"custom": {"lineWdth": 1}}}),
    }
    for name, document in (dashboards.documents() | wrong).items():
        (tmp_path / f"{name}.ts").write_text(typed(document))
    command = [str(modules / ".bin/tsc"), "--noEmit", "--strict", "--skipLibCheck"]
    command += ["--module", "esnext", "--moduleResolution", "bundler"]
    files = [str(path) for path in tmp_path.glob("*.ts")]
    checked = subprocess.run([*command, *files], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    lines = [line for line in checked.stdout.splitlines() if line and not line.startswith(" ")]
    found = sorted({line.split("(")[0] for line in lines})
    assert found == [f"{name}.ts" for name in sorted(wrong)], checked.stdout


def changed(document: dict[str, Any], field: str, more: dict[str, Any]) -> dict[str, Any]:
    """A dashboard with one panel, which has a field that is like this."""
    panel = next(one for one in document["panels"] if one["type"] == "timeseries")
    return document | {"panels": [panel | {field: more}]}


def typed(document: dict[str, Any]) -> str:
    """A program that is right if a dashboard and its panels are."""
    text = 'import type * as plain from "./plain";\n'
    text += f"export const it: plain.PlainDashboard = {json.dumps(document, indent=1)};\n"
    for number, panel in enumerate(document["panels"]):
        if panel["type"] == "row":
            continue
        kind = TYPES[panel["type"]]
        options = json.dumps(panel["options"], indent=1)
        text += f"export const options{number}: plain.{kind}Options = {options};\n"
        if panel["type"] == "timeseries":
            fields = json.dumps(panel["fieldConfig"]["defaults"]["custom"], indent=1)
            text += f"export const fields{number}: plain.TimeSeriesFields = {fields};\n"
    return text


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_can_be_found_and_chosen_from(name: str) -> None:
    document = dashboards.documents()[name]
    assert document["uid"] == ("strandline" if name == "strandline" else f"strandline-{name}")
    assert document["title"]
    assert document["description"].endswith((".", "?"))
    listed = document["templating"]["list"]
    assert [one["name"] for one in listed][:3] == ["datasource", "job", "instance"]
    assert (listed[0]["type"], listed[0]["query"]) == ("datasource", "prometheus")
    # The menu at the top right leads to all that are marked so.
    [menu] = document["links"]
    assert (menu["type"], menu["tags"]) == ("dashboards", document["tags"])
    assert document["tags"] == ["strandline"]
    for one in listed[1:]:
        # 2: asked anew when the time changes.
        assert (one["refresh"], one["multi"], one["includeAll"]) == (2, True, True)
        assert one["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_overlap(name: str) -> None:
    panels = dashboards.documents()[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


@pytest.mark.parametrize("panel", ALL, ids=ids)
def test_a_panel_asks_a_question_and_says_what_its_numbers_are(panel: Panel) -> None:
    document = panel.json
    assert re.sub(r" \(.*\)$", "", panel.title).endswith("?")
    assert document["description"].endswith((".", "?"))
    assert 10 < len(document["description"]) < 260
    fields = document["fieldConfig"]["defaults"]
    assert fields["unit"] in UNITS
    steps = fields["thresholds"]["steps"]
    assert steps[0]["value"] is None
    assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
    # Of a share, 1 is all.
    if fields["unit"] == "percentunit":
        assert all(step["value"] <= 1 for step in steps[1:])
        assert fields.get("max", 1) == 1
    shown = document["options"].get("reduceOptions") or document["options"].get("legend") or {}
    assert set(shown.get("calcs", [])) <= {"lastNotNull", "max"}
    for one in (document, *document["targets"]):
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in document["targets"]:
        # Numbers want the last value, lines all of them.
        assert target["range"] == (not target["instant"]) == (document["type"] == "timeseries")
        assert (target["format"] == "table") == (document["type"] == "table")
    names = [target["legendFormat"] for target in document["targets"]]
    assert len(names) == 1 or "__auto" not in names


def test_selectors_are_found_in_all_places() -> None:
    parsed = promql_parser.parse("sum by (x) (rate(a[1m])) / (b or max(c offset 5m) * 2)")
    found = {(one.name, ranged) for one, ranged in selectors(parsed)}
    assert found == {("a", True), ("b", False), ("c", False)}


@pytest.mark.parametrize("panel", ALL, ids=ids)
def test_a_query_counts_nothing_twice_and_holds_for_old_and_new_exporters(panel: Panel) -> None:
    for target in panel.json["targets"]:
        expr = target["expr"]
        parsed = promql_parser.parse(SPAN.fill(expr, dashboards.anything(panel.dashboard)))
        found = selectors(parsed)
        assert found, expr
        for selector, ranged in found:
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert {"job", "instance"} <= labels, f"{expr}: {selector.name} of all jobs"
            # Newer Postgres exporters do not have it.
            assert "server" not in labels, expr
            if is_counter(selector.name or ""):
                # What it has grown by, or what it is less what it was.
                assert ranged or " offset " in expr, f"{expr}: {selector.name} as it is"
            # Newer exporters have split it.
            if selector.name == "pg_stat_activity_count":
                assert is_within("sum", selector.name, expr), expr
            # One replica's word for what is so of all: see docs/metrics.md.
            elif re.match(r"strandline_(open_runs|oldest_|topic_)", selector.name or ""):
                assert not is_within("sum", selector.name, expr), expr
        shares = re.findall(r"histogram_quantile\(([\d.]+),", expr)
        assert all(0 < float(share) < 1 for share in shares), expr
        assert len(shares) == expr.count("histogram_quantile"), expr
        # A fixed window of less than four scrapes may see nothing.
        windows = set(re.findall(r"\[([^\]]+)\]", expr))
        assert windows <= {"$__rate_interval", "$__range", "1m", "5m", "15m", "1h"}, expr


def is_within(function: str, name: str, expr: str) -> bool:
    """Whether each mention of a metric is summed, or whatever the function does."""
    direct = re.findall(rf"{function}(?: by \([^)]*\) )?\({name}\b", expr)
    return len(direct) == len(re.findall(rf"\b{name}\b", expr))


def is_counter(name: str) -> bool:
    """By its name; gauges that MinIO calls totals are none."""
    gauges = ("minio_cluster_drive_offline_total",)
    return name.endswith(("_total", "_bucket", "_sum", "_count")) and name not in (
        *gauges,
        "pg_stat_activity_count",
        "pg_locks_count",
    )
