"""The stack: what docker-compose.yml starts, as processes, put together in the same way."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import httpx

from harness.processes import eventually
from stack import compose, exporters
from stack.prometheus import RULES, Prometheus
from stack.replicas import Strandline
from stack.services import Kafka, Minio, Postgres


class Stack:
    """Kafka, PostgreSQL, MinIO, two Strandlines, the exporters, and Prometheus, which watches them.

    Every part is started and stopped by itself, too: a drill stops one and looks at what Prometheus
    says. Addresses stay the same over that. Airflow is apart (see conftest.py); its metrics go to
    the port `statsd_port`.
    """

    def __init__(
        self,
        state: Path,
        *,
        minio: bool = True,
        replicas: int = 2,
        rules: Path = RULES,
        interval: str = "2s",
        **settings: str,
    ) -> None:
        self.state = state
        self.kafka = Kafka(state / "kafka")
        self.postgres = Postgres(state / "postgres")
        # Its metrics are as open as there.
        told = {name: compose.variables("storage")[name] for name in ["MINIO_PROMETHEUS_AUTH_TYPE"]}
        self.minio = Minio(state / "minio", **told) if minio else None
        self._replicas = replicas
        self._rules = rules
        self._interval = interval
        self._settings = settings
        self.strandline: Strandline
        self.prometheus: Prometheus

    def __enter__(self) -> Stack:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all of it, and wait until Prometheus has seen each part."""
        services = [self.kafka, self.postgres, *([self.minio] if self.minio else [])]
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(service.start) for service in services]:
                started.result()
        self.strandline = Strandline(
            self.state,
            self.kafka,
            self.postgres,
            self.minio,
            replicas=self._replicas,
            **self._settings,
        )
        self.strandline.start()
        self.statsd, self.statsd_port = exporters.statsd(self.state)
        self.nodes = exporters.nodes(self.state)
        self.postgres_exporter = exporters.postgres(self.state, self.postgres)
        for exporter in (self.statsd, *self.nodes, self.postgres_exporter):
            exporter.start()
        self.prometheus = Prometheus(
            self.state, self.targets(), rules=self._rules, interval=self._interval
        )
        self.prometheus.start()
        self.prometheus.until_scraped(list(self.targets()))

    def stop(self) -> None:
        """Stop what runs, in the order in which it depends on each other; delete the data."""
        for part in ("prometheus", "postgres_exporter", "statsd", "strandline"):
            if hasattr(self, part):
                getattr(self, part).stop()
        for node in getattr(self, "nodes", []):
            node.stop()
        for service in (self.kafka, self.postgres, *([self.minio] if self.minio else [])):
            service.wipe()

    def send_statsd(self, *lines: str) -> None:
        """As Airflow does."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            for line in lines:
                wire.sendto(line.encode(), ("127.0.0.1", self.statsd_port))

    def exported(self, until: str) -> str:
        """What the StatsD exporter has, once this is in it."""

        def text() -> str:
            return httpx.get(f"http://{self.statsd.address}/metrics", timeout=10).text

        eventually(lambda: until in text(), until, 30, text)
        return text()

    def targets(self) -> dict[str, list[str]]:
        """What Prometheus scrapes, by job."""
        found = {
            "strandline": [replica.metrics for replica in self.strandline.replicas],
            "airflow": [self.statsd.address],
            "postgres": [self.postgres_exporter.address],
            "node": [node.address for node in self.nodes],
        }
        if self.minio:
            found["minio"] = [self.minio.address]
        return found


def state_folder() -> Path:
    """Where all of it lives; scripts/test-observability.sh deletes it."""
    return Path(os.environ["STRANDLINE_TEST_OBSERVABILITY_STATE"])
