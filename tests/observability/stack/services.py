"""Kafka, PostgreSQL and MinIO, each by its script, each with data of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import psycopg2

ROOT = Path(__file__).resolve().parents[3]


class Service:
    """A script of the project that starts and stops something, and the folder that it keeps."""

    def __init__(self, script: str, data: Path, **settings: str) -> None:
        self._script = str(ROOT / "scripts" / script)
        self._environment = dict(os.environ) | settings
        self._data = data

    def start(self) -> None:
        """Start it, and wait until it is ready. What was there stays: ports, too."""
        self._run("start")

    def stop(self) -> None:
        """Stop it, and keep its data."""
        self._run("stop")

    def wipe(self) -> None:
        """Stop it and delete its data."""
        self._run("wipe")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._script, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{self._script} {arguments}: {done.stdout}"
        return done.stdout


class Kafka(Service):
    """One broker, without passwords."""

    def __init__(self, data: Path) -> None:
        super().__init__("kafka.sh", data, KAFKA_DATA=str(data), KAFKA_TIER="1", KAFKA_PORT="auto")

    @property
    def brokers(self) -> str:
        """Where it is, once it was started."""
        return f"127.0.0.1:{(self._data / 'port').read_text().strip()}"

    @property
    def pid(self) -> int:
        """For signals: SIGSTOP makes a broker that is there and silent."""
        return int((self._data / "pid").read_text().split()[0])


class Postgres(Service):
    """One server behind a Unix socket, set up as docker-compose.yml sets it up."""

    def __init__(self, data: Path) -> None:
        super().__init__("postgres.sh", data, POSTGRES_STATE=str(data))

    def start(self) -> None:
        """Start it; the first time, make Strandline's database and the roles of setup.sql."""
        super().start()
        exists = "SELECT 1 FROM pg_database WHERE datname = 'strandline'"
        if not self.ask("strandline", exists, database="postgres"):
            self.ask("strandline", "CREATE DATABASE strandline", database="postgres")
        self.set_up()

    def set_up(self, roles: Sequence[str] = ("monitor", "airflow")) -> None:
        """What `postgres-setup` does, with a password for each of these roles."""
        command = [str(_bin() / "psql"), "--no-psqlrc", "--quiet"]
        command += [f"--variable={name}_password=x" for name in roles]
        command += ["--file", str(ROOT / "deploy/postgres/setup.sql")]
        environment = {"PGHOST": self.socket, "PGUSER": "strandline", "PGDATABASE": "strandline"}
        # The second time, some versions have something to say of what is there already.
        environment["PGOPTIONS"] = "--client-min-messages=warning"
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
        said = f"{done.returncode}: {done.stderr}"
        assert said == "0: ", said

    def url(self, database: str = "strandline", user: str = "strandline") -> str:
        """A URL of a database."""
        address = self._run("url").strip().rsplit("/", 1)[0].rpartition("@")[2]
        return f"postgres://{user}@{address}/{database}"

    @property
    def socket(self) -> str:
        """The folder of its socket, as libpq wants it."""
        return unquote(self.url().rpartition("@")[2].rpartition("/")[0])

    def ask(self, user: str, statement: str, database: str = "strandline") -> object:
        """The first row of an answer; what is refused is an AssertionError."""
        connection = psycopg2.connect(host=self.socket, user=user, dbname=database)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchone() if cursor.description else None
        except psycopg2.Error as error:
            raise AssertionError(str(error)) from error
        finally:
            connection.close()


class Minio(Service):
    """An S3 server with a bucket."""

    def __init__(self, data: Path, **settings: str) -> None:
        super().__init__("minio.sh", data, MINIO_DATA=str(data), **settings)

    def start(self) -> None:
        """Start it. Its bucket is made as the service `bucket` makes it: it is a folder."""
        (self._data / "objects/strandline").mkdir(parents=True, exist_ok=True)
        super().start()

    @property
    def address(self) -> str:
        """Host and port, once it was started."""
        return f"127.0.0.1:{(self._data / 'port').read_text().strip()}"

    def settings(self) -> dict[str, str]:
        """What Strandline needs to know of it."""
        words = shlex.split(self._run("env"))
        return dict(word.split("=", 1) for word in words if "=" in word)


def _bin() -> Path:
    script = f'. "{ROOT}/scripts/lib.sh"; find_postgres'
    found = subprocess.run(["bash", "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    return Path(found.stdout.strip())
