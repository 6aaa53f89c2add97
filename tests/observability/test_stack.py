"""All parts of the stack run, and Prometheus sees them."""

from __future__ import annotations

from stack.whole import Stack


def test_every_job_is_scraped(stack: Stack) -> None:
    jobs = {target["labels"]["job"] for target in stack.prometheus.targets()}
    assert jobs == {job["job_name"] for job in stack.prometheus.config["scrape_configs"]}
    assert stack.prometheus.value('sum(strandline_build_info{job="strandline"})') == 2
    assert stack.prometheus.value('sum(pg_up{job="postgres"})') == 1
