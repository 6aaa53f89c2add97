"""What is in the files below a folder, whatever the order: how many events, the sum of the
checksums of partition, offset, time, key and value, and of that of the values alone.

    digest.py FOLDER
"""

import csv
import json
import sys
import zlib
from pathlib import Path

import pyarrow.parquet as pq


def digest(folder: Path) -> tuple[int, int | None, int]:
    events = whole = values = 0
    for path in sorted(folder.rglob("*.parquet")):
        columns = ["partition", "offset", "timestamp", "key", "value"]
        for batch in pq.ParquetFile(path).iter_batches(65536, columns=columns):
            times = batch.column("timestamp").cast("int64").to_pylist()
            lists = [times if c == "timestamp" else batch.column(c).to_pylist() for c in columns]
            for partition, offset, time, key, value in zip(*lists, strict=True):
                events += 1
                whole += zlib.crc32(b"%d %d %d %b %b" % (partition, offset, time, key, value))
                values += zlib.crc32(value)
    for path in folder.rglob("*.csv"):
        with open(path, newline="") as file:
            for partition, offset, time, key, value in csv.reader(file):
                events += 1
                key, value = key.encode(), value.encode()
                whole += zlib.crc32(b"%d %d %d %b %b" % (int(partition), int(offset), int(time), key, value))
                values += zlib.crc32(value)
    if (folder / "values").exists():
        with open(folder / "values", "rb") as file:
            for line in file:
                events += 1
                values += zlib.crc32(line.rstrip(b"\n"))
    return events, whole or None, values


print(json.dumps(digest(Path(sys.argv[1]))))
