"""docker-compose.yml: what its services say of each other, and to the programs in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from stack.compose import file_of, option, services, variables, volumes, words
from stack.services import ROOT

# They run once and end.
ONCE = {"bucket", "postgres-setup", "airflow-migrate"}
AIRFLOW = sorted(name for name in services() if name.startswith("airflow-"))
REPLICAS = sorted(name for name in services() if name.startswith("strandline-"))
# Their images begin as root, and give that up by themselves.
AS_ROOT = {"postgres", "kafka"}
# What need not be healthy first: it is waited for, or missed by nobody.
STARTED = {"kafka", "statsd-exporter", ("node-exporter", "prometheus")}
# Asked for again until they are there.
LATER = {"strandline-1", "airflow-api-server"}

GUIDE = (ROOT / "docs/observability.md").read_text()

# Run by Airflow's own Python: commands and the names of settings.
AIRFLOW_READS = """
import json, sys
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf

told = json.load(sys.stdin)
for command in told["commands"]:
    get_parser().parse_args(command)
for section, name in told["settings"]:
    known = conf.configuration_description.get(section, {}).get("options", {})
    assert name in known, f"{section}.{name} is no setting"
"""


@pytest.mark.parametrize("name", ["prometheus", "node-exporter", "statsd-exporter"])
def test_programs_know_their_options(name: str) -> None:
    program = os.environ[name.replace("-", "_").upper()]
    command = [program, *services()[name]["command"], "--version"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_airflow_knows_its_commands_and_settings(tmp_path: Path) -> None:
    commands = [services()[name]["command"] for name in AIRFLOW]
    checks = [services()[name]["healthcheck"].get("test", []) for name in AIRFLOW]
    commands += [check[2:] for check in checks if check[1:2] == ["airflow"]]
    assert len(commands) == len(AIRFLOW) + 3
    names = {name for service in AIRFLOW for name in variables(service)}
    found = [re.fullmatch(r"AIRFLOW__(\w+?)__(\w+)", name) for name in names]
    settings = [(one[1].lower(), one[2].lower()) for one in found if one]
    assert len(settings) > 10
    program = Path(os.environ["STRANDLINE_TEST_AIRFLOW_BIN"], "python")
    done = subprocess.run(
        [program, "-c", AIRFLOW_READS],
        input=json.dumps({"commands": commands, "settings": settings}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout


def test_files_that_commands_name_are_mounted() -> None:
    named = 0
    for name, service in services().items():
        for path in re.findall(r"=(/\S+\.(?:yml|sql))\b", " ".join(service.get("command") or [])):
            assert file_of(name, path).is_file(), path
            named += 1
    assert named == 3


def test_what_is_kept_is_in_a_volume() -> None:
    data = {
        "postgres": "/var/lib/postgresql/data",
        "kafka": variables("kafka")["KAFKA_LOG_DIRS"],
        "storage": services()["storage"]["command"][-1],
        "bucket": services()["storage"]["command"][-1],
        "prometheus": option("prometheus", "--storage.tsdb.path"),
        "grafana": "/var/lib/grafana",
    }
    data |= dict.fromkeys(AIRFLOW, "/opt/airflow/logs")
    for name in services():
        assert list(volumes(name, "volume")) == ([data[name]] if name in data else []), name
    assert volumes("bucket", "volume") == volumes("storage", "volume")


def test_services_may_do_no_more_than_they_need() -> None:
    for name, service in services().items():
        if name in AS_ROOT | {"postgres-setup"}:
            continue
        if name == "bucket":
            assert service["network_mode"] == "none"
            continue
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name == "storage" or name in AIRFLOW:
            continue
        assert service["read_only"] is True, name
    for name in ("storage", *REPLICAS):
        assert services()[name]["user"] == "65532:65532"
    # It draws and unpacks there.
    assert services()["grafana"]["tmpfs"] == ["/tmp"]


def hosts(service: str) -> set[str]:
    """Names of other machines in its environment."""
    found: set[str] = set()
    for name, value in variables(service).items():
        told = re.search(r"HOST$|URL$|URI$|BROKERS$|_CONN", name)
        if told and name != "STRANDLINE_STORAGE_URL":
            begin = "@" if "@" in value else r"(?:^(?!\w+://)|//)"
            found |= set(re.findall(rf"{begin}([a-z][\w-]*)", value))
    return found


def awaited(service: str) -> set[str]:
    """What it starts after, and what that starts after."""
    found = set(services()[service].get("depends_on", {}))
    return found.union(*(awaited(one) for one in found))


@pytest.mark.parametrize("name", services())
def test_a_service_starts_after_what_it_needs(name: str) -> None:
    for other, how in services()[name].get("depends_on", {}).items():
        if other in ONCE:
            assert how["condition"] == "service_completed_successfully", other
        elif STARTED.isdisjoint({other, (name, other)}):
            assert how["condition"] == "service_healthy", other
    assert hosts(name) <= set(services()), "a host that is no service"
    # What runs once sends no metrics.
    later = LATER | ({"statsd-exporter"} if name in ONCE else set())
    assert hosts(name) - later <= awaited(name)


def test_hosts_are_found() -> None:
    assert hosts("strandline-1") == {"postgres", "kafka", "storage"}
    airflow = {"postgres", "statsd-exporter", "airflow-api-server", "strandline-1"}
    assert hosts("airflow-scheduler") == airflow
    assert (hosts("postgres-exporter"), hosts("postgres-setup")) == ({"postgres"}, {"postgres"})


def test_what_runs_once_is_waited_for_and_the_rest_is_started_again() -> None:
    assert {name for name, one in services().items() if one["restart"] == "no"} == ONCE
    # The roles, the tables, the bucket.
    assert "postgres-setup" in awaited("postgres-exporter") & awaited("airflow-migrate")
    assert all("airflow-migrate" in awaited(name) for name in set(AIRFLOW) - ONCE)
    assert "bucket" in awaited("storage")


def test_postgresql_is_asked_for_what_is_in_it() -> None:
    server = variables("postgres")
    who = {"PGUSER": server["POSTGRES_USER"], "PGDATABASE": server["POSTGRES_DB"]}
    assert variables("postgres-setup") == who | {
        "PGHOST": "postgres",
        "PGPASSWORD": server["POSTGRES_PASSWORD"],
    }
    assert services()["postgres-setup"]["image"] == services()["postgres"]["image"]
    exporter = variables("postgres-exporter")
    # The role that may read statistics, and nothing else.
    assert exporter["DATA_SOURCE_USER"] == "monitor"
    assert exporter["DATA_SOURCE_URI"].split("?")[0] == f"postgres:5432/{who['PGDATABASE']}"
    check = services()["postgres"]["healthcheck"]["test"]
    asked = [f"--username={who['PGUSER']}", f"--dbname={who['PGDATABASE']}"]
    # By TCP, which the server that sets the cluster up does not listen to.
    assert check == ["CMD", "pg_isready", "--host=127.0.0.1", *asked]


def test_kafka_is_one_broker_that_finds_itself() -> None:
    told = variables("kafka")
    [controller] = re.findall(r"CONTROLLER://:(\d+)", told["KAFKA_LISTENERS"])
    voter = f"{told['KAFKA_NODE_ID']}@kafka:{controller}"
    assert told["KAFKA_CONTROLLER_QUORUM_VOTERS"] == voter
    copies = {value for name, value in told.items() if re.search(r"REPLICATION_FACTOR|ISR", name)}
    assert copies == {"1"}
    inside = variables("strandline-1")["STRANDLINE_KAFKA_BROKERS"]
    assert services()["kafka"]["healthcheck"]["test"][-1] == inside
    script = (ROOT / "scripts/kafka.sh").read_text()
    [tested] = re.findall(r"^VERSION=\$\{KAFKA_VERSION:-(.+)\}$", script, re.MULTILINE)
    assert services()["kafka"]["image"] == f"apache/kafka:{tested}"


def test_strandline_may_use_what_it_is_told() -> None:
    for name in REPLICAS:
        told = variables(name)
        assert told["AWS_ENDPOINT_URL"] == f"http://storage{services()['storage']['command'][2]}"
        assert told["AWS_ALLOW_HTTP"] == "true"
        # Else it refuses to listen on all addresses before there is a token.
        assert told["STRANDLINE_ALLOW_ANONYMOUS"] == "true"


def test_health_checks_ask_where_the_service_listens() -> None:
    asked = 0
    for name, service in services().items():
        check = " ".join(service.get("healthcheck", {}).get("test", []))
        for host, port in re.findall(r"http://([\w.]+):(\d+)", check):
            ports = {str(one["target"]) for one in service.get("ports", [])}
            assert port in ports or f"={host}:{port}" in words(name), name
            asked += 1
    assert asked == 7


def test_who_looks_at_grafana_changes_nothing() -> None:
    told = variables("grafana")
    assert told["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert told["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_guide_says_what_is_started() -> None:
    for name, pattern in (
        ("prometheus", r"Prometheus ([\d.]+)"),
        ("grafana", r"Grafana ([\d.]+)"),
        ("postgres-exporter", r"([\d.]+)"),
        ("statsd-exporter", r"([\d.]+)"),
        ("node-exporter", r"([\d.]+)"),
    ):
        [version] = re.findall(rf"^\| `{name}` \| {pattern} \|", GUIDE, re.MULTILINE)
        tag = services()[name]["image"].split(":")[1].removeprefix("v")
        assert tag.startswith(f"{version}."), name
        [row] = re.findall(rf"^\| `{name}` .*$", GUIDE, re.MULTILINE)
        shown = re.findall(r"http://127\.0\.0\.1:(\d+)", row)
        ports = services()[name].get("ports", [])
        assert set(shown) <= {port["published"] for port in ports}
    kept = (option("prometheus", f"--storage.tsdb.retention.{one}") for one in ("time", "size"))
    assert "keeps {} days or {} GB".format(*(re.sub(r"\D", "", one) for one in kept)) in GUIDE
    told = dict(re.findall(r"^(AIRFLOW__METRICS__\w+)=(.+)$", GUIDE, re.MULTILINE))
    ours = variables("airflow-scheduler")
    host = {"AIRFLOW__METRICS__STATSD_HOST": "statsd-exporter"}
    assert told | host == {
        name: ours[name] for name in ours if name.startswith("AIRFLOW__METRICS_")
    }


def test_exporters_have_what_the_dashboards_ask_for() -> None:
    # From PostgreSQL 17 on checkpoints are in a view of their own, which has to be asked for.
    assert "--collector.stat_checkpointer" in words("postgres-exporter")
    assert option("node-exporter", "--path.rootfs") in volumes("node-exporter", "bind")
