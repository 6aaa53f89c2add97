"""Something to see: events; snapshots that end well, that fail, and that lose events."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import httpx
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness.strandline import EVENTS
from stack.replicas import Strandline

HOUR = 3_600_000
# Topics that somebody writes to, and for how long each keeps its events.
TOPICS = {"orders": 7 * 24 * HOUR, "clicks": 24 * HOUR, "sensors": 2 * HOUR}


class Load:
    """Callers of Strandline and writers to Kafka, each a thread, for as long as a test wants."""

    def __init__(self, strandline: Strandline, brokers: str) -> None:
        self._strandline = strandline
        self._brokers = brokers
        self._admin = AdminClient({"bootstrap.servers": brokers})
        self._random = random.Random(8)
        self._over = threading.Event()

    def prepare(self) -> None:
        """Make the topics; `flights` is what the example DAGs read."""
        load = [os.environ["STRANDLINE_TEST_LOAD_EVENTS"], "--topic", "flights"]
        load += ["--brokers", self._brokers, "--file", str(EVENTS)]
        subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
        for name, retention in TOPICS.items():
            self.make_topic(name, retention)
        # As if they had been written to for two hours.
        now = _now()
        for name in TOPICS:
            assert self.write(name, [now - 2 * HOUR + i * 1000 for i in range(7_000)]) == 0

    def make_topic(self, name: str, retention: int = -1, partitions: int = 4) -> None:
        """A topic that keeps its events for so many milliseconds."""
        config = {"retention.ms": str(retention), "message.timestamp.type": "CreateTime"}
        topic = NewTopic(name, partitions, 1, config=config)
        for made in self._admin.create_topics([topic]).values():
            made.result(30)

    def write(self, topic: str, times: list[int]) -> int:
        """Events with these timestamps; how many did not get there."""
        producer = Producer({"bootstrap.servers": self._brokers, "linger.ms": 20})
        for number, timestamp in enumerate(times):
            value = json.dumps({"number": number, "padding": "x" * self._random.randint(10, 400)})
            producer.produce(topic, value, key=str(number), timestamp=timestamp)
            producer.poll(0)
        return producer.flush(30)

    def delete_before(self, topic: str, offset: int, partitions: int = 4) -> None:
        """What retention does: events below an offset are gone."""
        gone = [TopicPartition(topic, number, offset) for number in range(partitions)]
        for deleted in self._admin.delete_records(gone).values():
            deleted.result(30)

    def lose(self, name: str) -> None:
        """Retention takes what a snapshot has not read yet: one reports it, another one fails."""
        now = _now()
        self.make_topic(name, HOUR)
        self.write(name, [now - 60_000 + i * 10 for i in range(400)])
        start, end = _iso(now - HOUR), _iso(now + HOUR)
        first = self._strandline.snapshot(name, start, end).json()
        self.write(name, [now - 20_000 + i * 10 for i in range(800)])
        self.delete_before(name, 200)
        with self._strandline.client() as client:
            client.post(f"/v1/snapshots/{first['id']}/refresh", params={"wait": 30})
        # The same as a failure, for another window.
        self._strandline.snapshot(name, _iso(now - 2 * HOUR), end, on_loss="fail")

    @contextmanager
    def running(self, callers: int = 2) -> Iterator[None]:
        """Load until the block ends."""
        works: list[Callable[[], None]] = [self._write_now, self._ask_wrongly, self._watch]
        works += [self._ask] * callers
        threads = [threading.Thread(target=self._repeat, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._over.is_set():
            # A replica or a service may be away: that is load, too.
            with suppress(httpx.HTTPError):
                work()
            self._over.wait(0.5)

    def _write_now(self) -> None:
        now = _now()
        for topic in TOPICS:
            self.write(topic, [now - self._random.randint(0, 500) for _ in range(50)])

    def _ask(self) -> None:
        """A window of some minutes of the last two hours, or one that is still open."""
        topic = self._random.choice(list(TOPICS))
        end = _now() - self._random.randint(-10, 7_000) * 1000
        start = end - self._random.randint(10, 900) * 1000
        self._strandline.snapshot(topic, _iso(start), _iso(end))

    def _watch(self) -> None:
        """What pages do: lists, a long wait, a topic's offsets."""
        with self._strandline.client(replica=len(self._strandline.replicas) - 1) as client:
            page = client.get("/v1/snapshots", params={"limit": 20}).raise_for_status()
            for snapshot in page.json()["items"][:2]:
                client.get(f"/v1/snapshots/{snapshot['id']}", params={"wait": 1})
                client.get(f"/v1/snapshots/{snapshot['id']}/events", params={"limit": 5})
            client.get("/v1/topics")
            client.get("/v1/topics/orders/coverage")

    def _ask_wrongly(self) -> None:
        """No such topic; no token; a wrong one; a window that ends before it begins."""
        now = _now()
        self._strandline.snapshot("nobody-writes-here", _iso(now - HOUR), _iso(now))
        self._strandline.snapshot("orders", _iso(now), _iso(now - HOUR))
        httpx.get(f"{self._strandline.url}/v1/snapshots", timeout=30)
        wrong = {"authorization": "Bearer wrong"}
        httpx.get(f"{self._strandline.url}/v1/snapshots", headers=wrong, timeout=30)
        self._over.wait(3)


def _now() -> int:
    return int(time.time() * 1000)


def _iso(milliseconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return moment.isoformat()
