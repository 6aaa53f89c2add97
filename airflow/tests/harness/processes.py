"""Processes that the tests start, and that are gone when the tests are."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path


class Process:
    """A program in a session of its own, with a log and a note of its pid.

    The note is for scripts/test-airflow.sh, which ends what is left when the tests are killed.
    """

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], state: Path
    ) -> None:
        self.name = name
        self.log = state / "logs" / f"{name}.log"
        self._note = state / "pids" / name
        self._command = list(command)
        self._env = dict(env)
        self._child: subprocess.Popen[bytes] | None = None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._note.parent.mkdir(parents=True, exist_ok=True)

    def start(self) -> Process:
        """Start it; what it says is added to its log."""
        assert self._child is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._note.write_text(str(self._child.pid))
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 40) -> int:
        """End it and all that it started; its exit code."""
        assert self._child is not None, f"{self.name} does not run"
        pid = self._child.pid
        self._child.send_signal(how)
        try:
            code = self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        for left in session(pid):
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        self._child.wait()
        self._child = None
        self._note.unlink(missing_ok=True)
        return code

    def runs(self) -> bool:
        """Whether it has been started and has not ended by itself."""
        return self._child is not None and self._child.poll() is None

    def code(self) -> int | None:
        """How it ended by itself, a negative signal perhaps; nothing while it runs."""
        return self._child.poll() if self._child is not None else None

    def pid(self) -> int:
        """Its pid, which is its session's id."""
        assert self._child is not None
        return self._child.pid

    def tail(self, lines: int = 30) -> str:
        """The end of its log, to explain a failure."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- {self.log}\n" + "\n".join(text.splitlines()[-lines:])

    def until(self, ready: Callable[[], bool], what: str, seconds: float = 180) -> None:
        """Wait for a condition; fail with the log if the process ends before."""
        eventually(lambda: not self.runs() or ready(), f"{self.name}: {what}", seconds, self.tail)
        assert self.runs(), f"{self.name} has ended before {what}\n{self.tail()}"


def session(leader: int) -> list[int]:
    """All processes of the session that this process leads or led."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:  # it has just ended
                continue
            # After the name, which may hold anything: state, parent, group, session.
            if int(stat.rsplit(")", 1)[1].split()[3]) == leader:
                found.append(int(folder.name))
    return found


def command_line(pid: int) -> str:
    """What a process says that it runs; nothing if it has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def eventually(
    condition: Callable[[], object],
    what: str,
    seconds: float = 120,
    explain: Callable[[], str] = lambda: "",
) -> None:
    """Ask again and again until it is so."""
    over = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < over, f"not within {seconds:.0f} s: {what}\n{explain()}"
        time.sleep(0.3)
