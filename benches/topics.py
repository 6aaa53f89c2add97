"""The topics that the benchmarks read, and what of them belongs to the window.

Events are spread evenly over four days; the two in the middle are read. A topic that is
there already, with as many events as it should have, is used as it is.
"""

import random
import sys
from dataclasses import dataclass

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

DAY_MS = 24 * 60 * 60 * 1000
# 2026-01-01T00:00:00Z: the window is the second and third of January.
FIRST_DAY_MS = 1_767_225_600_000
WINDOW_START_MS = FIRST_DAY_MS + DAY_MS
WINDOW_END_MS = FIRST_DAY_MS + 3 * DAY_MS
WINDOW_START = "2026-01-02T00:00:00Z"
WINDOW_END = "2026-01-04T00:00:00Z"


@dataclass(frozen=True)
class Topic:
    """A topic of the benchmarks. Sizes are in bytes, of keys and values without Kafka's frame."""

    name: str
    partitions: int
    events: int
    value_bytes: int
    compression: str = "lz4"
    key_bytes: int = 8

    @property
    def events_in_window(self) -> int:
        """Half of them: the window is two days of four, and events are spread evenly."""
        return self.events // 2


def fill(brokers: str, topic: Topic) -> None:
    """Makes and fills the topic, unless it is there."""
    admin = AdminClient({"bootstrap.servers": brokers})
    found = count(brokers, topic)
    if found == topic.events:
        return
    if found is not None:
        sys.exit(f"topic {topic.name} has {found} events instead of {topic.events}: remove it first")
    new = NewTopic(topic.name, topic.partitions, 1, config={"retention.ms": "-1"})
    admin.create_topics([new])[topic.name].result(30)
    produce(brokers, topic)
    found = count(brokers, topic)
    if found != topic.events:
        sys.exit(f"topic {topic.name} has {found} events instead of {topic.events}")


def count(brokers: str, topic: Topic) -> int | None:
    """Events in the topic by its watermarks; None if there is no such topic."""
    admin = AdminClient({"bootstrap.servers": brokers})
    if topic.name not in admin.list_topics(timeout=30).topics:
        return None
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "bench"})
    watermarks = [
        consumer.get_watermark_offsets(TopicPartition(topic.name, partition), timeout=30)
        for partition in range(topic.partitions)
    ]
    consumer.close()
    return sum(high - low for low, high in watermarks)


def produce(brokers: str, topic: Topic) -> None:
    """Sends all events, the same ones each time."""
    # As long a queue as a producer can keep busy with; batches of 64 KiB as most clients make.
    producer = Producer({
        "bootstrap.servers": brokers,
        # Without it, what is sent again in the first moments of a topic comes out of order.
        "enable.idempotence": True,
        "compression.type": topic.compression,
        "batch.size": 65536,
        "linger.ms": 100,
        "queue.buffering.max.messages": 200_000,
        "message.max.bytes": 2_000_000,
        "message.timeout.ms": 600_000,
    })
    failed: list[str] = []

    def delivered(error, _message) -> None:
        if error is not None:
            failed.append(str(error))

    values = Values(topic.value_bytes)
    span = 4 * DAY_MS
    for number in range(topic.events):
        timestamp = FIRST_DAY_MS + number * span // topic.events
        while True:
            try:
                producer.produce(
                    topic.name,
                    values.of(number),
                    key=b"%0*x" % (topic.key_bytes, number * 2_654_435_761 % 2**32),
                    partition=number % topic.partitions,
                    timestamp=timestamp,
                    on_delivery=delivered,
                )
                break
            except BufferError:
                producer.poll(0.05)
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush(600)
    if failed:
        sys.exit(f"{len(failed)} events were not delivered: {failed[0]}")


class Values:
    """JSON of one length, that compresses like the events of a web shop: names of fields and
    words come again and again, numbers and the order of words do not."""

    def __init__(self, length: int) -> None:
        self.length = length
        rng = random.Random(2026)
        letters = "etaoinshrdlucmfwypvbgkqjxz"
        weights = range(len(letters) * 2, len(letters), -1)
        words = ["".join(rng.choices(letters, weights, k=rng.randint(2, 11))) for _ in range(3000)]
        self.phrases = [" ".join(rng.choices(words, k=4)) + " " for _ in range(8191)]
        self.pages = [f"/{rng.choice(words)}/{rng.choice(words)}" for _ in range(499)]
        self.agents = ["Firefox/145.0", "Chrome/142.0", "Safari/26.1", "okhttp/5.3"]

    def of(self, number: int) -> bytes:
        """The value of an event."""
        mixed = number * 0x9E3779B97F4A7C15 % 2**64
        head = (
            f'{{"id":{number},"user":"{mixed >> 24:010x}","page":"{self.pages[mixed % 499]}",'
            f'"agent":"{self.agents[mixed % 4]}","ms":{mixed % 9973},"text":"'
        )
        missing = self.length - len(head) - 2
        text = ""
        while len(text) < missing:
            mixed = mixed * 6364136223846793005 % 2**64 + 1442695040888963407
            text += self.phrases[(mixed >> 33) % 8191]
        return (head + text[:missing] + '"}').encode()
