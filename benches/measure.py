"""Running programs and reading from the kernel what they took."""

import os
import re
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Sample:
    """What one run took: seconds of wall clock and of user + system time, the peak of the
    resident set in MiB, and the size of what was written in bytes."""

    wall: float
    cpu: float
    rss: float
    file_bytes: int = 0
    answer: str = field(default="", repr=False)


def run(command: list[str], output: Path | None = None, **options) -> Sample:
    """Runs a program to its end; it must succeed. What it prints goes to the file `output`, or
    else is the sample's answer."""
    with tempfile.TemporaryFile("w+") as said, (
        open(output, "w+b") if output else tempfile.TemporaryFile("w+b")
    ) as printed:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=printed, stderr=said, **options)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read()[-2000:]}")
        printed.seek(0)
        answer = "" if output else printed.read().decode()
    # Linux counts ru_maxrss in KiB.
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, 0, answer)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def peak_rss(pid: int) -> float:
    """The peak of a process's resident set, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def files_size(folder: Path) -> int:
    """Bytes of all Parquet files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def summary(samples: list[Sample]) -> dict:
    """Medians, and the best and worst, of some runs of one way."""

    def spread(values: list[float]) -> dict:
        return {
            "median": round(statistics.median(values), 3),
            "min": round(min(values), 3),
            "max": round(max(values), 3),
        }

    return {
        "runs": len(samples),
        "wall_seconds": spread([sample.wall for sample in samples]),
        "cpu_seconds": spread([sample.cpu for sample in samples]),
        "rss_mib": spread([sample.rss for sample in samples]),
        "file_bytes": samples[-1].file_bytes,
    }


def machine() -> dict:
    """What these numbers were measured on."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "cpu": model.group(1) if model else "unknown",
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory.group(1)) / 2**20, 1) if memory else None,
        "kernel": os.uname().release,
        "commit": commit.stdout.strip(),
        "load_before": os.getloadavg()[0],
    }
