"""A real Airflow: scheduler, DAG processor, triggerer and API server, each a process."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import httpx

from harness.processes import Process, eventually
from harness.strandline import ROOT, Window, create_database, free_port

# Where `airflow` is, if not beside this Python.
BIN = Path(os.environ.get("STRANDLINE_TEST_AIRFLOW_BIN", Path(sys.executable).parent))
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
ENDED = ("success", "failed")


class Caller(Protocol):
    """What Airflow has to know of a Strandline."""

    url: str
    token: str


class Airflow:
    """One Airflow for all tests; they drive it by its REST API, as its pages do."""

    def __init__(
        self, state: Path, strandline: Caller, settings: Mapping[str, str] | None = None
    ) -> None:
        self.home = state / "airflow"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = self._settings(strandline, settings or {})
        self._client = httpx.Client(base_url=f"{self.url}/api/v2", timeout=60)
        self.parts = {
            name: Process(f"airflow-{name}", [str(BIN / "airflow"), name], self._environment, state)
            for name in ("api-server", "scheduler", "dag-processor", "triggerer")
        }

    def start(self) -> None:
        """Start all of it, and wait until it has read the DAGs."""
        self.command("db", "migrate")
        for part in self.parts.values():
            part.start()
        server = self.parts["api-server"]
        server.until(self._is_healthy, "Airflow is healthy")
        token = httpx.get(f"{self.url}/auth/token", timeout=60).json()["access_token"]
        self._client.headers["authorization"] = f"Bearer {token}"
        expected = {path.stem for folder in _dag_folders() for path in folder.glob("*.py")}
        processor = self.parts["dag-processor"]
        processor.until(
            lambda: {Path(dag["relative_fileloc"]).stem for dag in self.dags()} >= expected,
            f"the DAGs of {sorted(expected)} are read",
        )
        errors = self.get("/importErrors")["import_errors"]
        assert errors == [], errors

    def stop(self) -> None:
        """Stop what runs, the server last, as tasks report to it."""
        for name in ("scheduler", "triggerer", "dag-processor", "api-server"):
            if self.parts[name].runs():
                self.parts[name].stop()

    def command(self, *arguments: str) -> str:
        """Run `airflow ARGUMENTS`; what it prints."""
        run = subprocess.run(
            [str(BIN / "airflow"), *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.returncode == 0, run.stdout
        return run.stdout

    # --- runs ------------------------------------------------------------------------

    def dags(self) -> list[dict[str, Any]]:
        """All DAGs."""
        return self.get("/dags", limit=100, exclude_stale=False)["dags"]

    def unpause(self, dag_id: str) -> None:
        """Let its runs run, and the scheduler make those that are due."""
        self._send("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, **body: Any) -> str:
        """Start a run by hand; its id. Without a `logical_date` it has no data interval."""
        self.unpause(dag_id)
        body = {"logical_date": None, "conf": conf or {}} | body
        return self._send("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"]

    def trigger_for(self, dag_id: str, window: Window) -> str:
        """Start a run whose data interval is this window."""
        return self.trigger(
            dag_id,
            logical_date=window.start.isoformat(),
            data_interval_start=window.start.isoformat(),
            data_interval_end=window.end.isoformat(),
        )

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of a DAG."""
        return self.get(f"/dags/{dag_id}/dagRuns", limit=100)["dag_runs"]

    def until_ended(self, dag_id: str, run_id: str, state: str, seconds: float = 240) -> None:
        """Wait for the end of a run, which must be this."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}"
        eventually(
            lambda: self.get(path)["state"] in ENDED,
            f"{dag_id} {run_id} has ended",
            seconds,
            lambda: str(self.get(f"{path}/taskInstances")["task_instances"]),
        )
        assert self.get(path)["state"] == state, "\n".join(self._all_logs(dag_id, run_id))

    # --- tasks -----------------------------------------------------------------------

    def task(self, dag_id: str, run_id: str, task_id: str = "snapshot") -> dict[str, Any]:
        """A task of a run."""
        return self.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")

    def until_task(
        self, dag_id: str, run_id: str, state: str, task_id: str = "snapshot", seconds: float = 180
    ) -> dict[str, Any]:
        """Wait until a task is in a state."""
        eventually(
            lambda: self.task(dag_id, run_id, task_id)["state"] == state,
            f"{dag_id} {run_id} {task_id} is {state}",
            seconds,
            lambda: str(self.task(dag_id, run_id, task_id)),
        )
        return self.task(dag_id, run_id, task_id)

    def until_it_waits(self, dag_id: str, run_id: str, how: str) -> None:
        """Wait until a task is `running`, or `deferred` and known to the triggerer.

        A person who ends a task before the triggerer has it is not noticed by the trigger.
        """
        self.until_task(dag_id, run_id, how)
        if how == "deferred":
            eventually(
                lambda: any("Waiting for snap" in line for line in self.log(dag_id, run_id)),
                "the triggerer has the task",
            )

    def set_task(self, dag_id: str, run_id: str, state: str, task_id: str = "snapshot") -> None:
        """Mark a task as a person does."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self._send("PATCH", path, {"new_state": state})

    def clear(self, dag_id: str, run_id: str, task_id: str = "snapshot") -> None:
        """Clear a task, so that it runs once more."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self._send("POST", f"/dags/{dag_id}/clearTaskInstances", body)

    def xcom(self, dag_id: str, run_id: str, task_id: str = "snapshot") -> Any:
        """What a task returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.get(path, deserialize=True)["value"]

    def link(self, dag_id: str, run_id: str, name: str, task_id: str = "snapshot") -> str:
        """Where a button of a task leads."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        return self.get(path)["extra_links"][name]

    def log(
        self, dag_id: str, run_id: str, task_id: str = "snapshot", attempt: int = 1
    ) -> list[str]:
        """The lines of a task's log, each as a person sees it, with the errors behind it."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        return [_line(record) for record in self.get(path, full_content=True)["content"]]

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Ask Airflow's API."""
        answer = self._client.get(path, params=params)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def _send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._client.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def _all_logs(self, dag_id: str, run_id: str) -> list[str]:
        lines = []
        tasks = self.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        for task in tasks:
            lines.append(f"--- {task['task_id']} is {task['state']}, try {task['try_number']}")
            for attempt in range(1, task["try_number"] + 1):
                lines += self.log(dag_id, run_id, task["task_id"], attempt)
        return lines

    def _is_healthy(self) -> bool:
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=10)
        except httpx.TransportError:
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return health.is_success and all(
            health.json()[part]["status"] == "healthy" for part in parts
        )

    def _settings(self, strandline: Caller, more: Mapping[str, str]) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "STRANDLINE"))}
        bundle = "airflow.dag_processing.bundles.local.LocalDagBundle"
        bundles = [
            {"name": folder.name, "classpath": bundle, "kwargs": {"path": str(folder)}}
            for folder in _dag_folders()
        ]
        settings = {
            "core__executor": "LocalExecutor",
            "core__parallelism": "6",
            "core__load_examples": "False",
            "core__execution_api_server_url": f"{self.url}/execution/",
            "core__fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "core__test_connection": "Enabled",
            "core__simple_auth_manager_all_admins": "True",
            "api__host": "127.0.0.1",
            "api__port": str(self.port),
            "api__base_url": self.url,
            "api__workers": "1",
            "api__secret_key": secrets.token_hex(),
            "api_auth__jwt_secret": secrets.token_hex(),
            "dag_processor__dag_bundle_config_list": json.dumps(bundles),
            "dag_processor__min_file_process_interval": "3600",
            "triggerer__job_heartbeat_sec": "1",
            "triggerer__triggerer_health_check_threshold": "10",
            "scheduler__task_instance_heartbeat_timeout": "30",
            "scheduler__task_instance_heartbeat_timeout_detection_interval": "5",
            "logging__logging_level": "INFO",
            "usage_data_collection__enabled": "False",
        }
        if DATABASE not in more:
            more = {DATABASE: _sqlalchemy(create_database("metadata"))} | more
        return (
            kept
            | {f"AIRFLOW__{name.upper()}": value for name, value in settings.items()}
            | {"AIRFLOW_HOME": str(self.home), "NO_PROXY": "*", "PYTHONUNBUFFERED": "1"}
            | _connections(strandline)
            | more
        )


def _connections(strandline: Caller) -> dict[str, str]:
    """The connections of docs/airflow.md, and some that are wrong."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    provider = {"conn_type": "strandline", "host": strandline.url, "password": strandline.token}
    connections = {
        # Basic
        "strandline": {
            "conn_type": "http",
            "host": strandline.url,
            "login": "airflow",
            "password": strandline.token,
        },
        # Bearer
        "strandline_default": provider | {"extra": {"link_url": "https://strandline.example.com/"}},
        "strandline_wrong_token": provider | {"password": "a-wrong-token"},
        "strandline_nowhere": provider | {"host": nowhere, "extra": {"retry_seconds": 2}},
    }
    return {
        f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()
    }


def _dag_folders() -> list[Path]:
    return [ROOT / "airflow/dags/http", ROOT / "airflow/dags/provider", ROOT / "airflow/tests/dags"]


def _sqlalchemy(url: str) -> str:
    """A URL whose host is a folder with a socket, as SQLAlchemy wants it."""
    user, _, rest = url.removeprefix("postgres://").partition("@")
    folder, _, database = rest.partition("/")
    return f"postgresql+psycopg2://{user}@/{database}?host={folder.replace('%2F', '/')}"


def _line(record: dict[str, Any] | str) -> str:
    if isinstance(record, str):
        return record
    errors = record.get("error_detail") or []
    causes = "".join(f": {error.get('exc_type')}: {error.get('exc_value')}" for error in errors)
    return f"{record.get('level', '')} {record.get('event', '')}{causes}".rstrip()
