"""Two real Strandlines on one database: one answers, one works, so that a test can hold up work."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg2

from harness.processes import Process, eventually

ROOT = Path(__file__).resolve().parents[3]
TOPIC = "flights"
EVENTS = ROOT / "data" / "flights-2013-01.ndjson.gz"


class Strandline:
    """The service under test, with Kafka and PostgreSQL behind it."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database_url = create_database("strandline")
        self.token = ""
        self.api = self._replica("strandline-api", self.port, workers=0)
        self._worker_port = free_port()
        self.worker = self._replica("strandline-worker", self._worker_port, workers=2)

    def start(self) -> None:
        """Load the topic, make a token, start both."""
        environment = self._environment()
        load = [os.environ["STRANDLINE_TEST_LOAD_EVENTS"], "--topic", TOPIC]
        load += ["--brokers", os.environ["STRANDLINE_TEST_KAFKA"], "--file", str(EVENTS)]
        subprocess.run(load, check=True)
        subprocess.run([program(), "migrate"], check=True, env=environment)
        create = [program(), "token", "create", "--name", "airflow", "--scope", "write"]
        made = subprocess.run(create, check=True, env=environment, stdout=subprocess.PIPE)
        self.token = made.stdout.decode().strip()
        self.start_api()
        self._start(self.worker, self._worker_port)

    def start_api(self) -> None:
        """Start the replica that Airflow talks to, and wait until it answers."""
        self._start(self.api, self.port)

    def stop(self) -> None:
        """Stop what runs."""
        for replica in (self.worker, self.api):
            if replica.runs():
                replica.stop()

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Nobody works on snapshots, so that they stay queued for as long as the test wants."""
        assert self.worker.stop() == 0
        try:
            yield
        finally:
            self._start(self.worker, self._worker_port)

    def restart_api(self, how: signal.Signals) -> None:
        """End the replica that Airflow talks to; it is away until `start_api`."""
        code = self.api.stop(how)
        assert code == (0 if how == signal.SIGTERM else -how), self.api.tail()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Ask the API."""
        answer = httpx.get(self.url + path, params=params, headers=self.bearer(), timeout=30)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str) -> dict[str, Any]:
        """Tell the API."""
        answer = httpx.post(self.url + path, headers=self.bearer(), timeout=30)
        answer.raise_for_status()
        return answer.json()

    def bearer(self) -> dict[str, str]:
        """Who we are."""
        return {"authorization": f"Bearer {self.token}"}

    def snapshots(self, window: Window, topic: str = TOPIC) -> list[dict[str, Any]]:
        """The snapshots of a window, by the API."""
        start, end = window.start.isoformat(), window.end.isoformat()
        page = self.get("/v1/snapshots", topic=topic, window_from=start, window_to=end, limit=200)
        return [s for s in page["items"] if _same(s, window)]

    def the_snapshot(self, window: Window, topic: str = TOPIC) -> dict[str, Any]:
        """The only snapshot of a window: by the API, and by PostgreSQL."""
        found = self.snapshots(window, topic)
        assert len(found) == 1, found
        count = self.sql(
            "SELECT count(*) FROM snapshots WHERE topic_name = %s AND window_start = %s "
            "AND window_end = %s",
            topic,
            window.start,
            window.end,
        )
        assert count == 1
        return found[0]

    def eventually(self, window: Window, state: str, topic: str = TOPIC) -> dict[str, Any]:
        """The snapshot of a window, once it is in this state."""
        eventually(
            lambda: [s["state"] for s in self.snapshots(window, topic)] == [state],
            f"{topic} {window} is {state}",
            explain=lambda: str(self.snapshots(window, topic)),
        )
        return self.the_snapshot(window, topic)

    def sql(self, statement: str, *values: Any) -> Any:
        """One value from Strandline's database."""
        with psycopg2.connect(self.database_url) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            row = cursor.fetchone()
            assert row is not None
            return row[0]

    def _start(self, replica: Process, port: int) -> None:
        replica.start()
        replica.until(lambda: _serves(port), "it serves", 60)

    def _replica(self, name: str, port: int, workers: int) -> Process:
        command = [program(), "serve", "--listen", f"127.0.0.1:{port}"]
        settings = {
            "STRANDLINE_WORKERS": str(workers),
            # Tests are short.
            "STRANDLINE_GRACE_SECONDS": "20",
            "STRANDLINE_SEAL_INTERVAL_SECONDS": "2",
            "STRANDLINE_LEASE_SECONDS": "5",
        }
        return Process(name, command, self._environment() | settings, self._state)

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("STRANDLINE_")}
        return kept | {
            "STRANDLINE_DATABASE_URL": self.database_url,
            "STRANDLINE_KAFKA_BROKERS": os.environ["STRANDLINE_TEST_KAFKA"],
            "STRANDLINE_STORAGE_URL": f"file://{self._state}/files",
            "STRANDLINE_DATA_DIR": f"{self._state}/data",
        }


class Window:
    """A window of time, and what the topic has in it."""

    def __init__(self, start: datetime, length: timedelta = timedelta(days=1)) -> None:
        self.start = start
        self.end = start + length

    def __repr__(self) -> str:
        return f"[{self.start.isoformat()}, {self.end.isoformat()})"

    def conf(self, topic: str = TOPIC) -> dict[str, str]:
        """As the params of a run."""
        start, end = self.start.isoformat(), self.end.isoformat()
        return {"topic": topic, "window_start": start, "window_end": end}

    def events(self) -> int:
        """How many events of the file are in it, counted without Strandline."""
        start, end = (time.timestamp() * 1000 for time in (self.start, self.end))
        return sum(start <= timestamp < end for timestamp in timestamps())


def day(number: int) -> Window:
    """A day of January 2013, when the flights were."""
    return Window(datetime(2013, 1, number, tzinfo=UTC))


def hour(day_number: int, number: int) -> Window:
    """An hour of a day of January 2013."""
    start = datetime(2013, 1, day_number, number, tzinfo=UTC)
    return Window(start, timedelta(hours=1))


_TIMESTAMPS: list[int] = []


def timestamps() -> list[int]:
    """Of all events of the file."""
    if not _TIMESTAMPS:
        with gzip.open(EVENTS, "rt") as lines:
            _TIMESTAMPS.extend(json.loads(line)["timestamp"] for line in lines)
    return _TIMESTAMPS


def _serves(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _same(snapshot: dict[str, Any], window: Window) -> bool:
    return times_of(snapshot) == (window.start, window.end)


def times_of(snapshot: dict[str, Any]) -> tuple[datetime, datetime]:
    """The window of a snapshot document."""
    start, end = (snapshot[name].replace("Z", "+00:00") for name in ("window_start", "window_end"))
    return datetime.fromisoformat(start), datetime.fromisoformat(end)


def program() -> str:
    """The program that is tested."""
    return os.environ["STRANDLINE_TEST_BIN"]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def create_database(name: str) -> str:
    """A database of the tests' own; its URL. The services are deleted with all of theirs."""
    url = os.environ["STRANDLINE_TEST_DATABASE_URL"]
    name = f"airflow_test_{name}_{os.getpid()}"
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return url.rsplit("/", 1)[0] + "/" + name
