"""Strandline as a service: one process, a database of its own, files on this disk."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from measure import Sample, cpu_seconds, files_size, peak_rss

WAIT_SECONDS = 60


class Databases:
    """Empty databases with the current schema, made as copies of one."""

    def __init__(self, binary: str, url: str, psql: str) -> None:
        self.server, self.psql, self.made = url.rpartition("/")[0], psql, 0
        self.sql("DROP DATABASE IF EXISTS bench_template", "CREATE DATABASE bench_template")
        migrate = [binary, "migrate", "--database-url", f"{self.server}/bench_template"]
        subprocess.run(migrate, check=True, capture_output=True)

    def sql(self, *statements: str) -> None:
        command = [self.psql, "-q", "-v", "ON_ERROR_STOP=1", f"{self.server}/postgres"]
        for statement in statements:
            command += ["-c", statement]
        subprocess.run(command, check=True, capture_output=True)

    def new(self) -> str:
        """The URL of an empty one; the one before is removed."""
        self.made += 1
        self.sql(
            f"DROP DATABASE IF EXISTS bench_{self.made - 1}",
            f"DROP DATABASE IF EXISTS bench_{self.made}",
            f"CREATE DATABASE bench_{self.made} TEMPLATE bench_template",
        )
        return f"{self.server}/bench_{self.made}"


class Service:
    """`strandline serve`, from an empty state; a context manager."""

    def __init__(
        self, binary: str, brokers: str, database: str, folder: Path, workers: int = 2, store: str = ""
    ) -> None:
        """Files go to the URL `store`, or else below the folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.log = open(folder / "log", "w")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STRANDLINE_")}
        self.process = subprocess.Popen(
            [
                binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--workers", str(workers),
                "--database-url", database, "--kafka-brokers", brokers,
                "--data-dir", str(folder), *(["--storage-url", store] if store else []),
            ],
            stdout=self.log, stderr=self.log, env=environment,
        )

    def __enter__(self) -> "Service":
        for _ in range(1000):
            try:
                status, _ = self.ask("GET", "/readyz")
                if status == 200:
                    return self
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise SystemExit(f"the service did not start, see {self.folder}/log")

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.log.close()

    def ask(self, method: str, path: str, body: dict | None = None) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS + 30)
        headers = {"Content-Type": "application/json", "Prefer": f"wait={WAIT_SECONDS}"}
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content) if content.startswith(b"{") else {}

    def snapshot(self, topic: str, start: str, end: str) -> tuple[float, dict]:
        """Asks for a snapshot and waits for it. Seconds from the POST to `succeeded`, and the
        snapshot."""
        started = time.monotonic()
        body = {"topic": topic, "window_start": start, "window_end": end}
        status, snapshot = self.ask("POST", "/v1/snapshots", body)
        while status == 202 or snapshot.get("state") in ("queued", "running"):
            status, snapshot = self.ask("GET", f"/v1/snapshots/{snapshot['id']}")
        wall = time.monotonic() - started
        if snapshot.get("state") != "succeeded" or snapshot.get("completeness") != "sealed":
            raise SystemExit(f"the snapshot is not what it should be: {snapshot}")
        return wall, snapshot

    def sample(self, topic: str, start: str, end: str) -> Sample:
        """One snapshot, measured."""
        before = cpu_seconds(self.process.pid)
        wall, snapshot = self.snapshot(topic, start, end)
        cpu = cpu_seconds(self.process.pid) - before
        rss = peak_rss(self.process.pid)
        size = files_size(self.folder) or snapshot["result"]["bytes"]
        return Sample(wall, cpu, rss, size, json.dumps({"events": snapshot["result"]["records"]}))
