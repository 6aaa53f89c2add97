"""Strandline: one or more replicas of the program that is tested."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx

from harness.processes import Process
from harness.strandline import free_port
from stack.services import Kafka, Minio, Postgres

# Tests are short.
QUICK = {
    "STRANDLINE_GRACE_SECONDS": "10",
    "STRANDLINE_SEAL_INTERVAL_SECONDS": "2",
    "STRANDLINE_LEASE_SECONDS": "5",
    "STRANDLINE_RETRY_SECONDS": "20",
}


class Replica:
    """One process, with an address for requests and one for its metrics."""

    def __init__(self, name: str, state: Path, settings: dict[str, str]) -> None:
        port, metrics = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.metrics = f"127.0.0.1:{metrics}"
        listen = {
            "STRANDLINE_LISTEN": f"127.0.0.1:{port}",
            "STRANDLINE_METRICS_LISTEN": self.metrics,
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("STRANDLINE", "AWS"))}
        command = [os.environ["STRANDLINE_TEST_BIN"], "serve"]
        self.process = Process(name, command, kept | settings | listen, state)

    def start(self, seconds: float = 90) -> None:
        """Start it, and wait until it takes requests."""
        self.process.start()
        self.process.until(self._serves, "it serves", seconds)

    def stop(self) -> None:
        """Stop it if it runs."""
        if self.process.runs():
            self.process.stop()

    def _serves(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


class Strandline:
    """All replicas, as one caller sees them."""

    def __init__(
        self,
        state: Path,
        kafka: Kafka,
        postgres: Postgres,
        minio: Minio | None = None,
        replicas: int = 2,
        **settings: str,
    ) -> None:
        self._settings = QUICK | {
            "STRANDLINE_DATABASE_URL": postgres.url(),
            "STRANDLINE_KAFKA_BROKERS": kafka.brokers,
            "STRANDLINE_DATA_DIR": str(state / "data"),
            "STRANDLINE_STORAGE_URL": f"file://{state}/files",
            "STRANDLINE_WORKERS": "2",
            "STRANDLINE_LOG_FORMAT": "json",
        }
        self._settings |= minio.settings() if minio else {}
        self._settings |= settings
        names = [f"strandline-{number}" for number in range(1, replicas + 1)]
        self.replicas = [Replica(name, state, self._settings) for name in names]
        self.token = ""

    def start(self) -> None:
        """Make a token, start all."""
        command = [os.environ["STRANDLINE_TEST_BIN"], "migrate"]
        subprocess.run(command, check=True, env=self._environment(), stdout=subprocess.DEVNULL)
        self.token = self.make_token("airflow", "write")
        for replica in self.replicas:
            replica.start()

    def stop(self) -> None:
        """Stop what runs."""
        for replica in self.replicas:
            replica.stop()

    def make_token(self, name: str, scope: str) -> str:
        """A new token."""
        command = [os.environ["STRANDLINE_TEST_BIN"], "token", "create"]
        command += ["--name", name, "--scope", scope]
        made = subprocess.run(command, check=True, env=self._environment(), stdout=subprocess.PIPE)
        return made.stdout.decode().strip()

    @property
    def url(self) -> str:
        """The first replica's."""
        return self.replicas[0].url

    def client(self, replica: int = 0, **headers: str) -> httpx.Client:
        """One that has the token."""
        headers = {"authorization": f"Bearer {self.token}"} | headers
        return httpx.Client(base_url=self.replicas[replica].url, headers=headers, timeout=120)

    def snapshot(self, topic: str, start: str, end: str, **wanted: Any) -> httpx.Response:
        """Ask for a snapshot, and wait for its end."""
        body = {"topic": topic, "window_start": start, "window_end": end} | wanted
        with self.client() as client:
            return client.post("/v1/snapshots", params={"wait": 60}, json=body)

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("STRANDLINE", "AWS"))}
        return kept | self._settings
