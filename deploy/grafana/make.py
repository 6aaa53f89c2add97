#!/usr/bin/env python3
"""Writes deploy/grafana/dashboards anew from deploy/grafana/source (`make dashboards`).

make.py [FOLDER]   into another folder
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "source"))

from airflow import AIRFLOW
from minio import MINIO
from node import NODE
from postgres import POSTGRES
from strandline import STRANDLINE

DASHBOARDS = {
    "strandline": STRANDLINE,
    "airflow": AIRFLOW,
    "postgres": POSTGRES,
    "node": NODE,
    "minio": MINIO,
}


def texts() -> dict[str, str]:
    """What each file should hold, by its name."""
    return {
        f"{name}.json": json.dumps(dashboard.json(), indent=2) + "\n"
        for name, dashboard in DASHBOARDS.items()
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "dashboards"
    for name, text in texts().items():
        (folder / name).write_text(text)
