"""All parts of the stack run, and Prometheus sees them."""

from __future__ import annotations

from harness.processes import eventually
from stack.whole import Stack


def test_every_job_is_scraped(stack: Stack) -> None:
    jobs = {target["labels"]["job"] for target in stack.prometheus.targets()}
    assert jobs == {job["job_name"] for job in stack.prometheus.config["scrape_configs"]}
    both = 'sum(strandline_build_info{job="strandline"})'
    eventually(lambda: stack.prometheus.value(both) == 2, "both replicas are seen")
    up = 'sum(pg_up{job="postgres"})'
    eventually(lambda: stack.prometheus.value(up) == 1, "PostgreSQL is seen")
