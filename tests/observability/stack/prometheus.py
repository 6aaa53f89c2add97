"""Prometheus with the project's own configuration, and questions to it."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from harness.processes import Process, eventually
from harness.strandline import free_port
from stack.services import ROOT

CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
RULES = ROOT / "deploy/prometheus/rules"

Series = dict[str, Any]


class Prometheus:
    """One server, which scrapes what it is told to by deploy/prometheus/prometheus.yml.

    That file is used as it is but for the addresses, and the intervals, which are short. One that
    `reads` answers from what another one has.
    """

    def __init__(
        self,
        state: Path,
        targets: Mapping[str, Sequence[str]],
        *,
        program: str | None = None,
        name: str = "prometheus",
        rules: Path = RULES,
        interval: str = "2s",
        reads: str | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder = state / name
        folder.mkdir(parents=True, exist_ok=True)
        own = {"prometheus": [f"127.0.0.1:{self.port}"]}
        self.config = configuration({**targets, **({} if reads else own)}, rules, interval)
        if reads:
            self.config["remote_read"] = [{"url": f"{reads}/api/v1/read", "read_recent": True}]
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(self.config))
        command = [
            program or os.environ["PROMETHEUS"],
            f"--config.file={file}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-lifecycle",
        ]
        self.process = Process(name, command, dict(os.environ), state)
        self._client = httpx.Client(base_url=f"{self.url}/api/v1", timeout=60)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process.start()
        self.process.until(self._ready, "it is ready", 60)

    def stop(self) -> None:
        """Stop it if it runs."""
        if self.process.runs():
            self.process.stop()

    def until_scraped(self, jobs: Sequence[str], seconds: float = 60) -> None:
        """Wait until all targets of these jobs are up."""

        def healthy() -> bool:
            targets = [t for t in self.targets() if t["labels"]["job"] in jobs]
            found = {target["labels"]["job"] for target in targets}
            return found == set(jobs) and all(target["health"] == "up" for target in targets)

        eventually(healthy, f"{jobs} are scraped", seconds, lambda: str(self.targets()))

    def targets(self) -> list[dict[str, Any]]:
        """All that it scrapes, with what went wrong."""
        return self._get("targets", state="active")["activeTargets"]

    def instant(self, query: str, at: float | None = None) -> list[Series]:
        """The series of a query, each with one `value`."""
        data = self._get("query", query=query, time=at or time.time())
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        return data["result"]

    def between(self, query: str, start: float, end: float, step: float) -> list[Series]:
        """The series of a query, each with `values`."""
        return self._get("query_range", query=query, start=start, end=end, step=step)["result"]

    def series(self, match: str, seconds: float = 3600) -> list[dict[str, str]]:
        """The labels of all series that match."""
        return self._get("series", **{"match[]": match, "start": time.time() - seconds})

    def value(self, query: str) -> float:
        """The only value of a query; not a number where there is none."""
        found = self.instant(query)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else math.nan

    def rules(self) -> list[dict[str, Any]]:
        """All alert and recording rules, with their health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def alerts(self, name: str = "") -> list[dict[str, Any]]:
        """Alerts that fire now, with labels and annotations; all, or those of a name."""
        firing = [a for a in self._get("alerts")["alerts"] if a["state"] == "firing"]
        return [a for a in firing if name in ("", a["labels"]["alertname"])]

    def firing(self) -> set[str]:
        """The names of alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self.alerts()}

    def until_firing(self, alert: str, seconds: float = 120) -> None:
        """Wait until an alert fires."""
        eventually(lambda: alert in self.firing(), f"{alert} fires", seconds, self.explain)

    def until_resolved(self, alert: str, seconds: float = 120) -> None:
        """Wait until an alert does not fire any more."""
        eventually(lambda: alert not in self.firing(), f"{alert} ends", seconds, self.explain)

    def explain(self) -> str:
        """What it knows of alerts and targets, to explain a failure."""
        down = [t for t in self.targets() if t["health"] != "up"]
        return f"alerts: {self._get('alerts')['alerts']}\nnot up: {down}\n{self.process.tail()}"

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=5).is_success
        except httpx.TransportError:
            return False

    def _get(self, path: str, **params: Any) -> Any:
        answer = self._client.get(path, params=params)
        document = answer.json()
        assert document["status"] == "success", f"{params}: {document}"
        return document["data"]


def configuration(
    targets: Mapping[str, Sequence[str]], rules: Path, interval: str
) -> dict[str, Any]:
    """The project's file, with these addresses for its jobs; a job without any is left out."""
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] |= {
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "evaluation_interval": interval,
    }
    assert config["rule_files"] == ["rules/*.yml"]
    config["rule_files"] = [f"{rules}/*.yml"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert set(targets) <= set(jobs), f"no jobs: {set(targets) - set(jobs)}"
    for job in jobs.values():
        for key in [key for key in job if re.fullmatch(r".+_sd_configs|static_configs", key)]:
            del job[key]
        job["static_configs"] = [{"targets": list(targets.get(job["job_name"], []))}]
    config["scrape_configs"] = [job for name, job in jobs.items() if name in targets]
    return config
