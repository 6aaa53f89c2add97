"""The plain Python loop that most people write, to a CSV or a Parquet file.

    peers.py csv|pyarrow default|best BROKERS TOPIC START_MS END_MS FILE

`default` takes the client's settings as they come; `best` those that made it fastest here.
Prints how many events it wrote, and their bytes of value, as JSON.
"""

import csv
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

SCHEMA = pa.schema([
    ("partition", pa.int32()),
    ("offset", pa.int64()),
    ("timestamp", pa.timestamp("ms", "UTC")),
    ("key", pa.binary()),
    ("value", pa.binary()),
])
BATCH = 10_000
ROWS_AT_ONCE = 100_000


class CsvFile:
    def __init__(self, path: str) -> None:
        self.file = open(path, "w", newline="")
        self.writer = csv.writer(self.file)

    def add(self, message) -> None:
        self.writer.writerow((
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key().decode(),
            message.value().decode(),
        ))

    def close(self) -> None:
        self.file.close()


class ParquetFile:
    def __init__(self, path: str) -> None:
        self.writer = pq.ParquetWriter(
            path, SCHEMA, compression="zstd", compression_level=1, use_dictionary=False,
            write_statistics=False,
        )
        self.columns = [[] for _ in SCHEMA]

    def add(self, message) -> None:
        partitions, offsets, timestamps, keys, values = self.columns
        partitions.append(message.partition())
        offsets.append(message.offset())
        timestamps.append(message.timestamp()[1])
        keys.append(message.key())
        values.append(message.value())
        if len(offsets) >= ROWS_AT_ONCE:
            self.write()

    def write(self) -> None:
        arrays = [pa.array(c, f.type) for c, f in zip(self.columns, SCHEMA, strict=True)]
        self.writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        self.columns = [[] for _ in SCHEMA]

    def close(self) -> None:
        if self.columns[0]:
            self.write()
        self.writer.close()


def boundaries(consumer: Consumer, topic: str, time: int) -> dict[int, int]:
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    asked = [TopicPartition(topic, partition, time) for partition in partitions]
    found = {}
    for answer in consumer.offsets_for_times(asked, timeout=30):
        found[answer.partition] = answer.offset
        if answer.offset == OFFSET_END:
            found[answer.partition] = consumer.get_watermark_offsets(answer, timeout=30)[1]
    return found


def main() -> None:
    kind, settings, brokers, topic, start, end, path = sys.argv[1:]
    best = settings == "best"
    config = {"bootstrap.servers": brokers, "group.id": "bench", "enable.auto.commit": False}
    if best:
        config |= {"fetch.queue.backoff.ms": 10, "fetch.wait.max.ms": 10}
    consumer = Consumer(config)
    starts, ends = (boundaries(consumer, topic, int(time)) for time in (start, end))
    unread = {p: end for p, end in ends.items() if starts[p] < end}
    consumer.assign([TopicPartition(topic, p, starts[p]) for p in unread])
    file = CsvFile(path) if kind == "csv" else ParquetFile(path)
    events = value_bytes = 0
    while unread:
        if best:
            messages = consumer.consume(BATCH, 0.1)
        else:
            message = consumer.poll(1.0)
            messages = [] if message is None else [message]
        for message in messages:
            if message.error():
                sys.exit(str(message.error()))
            partition, offset = message.partition(), message.offset()
            last = unread.get(partition)
            if last is None or offset >= last:
                continue
            file.add(message)
            events += 1
            value_bytes += len(message.value())
            if offset == last - 1:
                del unread[partition]
    file.close()
    consumer.close()
    print(json.dumps({"events": events, "bytes": value_bytes}))


main()
