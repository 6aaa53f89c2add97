# Strandline: `make` lists the targets. The work is done by scripts/.
.DEFAULT_GOAL := help
.PHONY: help install build test test-s3 test-clients test-airflow test-observability test-page chaos lint fmt openapi dashboards bench bench-api demo down clean-demo services-up services-down

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1 - \2/p' Makefile | awk -F' - ' '{ printf "%-22s %s\n", $$1, $$2 }'

install: ## install what building and testing need (Debian, Ubuntu; elsewhere says what)
	@scripts/install.sh

build: install ## build the program in the release profile
	@cargo build --locked --release

test: ## all checks and tests, with a real Kafka and PostgreSQL; ARGS=... goes to cargo test
	@scripts/test.sh $(ARGS)

chaos: install ## kill, stop and cut off everything for CHAOS_MINUTES (10), from CHAOS_SEED if given
	@scripts/chaos.sh

test-s3: ## the stores' tests with a real MinIO, which is built once; ARGS=... goes to cargo test
	@scripts/test-s3.sh $(ARGS)

test-clients: ## the OpenAPI document: linters, clients in four languages, schemathesis; ARGS=... names steps
	@scripts/test-clients.sh $(ARGS)

test-airflow: ## the DAGs and the provider of airflow/ in a real Airflow; ARGS=... goes to pytest
	@scripts/test-airflow.sh $(ARGS)

test-observability: ## Prometheus, exporters, dashboards and alerts, with a real Airflow; ARGS=... goes to pytest
	@scripts/test-observability.sh $(ARGS)

test-page: ## the page at / in a real Chromium; ARGS=... names tests
	@scripts/test-page.sh $(ARGS)

bench: ## what a window costs, beside kcat and Python, into target/bench/window.json
	@scripts/bench.sh $(ARGS)

bench-api: ## how fast the API is with 1 M ended snapshots, into target/bench/api.json
	@scripts/bench-api.sh

lint: ## clippy, warnings are errors
	@cargo clippy --locked --all-targets -- -D warnings
	@cargo clippy --locked --test chaos --test stores -- -D warnings

fmt: ## format the code
	@cargo fmt --all

openapi: ## write openapi/strandline.json and strandline-3.0.json anew
	@cargo run --locked --quiet -- openapi >openapi/strandline.json.new
	@mv openapi/strandline.json.new openapi/strandline.json
	@cargo run --locked --quiet -- openapi --lowered >openapi/strandline-3.0.json.new
	@mv openapi/strandline-3.0.json.new openapi/strandline-3.0.json

dashboards: ## write deploy/grafana/dashboards anew, from deploy/grafana/source
	@python3 deploy/grafana/make.py

demo: ## Kafka, 27,004 events, Strandline and 32 snapshots on this machine; left running
	@scripts/demo.sh up

down: ## stop the demo, keep its data
	@scripts/demo.sh down

clean-demo: ## stop the demo and remove its data
	@scripts/demo.sh clean

services-up: ## start the tests' Kafka and PostgreSQL, for cargo test by hand
	@scripts/services.sh up

services-down: ## stop them and delete their data
	@scripts/services.sh down
