"""docs/operating.md: its commands, and what it says of restoring, done for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.processes import eventually
from harness.strandline import TOPIC
from stack.load import Load
from stack.replicas import Strandline
from stack.services import ROOT, Postgres
from stack.whole import Stack

DOCUMENT = (ROOT / "docs/operating.md").read_text()
# Tests are short: what no commit names is swept within seconds.
QUICK = {"STRANDLINE_ORPHAN_GRACE_SECONDS": "1", "STRANDLINE_SEAL_INTERVAL_SECONDS": "1"}

MARKS = (".strandline-owner", ".strandline-generation")

Drill = Callable[..., Stack]


def blocks(kind: str, section: str = "") -> list[str]:
    """The code blocks of the document, or of one of its sections."""
    text = DOCUMENT
    if section:
        text = re.split(rf"^#+ {section}$", text, flags=re.MULTILINE)[1]
        text = re.split(r"^#+ ", text, flags=re.MULTILINE)[0]
    found = re.findall(rf"^( *)```{kind}\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


class Operator:
    """Somebody with a shell, who types what the document says."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        folder.mkdir()
        (folder / "deploy").symlink_to(ROOT / "deploy")
        (folder / "files").symlink_to(stack.state / "files")
        self.folder = folder
        programs = [os.environ["STRANDLINE_TEST_BIN"], os.environ["DEBIAN_PROMTOOL"]]
        path = [str(Path(program).parent) for program in programs]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("STRANDLINE")}
        self._environment = kept | {
            "PATH": ":".join([*path, os.environ["PATH"]]),
            "url": stack.strandline.url,
            "TOKEN": stack.strandline.token,
            "STRANDLINE_DATABASE_URL": stack.postgres.url(),
            "MAINTENANCE_URL": stack.postgres.url("postgres"),
            "RESTORED_URL": stack.postgres.url("restored"),
            "no_proxy": "*",
        }

    def types(self, *commands: str) -> str:
        """Run commands in one shell, after those that the others need; what they print."""
        script = "\n".join(["set -euo pipefail", blocks("sh")[0], *commands])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{commands}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def stack(drill: Drill) -> Stack:
    """One replica with local files."""
    running = drill(minio=False, replicas=1, **QUICK)
    Load(running.strandline, running.kafka.brokers).prepare()
    return running


@pytest.fixture
def operator(stack: Stack) -> Operator:
    return Operator(stack, stack.state / "operator")


def test_the_commands_of_the_document(stack: Stack, operator: Operator) -> None:
    failed = stack.strandline.snapshot("nobody-writes-here", *day(1)).json()
    taken = stack.strandline.snapshot(TOPIC, *day(2)).json()
    assert (failed["state"], taken["state"]) == ("failed", "succeeded")

    printed = operator.types(*blocks("sh", "What there is to keep running"))
    assert re.search(r"^\d+\.\d+\.\d+\n\d+$", printed, re.MULTILINE), printed
    rules, failures, under_way, unsealed, refresh = blocks("sh", "Watch")
    check, test = rules.splitlines()  # the second one is what test_rules.py does
    assert "SUCCESS" in operator.types(check)
    assert test.startswith("promtool test rules deploy/prometheus/tests/")
    (line,) = operator.types(failures).splitlines()
    assert line.split("\t")[1:4] == [failed["id"], "nobody-writes-here", "TOPIC_NOT_FOUND"]
    assert "(0 rows)" in operator.types(under_way)
    assert "nobody-writes-here | nothing yet" in operator.types(unsealed)
    state = operator.types(f"id={failed['id']}", refresh).strip()
    assert state in ("queued", "running", "failed")
    (who,) = blocks("sh", "When an alert fires")
    assert "-- claim_task" in operator.types(who)

    stack.strandline.make_token("airflow-1", "write")
    rotated = operator.types(
        blocks("sh", "Secrets")[0].replace("revoke airflow", "revoke airflow-1")
    )
    assert "airflow-2" in rotated
    listed = operator.types("strandline token list")
    assert re.search(r"^airflow-2 +valid", listed, re.MULTILINE)
    assert re.search(r"^airflow-1 +revoked", listed, re.MULTILINE)


def test_two_roles_take_turns(stack: Stack, operator: Operator) -> None:
    (roles,) = blocks("sql", "Secrets")
    roles = roles.replace("DATABASE strandline", "DATABASE turns")
    shell = 'psql "$STRANDLINE_DATABASE_URL" --set ON_ERROR_STOP=1'
    operator.types(f"{shell} -c 'CREATE DATABASE turns'", f"{shell} <<'SQL'\n{roles}SQL")
    blue, green = (stack.postgres.url("turns", user) for user in ("blue", "green"))
    as_blue = f"export STRANDLINE_DATABASE_URL='{blue}'"
    operator.types(as_blue, "strandline token create --name airflow --scope read")
    operator.types(
        f"{shell} <<'SQL'\n{roles[roles.index('CREATE ROLE blue') :]}SQL".replace("blue", "green")
    )
    operator.types(f"{shell} -c 'DROP ROLE blue'")
    as_green = f"export STRANDLINE_DATABASE_URL='{green}'"
    assert "airflow" in operator.types(as_green, "strandline migrate", "strandline token list")


def test_restoring_a_dump(stack: Stack, operator: Operator) -> None:
    before = [stack.strandline.snapshot(TOPIC, *day(number)).json() for number in (1, 2, 3)]
    eventually((stack.state / "files/.strandline-owner").exists, "the store is claimed")
    operator.types(*blocks("sh", "Back up and restore"))
    assert len(parquet(operator.folder / "files-backup")) == 3
    after = [stack.strandline.snapshot(TOPIC, *day(number)).json() for number in (4, 5)]
    stack.strandline.stop()

    operator.types(*blocks("sh", "Restore a dump"))
    restored = again(stack, "restored")
    assert [state_of(restored, taken["id"]) for taken in before] == ["succeeded"] * 3
    assert [state_of(restored, taken["id"]) for taken in after] == [None] * 2
    assert_swept_only_when_told(
        stack,
        restored,
        "the object store is marked as another database's",
        lambda: [(stack.state / "files" / name).unlink() for name in MARKS],
    )
    restored.stop()


def test_restoring_an_older_disk(stack: Stack, operator: Operator) -> None:
    for number in (1, 2, 3):
        stack.strandline.snapshot(TOPIC, *day(number))
    generation = stack.state / "files/.strandline-generation"
    told = told_after(generation, 0)
    cluster = Path(stack.postgres.socket) / "data"
    older = cluster.with_name("older")
    with stopped(stack.postgres):
        copy(cluster, older)
    for number in (4, 5):
        stack.strandline.snapshot(TOPIC, *day(number))
    told_after(generation, told)
    stack.strandline.stop()
    with stopped(stack.postgres):
        shutil.rmtree(cluster)
        older.rename(cluster)

    restored = again(stack, "strandline")
    assert_swept_only_when_told(
        stack,
        restored,
        "the object store has files of a later state of this database",
        lambda: operator.types(*blocks("sh", "Restore to a point in time")),
    )
    restored.stop()


def told_after(generation: Path, told: int) -> int:
    """What the store was told of last, once that is later."""

    def now() -> int:
        return int(generation.read_text()) if generation.exists() else 0

    eventually(lambda: now() > told, "the store is told of what was committed")
    return now()


def assert_swept_only_when_told(
    stack: Stack, restored: Strandline, said: str, tell: Callable[[], object]
) -> None:
    """Two windows were taken since the copy; five files are there."""
    files = stack.state / "files"
    log = restored.replicas[0].process.log
    eventually(lambda: log.read_text().count(said) >= 3, "three rounds of the sweeper")
    assert len(parquet(files)) == 5
    for number in (4, 5):
        taken = restored.snapshot(TOPIC, *day(number)).json()
        assert taken["state"] == "succeeded"
    assert len(parquet(files)) == 7
    tell()
    eventually(lambda: len(parquet(files)) == 5, "two are swept")
    with restored.client() as client:
        for number in range(1, 6):
            start, end = day(number)
            window = {"topic": TOPIC, "window_start": start, "window_end": end}
            taken = client.post("/v1/snapshots", json=window).json()
            events = client.get(f"/v1/snapshots/{taken['id']}/events").raise_for_status()
            assert len(events.text.splitlines()) == taken["result"]["records"]


def again(stack: Stack, database: str) -> Strandline:
    """A replica on this database, with the same store and the same tokens."""
    settings = QUICK | {
        "STRANDLINE_DATABASE_URL": stack.postgres.url(database),
        "STRANDLINE_STORAGE_URL": f"file://{stack.state}/files",
    }
    state = stack.state / "again"
    found = Strandline(state, stack.kafka, stack.postgres, replicas=1, **settings)
    found.token = stack.strandline.token
    found.replicas[0].start()
    return found


def state_of(strandline: Strandline, snapshot_id: str) -> str | None:
    with strandline.client() as client:
        answer = client.get(f"/v1/snapshots/{snapshot_id}")
        return None if answer.status_code == 404 else str(answer.json()["state"])


@contextmanager
def stopped(postgres: Postgres) -> Iterator[None]:
    postgres.stop()
    yield
    postgres.start()


def copy(source: Path, target: Path) -> None:
    """With owners: PostgreSQL wants its own."""
    subprocess.run(["cp", "--archive", str(source), str(target)], check=True)


def parquet(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def day(number: int) -> tuple[str, str]:
    """A day of January 2013, when the flights were."""
    start = datetime(2013, 1, number, tzinfo=UTC)
    return start.isoformat(), (start + timedelta(days=1)).isoformat()
