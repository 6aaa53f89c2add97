"""The exporters of docker-compose.yml, and Debian's older ones beside them."""

from __future__ import annotations

import os
from pathlib import Path

import httpx

from harness.processes import Process
from harness.strandline import free_port
from stack.services import ROOT, Postgres

MAPPING = ROOT / "deploy/statsd/mapping.yml"


class Exporter:
    """A program that has metrics under an address."""

    def __init__(self, name: str, state: Path, program: str, *options: str, **more: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        command = [os.environ[program], f"--web.listen-address={self.address}", *options]
        self.process = Process(name, command, dict(os.environ) | more, state)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process.start()
        self.process.until(self._answers, "it answers", 60)

    def stop(self) -> None:
        """Stop it if it runs."""
        if self.process.runs():
            self.process.stop()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://{self.address}/metrics", timeout=10).is_success
        except httpx.TransportError:
            return False


def statsd(state: Path) -> tuple[Exporter, int]:
    """With the project's mapping as it is; and the port that Airflow sends to."""
    port = free_port()
    options = [f"--statsd.listen-udp=127.0.0.1:{port}", "--statsd.listen-tcp="]
    options.append(f"--statsd.mapping-config={MAPPING}")
    return Exporter("statsd-exporter", state, "STATSD_EXPORTER", *options), port


def nodes(state: Path) -> list[Exporter]:
    """The one of docker-compose.yml, and Debian's."""
    return [
        Exporter("node-exporter", state, "NODE_EXPORTER"),
        Exporter("node-exporter-debian", state, "DEBIAN_NODE_EXPORTER"),
    ]


def postgres(state: Path, server: Postgres) -> Exporter:
    """Debian's, by the role that setup.sql makes for it."""
    source = f"host={server.socket} user=monitor dbname=strandline sslmode=disable"
    return Exporter("postgres-exporter", state, "DEBIAN_POSTGRES_EXPORTER", DATA_SOURCE_NAME=source)
