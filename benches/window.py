"""`make bench`: what one window costs, beside what others take for it. See scripts/bench.sh.

Every way reads the same two days of the same topic; the ways take turns, so that what disturbs the
machine disturbs all of them. Prints tables and writes target/bench/window.json.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from measure import Sample, machine, run, summary
from service import Databases, Service
from topics import (
    FIRST_DAY_MS, WINDOW_END, WINDOW_END_MS, WINDOW_START, WINDOW_START_MS, Topic, fill,
)

SMALL = Topic("bench-200b", 6, 3_000_000, 200)
LARGE = Topic("bench-1kib", 6, 1_000_000, 1024)
MANY = Topic("bench-many", 200, 400_000, 200)
LONG = Topic("bench-long", 6, 20_000_000, 200)
HUGE = Topic("bench-1mib", 6, 1200, (1 << 20) - 1024, compression="none")
SUFFIXES = {"csv": "csv", "pyarrow": "parquet"}
CASES = ["200b", "1kib", "many", "long", "huge", "tiny", "workers", "s3"]
TINY_WINDOWS = 25
TINY_SECONDS = 10

# What issues and documents promise, as ratios of medians of one run: name, the two sides, most.
FIGURES = [
    ("service CPU / CPU of the floor by hand", "cpu_seconds", "service", "floor", 1.15),
    ("service wall / wall of kcat's values", "wall_seconds", "service", "kcat", 1.0),
    ("service wall / wall of Python's CSV loop, defaults", "wall_seconds", "service", "csv-default", 0.1),
    ("service CPU / CPU of Python + pyarrow at its best", "cpu_seconds", "service", "pyarrow-best", 0.4),
]


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder = Path(options.folder)
        self.databases = Databases(options.strandline, options.database, options.psql)
        self.report: dict = {"machine": machine(), "cases": {}}

    # --- the ways ---------------------------------------------------------------------

    def service(self, topic: Topic, workers: int = 2, bucket: str = "") -> Sample:
        options, folder = self.options, self.folder / "service"
        database = self.databases.new()
        # Files of one database are not another's.
        store = f"{bucket}/{uuid.uuid4()}" if bucket else ""
        with Service(options.strandline, options.brokers, database, folder, workers, store) as service:
            return service.sample(topic.name, WINDOW_START, WINDOW_END)

    def foreground(self, topic: Topic) -> Sample:
        folder = self.fresh("snapshot")
        sample = run([
            self.options.strandline, "snapshot", "--json", "--topic", topic.name,
            "--start", WINDOW_START, "--end", WINDOW_END, "--data-dir", str(folder),
            "--kafka-brokers", self.options.brokers, "--database-url", self.databases.new(),
        ])
        size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        events = json.loads(sample.answer)["result"]["records"]
        return replace(sample, file_bytes=size, answer=json.dumps({"events": events}))

    def kcat(self, topic: Topic) -> Sample:
        file = self.fresh("kcat") / "values"
        sample = run([
            "kcat", "-b", self.options.brokers, "-C", "-t", topic.name, "-e", "-q",
            "-o", f"s@{WINDOW_START_MS}", "-o", f"e@{WINDOW_END_MS}",
        ], output=file)
        return replace(sample, file_bytes=file.stat().st_size)

    def peer(self, kind: str, settings: str) -> Callable[[Topic], Sample]:
        def sample(topic: Topic) -> Sample:
            file = self.fresh(f"{kind}-{settings}") / "events"
            script, suffix = str(Path(__file__).with_name("peers.py")), SUFFIXES[kind]
            sample = run([sys.executable, script, kind, settings, *self.window(topic), f"{file}.{suffix}"])
            return replace(sample, file_bytes=Path(f"{file}.{suffix}").stat().st_size)

        return sample

    def reader(self, topic: Topic) -> Sample:
        return run([self.options.reader, *self.window(topic)])

    def floor(self, topic: Topic) -> Sample:
        file = self.fresh("floor") / "events.parquet"
        sample = run([self.options.floor, *self.window(topic), str(file)])
        return replace(sample, file_bytes=file.stat().st_size)

    def window(self, topic: Topic) -> list[str]:
        return [self.options.brokers, topic.name, str(WINDOW_START_MS), str(WINDOW_END_MS)]

    def filled(self, topic: Topic) -> None:
        """Sees to the topic in a process of its own, for the same reason as `digest`."""
        filler = multiprocessing.get_context("spawn").Process(
            target=fill, args=(self.options.brokers, topic)
        )
        filler.start()
        filler.join()
        if filler.exitcode != 0:
            sys.exit(f"topic {topic.name} could not be filled")

    def fresh(self, name: str) -> Path:
        folder = self.folder / name
        for path in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
            path.rmdir() if path.is_dir() else path.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # --- the cases --------------------------------------------------------------------

    def compare(self, topic: Topic, ways: dict[str, Callable[[Topic], Sample]]) -> None:
        """All ways in turns, and whether they read the same."""
        self.filled(topic)
        samples: dict[str, list[Sample]] = {name: [] for name in ways}
        digests: dict[str, object] = {}
        for number in range(self.options.rounds):
            for name, way in ways.items():
                sample = way(topic)
                check_count(name, sample, topic)
                samples[name].append(sample)
                progress(f"{topic.name} {number + 1}/{self.options.rounds} {name}: {shown(sample)}")
                if number == 0:
                    digests |= digest(name, self.folder)
        check_digests(digests)
        case = {name: summary(found) for name, found in samples.items()}
        self.report["cases"][topic.name] = case | {"same_events_in": sorted(digests)}
        print_table(topic, case)

    def tiny(self) -> None:
        """Windows with some eighty events, one after the other, and one without any."""
        self.filled(SMALL)
        options, walls, events = self.options, [], []
        first = datetime.fromtimestamp(FIRST_DAY_MS / 1000, UTC)
        folder = self.folder / "service"
        with Service(options.strandline, options.brokers, self.databases.new(), folder) as service:
            for number in range(TINY_WINDOWS + 1):
                start = first + timedelta(hours=3 * number)
                end = start + timedelta(seconds=TINY_SECONDS)
                wall, snapshot = service.snapshot(SMALL.name, start.isoformat(), end.isoformat())
                walls.append(wall)
                events.append(snapshot["result"]["records"])
            empty, before = [], first - timedelta(days=30)
            for number in range(TINY_WINDOWS):
                start = before + timedelta(hours=number)
                end = start + timedelta(seconds=TINY_SECONDS)
                empty.append(service.snapshot(SMALL.name, start.isoformat(), end.isoformat())[0])
        # The first one of a process connects to everything.
        case = {"first_ms": walls[0] * 1000, "events": statistics.median(events)}
        case |= {"tiny_median_ms": statistics.median(walls[1:]) * 1000, "tiny_max_ms": max(walls[1:]) * 1000}
        case |= {"empty_median_ms": statistics.median(empty) * 1000}
        self.report["cases"]["tiny"] = {name: round(value, 1) for name, value in case.items()}
        print(f"\ntiny windows of {case['events']:.0f} events: {self.report['cases']['tiny']}")

    def alone(self, name: str, topic: Topic, workers: int = 2, bucket: str = "") -> None:
        """Strandline's service alone, three times."""
        self.filled(topic)
        samples = []
        for _ in range(3):
            sample = self.service(topic, workers, bucket)
            check_count(name, sample, topic)
            samples.append(sample)
            progress(f"{name}: {shown(sample)}")
        self.report["cases"][name] = {"service": summary(samples)}
        print_table(replace(topic, name=name), self.report["cases"][name])

    # --- the end ----------------------------------------------------------------------

    def judge(self) -> None:
        """Ratios and limits, reached or missed."""
        cases, rows = self.report["cases"], []
        case = cases.get(SMALL.name, {})
        for name, what, side, other, most in FIGURES:
            if side in case and other in case:
                ratio = case[side][what]["median"] / case[other][what]["median"]
                rows.append((name, round(ratio, 3), most))
        if "service" in case and "snapshot" in case:
            overhead = case["service"]["wall_seconds"]["median"] - case["snapshot"]["wall_seconds"]["median"]
            rows.append(("service wall - foreground wall, ms", round(overhead * 1000, 1), 50))
        if "tiny" in cases:
            rows.append(("tiny window, median ms", cases["tiny"]["tiny_median_ms"], 60))
            rows.append(("empty window, median ms", cases["tiny"]["empty_median_ms"], 60))
        peaks = {n: c["service"]["rss_mib"]["max"] for n, c in cases.items() if "service" in c}
        peaks = {name: peak for name, peak in peaks.items() if name != "4 workers"}
        if peaks:
            worst = max(peaks, key=peaks.get)
            rows.append((f"peak RSS, MiB (the most: {worst})", peaks[worst], 200))
        self.report["figures"] = [
            {"figure": name, "value": value, "at_most": most, "reached": value <= most}
            for name, value, most in rows
        ]
        print(f"\n{'figure':<60} {'value':>9} {'at most':>9}")
        for name, value, most in rows:
            print(f"{name:<60} {value:>9} {most:>9}  {'reached' if value <= most else 'MISSED'}")


def check_count(name: str, sample: Sample, topic: Topic) -> None:
    """What the program says that it read."""
    if not sample.answer:
        return
    said = json.loads(sample.answer)
    if said["events"] != topic.events_in_window:
        sys.exit(f"{name} read {said['events']} events of {topic.name} instead of {topic.events_in_window}")
    if said.get("bytes", topic.events_in_window * topic.value_bytes) != topic.events_in_window * topic.value_bytes:
        sys.exit(f"{name} read {said['bytes']} bytes of {topic.name}")


def digest(name: str, folder: Path) -> dict[str, tuple]:
    """What a way wrote; in a process of its own, for the kernel counts the memory of whoever starts
    a program as the program's."""
    script = str(Path(__file__).with_name("digest.py"))
    found = json.loads(run([sys.executable, script, str(folder / name)]).answer)
    return {name: tuple(found)} if found[0] else {}


def check_digests(digests: dict[str, tuple]) -> None:
    """All must have read the same; kcat's file has values alone."""
    first = digests["floor"]
    for name, found in digests.items():
        if found[1] is None:
            found = (found[0], first[1], found[2])
        if found != first:
            sys.exit(f"{name} wrote other events than floor: {found} {first}")


def shown(sample: Sample) -> str:
    return f"{sample.wall:.2f} s wall, {sample.cpu:.2f} s CPU, {sample.rss:.0f} MiB"


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def print_table(topic: Topic, case: dict) -> None:
    events, mib = topic.events_in_window, topic.events_in_window * topic.value_bytes / 2**20
    print(f"\n{topic.name}: {events:,} events, {mib:,.0f} MiB of values; medians (best)")
    print(f"{'':<18} {'wall s':>15} {'CPU s':>15} {'RSS MiB':>9} {'file MiB':>9}")
    for name, found in case.items():
        if not isinstance(found, dict):
            continue
        wall, cpu, rss = found["wall_seconds"], found["cpu_seconds"], found["rss_mib"]
        size = found["file_bytes"] / 2**20
        print(
            f"{name:<18} {wall['median']:>7.2f} ({wall['min']:>5.2f}) {cpu['median']:>7.2f} "
            f"({cpu['min']:>5.2f}) {rss['max']:>9.0f} {f'{size:.1f}' if size else '-':>9}",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("strandline", "reader", "floor", "brokers", "database", "psql", "folder", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--bucket", help="URL of an S3 bucket, for the case s3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("cases", nargs="*", help=f"{' '.join(CASES)}; all without")
    options = parser.parse_args()
    wanted = set(options.cases or CASES)
    if unknown := wanted.difference(CASES):
        parser.error(f"no such case: {' '.join(sorted(unknown))}; there are {' '.join(CASES)}")
    if "s3" in wanted and not options.bucket:
        parser.error("the case s3 needs --bucket")
    bench = Bench(options)
    ways = {
        "service": bench.service, "snapshot": bench.foreground, "kcat": bench.kcat,
        "reader": bench.reader, "floor": bench.floor,
        "pyarrow-best": bench.peer("pyarrow", "best"),
        "pyarrow-default": bench.peer("pyarrow", "default"),
        "csv-best": bench.peer("csv", "best"), "csv-default": bench.peer("csv", "default"),
    }
    if "200b" in wanted:
        bench.compare(SMALL, ways)
    if "1kib" in wanted:
        bench.compare(LARGE, ways)
    if "many" in wanted:
        bench.alone("200 partitions", MANY)
    if "tiny" in wanted:
        bench.tiny()
    if "huge" in wanted:
        bench.alone("events of 1 MiB", HUGE)
    if "long" in wanted:
        bench.alone("10 M events", LONG)
    if "workers" in wanted:
        for workers in (1, 2, 4):
            bench.alone(f"{workers} workers", SMALL, workers)
    if "s3" in wanted:
        bench.alone("events of 1 MiB to S3", HUGE, bucket=options.bucket)
        bench.alone("10 M events to S3", LONG, bucket=options.bucket)
    bench.judge()
    Path(options.output).write_text(json.dumps(bench.report, indent=1) + "\n")
    print(f"\nwritten to {options.output}")


if __name__ == "__main__":
    main()
