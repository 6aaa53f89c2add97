"""docker-compose.yml as `docker compose` reads it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from stack.services import ROOT

FILE = ROOT / "docker-compose.yml"

Json = dict[str, Any]


@cache
def compose(*profiles: str) -> Json:
    """The file as `docker compose config` has it: anchors and variables filled in."""
    command = [os.environ["COMPOSE_CHECK"], str(FILE), *profiles]
    environment = {"PATH": os.environ["PATH"]}
    read = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert read.returncode == 0, read.stderr
    return json.loads(read.stdout)


def services() -> dict[str, Json]:
    """All of them."""
    return compose("airflow")["services"]


def variables(service: str) -> dict[str, str]:
    """Its environment."""
    return services()[service].get("environment", {})


def words(service: str) -> str:
    """Its command."""
    return " ".join(services()[service]["command"])


def option(service: str, name: str) -> str:
    """What an option of its command is set to."""
    [found] = re.findall(rf"{re.escape(name)}=(\S+)", words(service))
    return found


def volumes(service: str, kind: str) -> dict[str, str]:
    """What is mounted where: folders of this machine (`bind`) or volumes with a name."""
    mounts = services()[service].get("volumes", [])
    return {one["target"]: one["source"] for one in mounts if one["type"] == kind}


def file_of(service: str, path: str) -> Path:
    """The file of this repository that a service finds under a path."""
    for target, source in volumes(service, "bind").items():
        if PurePosixPath(path).is_relative_to(target):
            return Path(source) / PurePosixPath(path).relative_to(target)
    raise AssertionError(f"{service}: nothing is mounted at {path}")
