"""docker-compose.yml and what it mounts, each read by the program that reads it in earnest."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from stack.compose import compose, services, words
from stack.dashboards import documents
from stack.exporters import MAPPING
from stack.prometheus import CONFIG
from stack.services import ROOT
from stack.whole import Stack


def run(*command: str) -> str:
    """What a program says, which must end well."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_compose_reads_the_file_with_and_without_airflow() -> None:
    without = set(compose()["services"])
    assert {"strandline-1", "kafka", "postgres", "storage", "prometheus", "grafana"} < without
    assert set(services()) - without == {
        f"airflow-{part}"
        for part in ("migrate", "api-server", "scheduler", "dag-processor", "triggerer")
    }


def test_compose_finds_a_mistake(tmp_path: Path) -> None:
    broken = (ROOT / "docker-compose.yml").read_text().replace("\n  postgres:", "\n  postgrse:", 1)
    file = tmp_path / "docker-compose.yml"
    file.write_text(broken)
    read = subprocess.run([os.environ["COMPOSE_CHECK"], str(file)], capture_output=True, text=True)
    assert read.returncode == 1
    assert "depends on undefined service" in read.stderr


def test_what_is_mounted_is_there() -> None:
    mounted = 0
    for name, service in services().items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), f"{name}: {volume['source']}"
                assert volume["read_only"], f"{name} may write to {volume['source']}"
                mounted += 1
    assert mounted >= 6


@pytest.mark.parametrize("program", ["PROMTOOL", "DEBIAN_PROMTOOL"])
def test_prometheus_reads_its_files(program: str) -> None:
    run(os.environ[program], "check", "config", "--lint=all", "--lint-fatal", str(CONFIG))


def test_statsd_exporter_reads_its_mapping() -> None:
    run(os.environ["STATSD_EXPORTER"], "--check-config", f"--statsd.mapping-config={MAPPING}")


def test_gauges_end_and_counters_do_not() -> None:
    mapping = yaml.safe_load(MAPPING.read_text())
    assert "ttl" not in mapping["defaults"]
    kept = [rule for rule in mapping["mappings"] if rule.get("action") != "drop"]
    ends = [(rule["match"], rule["ttl"]) for rule in kept if "ttl" in rule]
    assert [rule.get("match_metric_type") for rule in kept if "ttl" in rule] == ["gauge"] * 2
    # The first that matches is the one.
    assert ends == [(r"^airflow\.ti\.(.+)$", "5m"), (r"^airflow\.(.+)$", "2h")]


def test_the_versions_are_those_that_are_tested() -> None:
    for name, service in (
        ("prometheus", "prometheus"),
        ("statsd_exporter", "statsd-exporter"),
        ("node_exporter", "node-exporter"),
    ):
        tested = run(str(ROOT / "scripts/monitoring.sh"), "version", name).strip()
        # The module of Prometheus 3.16.0 is 0.316.0.
        tested = re.sub(r"^0\.3(\d\d)\.", r"3.\1.", tested) if name == "prometheus" else tested
        assert services()[service]["image"].endswith(f":v{tested}")
    wanted = re.search(r"^apache-airflow==(.+)$", (ROOT / "airflow/requirements.in").read_text(), 8)
    assert wanted is not None
    assert f"FROM apache/airflow:{wanted[1]}\n" in (ROOT / "airflow/Dockerfile").read_text()
    schema = json.loads((ROOT / "tests/observability/grafana/package.json").read_text())
    grafana = schema["dependencies"]["@grafana/schema"]
    assert services()["grafana"]["image"] == f"grafana/grafana:{grafana}"


def test_what_is_scraped_is_a_service_under_its_port() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    assert config["global"]["scrape_interval"] == config["global"]["evaluation_interval"] == "15s"
    listens = {
        "strandline": services()["strandline-1"]["environment"]["STRANDLINE_METRICS_LISTEN"],
        "airflow": words("statsd-exporter"),
        "postgres": words("postgres-exporter"),
        "node": words("node-exporter"),
        "minio": words("storage"),
        "prometheus": ":9090",
    }
    assert {job["job_name"] for job in config["scrape_configs"]} == set(listens)
    scraped: set[str] = set()
    for job in config["scrape_configs"]:
        name = job["job_name"]
        # No label is renamed and nothing is dropped on the way.
        assert set(job) <= {"job_name", "metrics_path", "static_configs", "dns_sd_configs"}
        for found in job.get("dns_sd_configs", []):
            scraped.update(found["names"])
            assert (found["type"], found["refresh_interval"]) == ("A", "15s")
            assert listens[name].endswith(f":{found['port']}")
        for static in job.get("static_configs", []):
            for target in static["targets"]:
                host, port = target.split(":")
                scraped.add(host)
                assert host in services() or host == "127.0.0.1"
                assert re.search(rf":{port}\b", listens[name]), name
    assert {one for one in services() if one.startswith("strandline-")} <= scraped


def test_the_machine_is_read_and_reached_from_here_only() -> None:
    node = services()["node-exporter"]
    assert (node["network_mode"], node["pid"]) == ("host", "host")
    [root] = node["volumes"]
    assert (root["source"], root["target"], root["read_only"]) == ("/", "/host", True)
    network = compose()["networks"]["host-metrics"]["ipam"]["config"][0]
    assert f"--web.listen-address={network['gateway']}:9100" in node["command"]
    prometheus = services()["prometheus"]
    assert prometheus["extra_hosts"] == [f"node-exporter={network['gateway']}"]
    assert set(prometheus["networks"]) == {"default", "host-metrics"}


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    folder = ROOT / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["jsonData"]["timeInterval"] == "15s"
    wanted = {"type": "prometheus", "url": "http://prometheus:9090", "access": "proxy"}
    assert source == source | wanted | {"isDefault": True, "editable": False}
    # What the dashboards have chosen as long as nobody chooses.
    for document in documents().values():
        chosen = document["templating"]["list"][0]["current"]
        assert chosen == {"text": source["name"], "value": source["uid"]}
    [provider] = yaml.safe_load((folder / "dashboards/strandline.yml").read_text())["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
    mounts = {volume["target"]: volume for volume in services()["grafana"]["volumes"]}
    dashboards = mounts[provider["options"]["path"]]["source"]
    assert Path(dashboards) == ROOT / "deploy/grafana/dashboards"
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(dashboards, Path(home).name).exists()
    assert Path(mounts["/etc/grafana/provisioning"]["source"]) == folder


def test_the_roles_can_be_made_twice_and_may_only_look(stack: Stack) -> None:
    stack.postgres.set_up()
    with pytest.raises(AssertionError, match="permission denied"):
        stack.postgres.ask("monitor", "SELECT * FROM snapshots")
    # Of others, too.
    seen = (
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'strandline' AND query LIKE '%'"
    )
    assert stack.postgres.ask("monitor", f"{seen} AND query <> '<insufficient privilege>'") == (
        True,
    )
    rights = "SELECT rolsuper OR rolcreatedb OR rolcreaterole, rolconnlimit FROM pg_roles"
    for role, limit in (("monitor", 5), ("airflow", -1)):
        found = stack.postgres.ask("strandline", f"{rights} WHERE rolname = '{role}'")
        assert found == (False, limit), role
    stack.postgres.ask("airflow", "CREATE TABLE mine (); DROP TABLE mine", database="airflow")


def test_a_role_has_its_own_password_and_what_is_missing_is_an_error(stack: Stack) -> None:
    text = (ROOT / "deploy/postgres/setup.sql").read_text()
    given = re.findall(r"^ALTER ROLE (\w+) .*PASSWORD :'(\w+)_password';$", text, re.MULTILINE)
    assert given == [("monitor", "monitor"), ("airflow", "airflow")]
    with pytest.raises(AssertionError, match=r"(?s)^3: .*PASSWORD :'monitor_"):
        stack.postgres.set_up(roles=["airflow"])


def test_health_checks_ask_for_what_is_there(stack: Stack) -> None:
    """The paths, asked of the same programs; whether the images have wget nobody can see here."""
    assert stack.minio is not None
    places = {
        "storage": stack.minio.address,
        "postgres-exporter": stack.postgres_exporter.address,
        "statsd-exporter": stack.statsd.address,
        "node-exporter": stack.nodes[0].address,
    }
    for name, address in places.items():
        check = services()[name]["healthcheck"]["test"][-1]
        path = re.sub(r"^http://[^/]+", "", check)
        assert httpx.get(f"http://{address}{path}", timeout=10).status_code == 200, check
    check = services()["prometheus"]["healthcheck"]["test"][1:-1]
    assert check[0] == "promtool"
    run(os.environ["PROMTOOL"], *check[1:], f"--url={stack.prometheus.url}")


def test_airflow_sends_tags_once_and_all_of_them_are_understood(stack: Stack) -> None:
    """Sent by hand: dots in names, a timer that is none, a gauge that is meant to end."""
    stack.send_statsd(
        "airflow.ti.finish,dag_id=a.b,task_id=group.c,state=success:1|c",
        "airflow.task.duration,dag_id=a.b,task_id=group.c:2500|ms",
        "airflow.dag_processing.last_duration,bundle_name=b,file_name=f:0.8|ms",
        "airflow.dagrun.a.b.first_task_scheduling_delay,dag_id=a.b:10|ms",
        "airflow.connection_test.active:0|g",
        "airflow.ti.running,dag_id=a.b,task_id=group.c,queue=default:1|g",
    )
    text = stack.exported('airflow_ti_finish_total{dag_id="a.b"')
    tags = 'dag_id="a.b",task_id="group.c"'
    for below, count in (("1", 0), ("2.5", 1)):
        assert f'airflow_task_duration_bucket{{{tags},le="{below}"}} {count}' in text
    assert 'airflow_ti_finish_total{dag_id="a.b",state="success",task_id="group.c"} 1' in text
    assert f"airflow_task_duration_sum{{{tags}}} 2.5" in text
    assert 'airflow_dag_processing_last_duration_sum{bundle_name="b",file_name="f"} 0.8' in text
    assert 'airflow_ti_running{dag_id="a.b",queue="default",task_id="group.c"} 1' in text
    assert "airflow_dagrun_a_b" not in text
    assert "connection_test" not in text
    assert "dropped" not in re.sub(r"^(#|statsd_exporter_).*", "", text, flags=re.MULTILINE)
    assert re.search(r"^statsd_exporter_tag_errors_total 0$", text, re.MULTILINE)
