"""What the documents say is so."""

from __future__ import annotations

import re
import shlex

import pytest

from harness.airflow import Airflow
from harness.strandline import ROOT, Strandline, Window, day

README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs/airflow.md").read_text()


def test_the_readme_shows_the_example_as_it_is() -> None:
    example = (ROOT / "airflow/dags/http/flights_daily.py").read_text()
    assert f"```python\n{example}```" in README


def test_the_guide_links_to_what_is_there() -> None:
    links = re.findall(r"\]\(\.\./([^)]+)\)", GUIDE)
    assert len(links) == 5
    for link in links:
        assert (ROOT / link).is_file(), link


def test_the_connection_can_be_tried(airflow: Airflow) -> None:
    assert "Connection success!" in airflow.command("connections", "test", "strandline_default")


@pytest.mark.parametrize(("number", "window"), [(0, day(10)), (1, day(12))])
def test_the_commands_of_the_readme(
    airflow: Airflow, strandline: Strandline, number: int, window: Window
) -> None:
    commands = re.findall(r"^airflow (dags test .*)$", README, re.MULTILINE)
    assert len(commands) == 2
    printed = airflow.command(*shlex.split(commands[number]))
    snapshot = strandline.the_snapshot(window)
    assert snapshot["state"] == "succeeded", printed
    assert snapshot["result"]["records"] == window.events()
