# `make demo` and `make test` do all their set-up themselves, in `.venv`.

PYTHON ?= $(shell command -v python3.11 || command -v python3.10 || command -v python3)
OUT ?= runs/demo
DATA ?= ../shared/data
PROTOCOL ?= ../shared/bench/ml1m_protocol.py

VENV := .venv
FLINK := .flink
BIN := $(VENV)/bin
# uv installs in seconds what pip installs in minutes. Where only pip knows the package index, pip
# does it.
INSTALL = install() { \
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt "$$@" \
		|| $(BIN)/pip install --quiet -c constraints.txt "$$@"; \
}; install

.DEFAULT_GOAL := help
.PHONY: help install install-test demo test test-fast flink-test fuzz lint format screenshot bench constraints clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) \
		| awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Install into .venv
install-test: $(VENV)/.installed-test ## Install into .venv, with what tests and notebooks need

demo: install ## Run the main job on the embedded data and print where the report is
	$(BIN)/fairtowers run --config configs/synthetic.yaml --out $(OUT)

test: install-test ## Run all tests and the notebooks
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/flink tests
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=900 notebooks

test-fast: install-test ## Run the tests that take less than ten seconds each
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/flink -m "not slow" tests

flink-test: install-test $(FLINK)/.ready ## Run pipelines on an Apache Flink cluster on this machine; needs Java
	$(BIN)/python -m pytest tests/flink

fuzz: install-test ## Run the tests that draw their cases, on new ones
	$(BIN)/python -m pytest -n 2 --dist loadfile -m hypothesis --hypothesis-profile=default tests

lint: install-test ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install-test ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshot: install-test demo ## Renew the picture of the report in the README
	$(BIN)/python -m benchmarks.screenshot --report $(OUT)/report/report.html --out docs/report.png

bench: install-test ## Measure what benchmarks/RESULTS.md reports; DATA=folder of MovieLens
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.example_building
	$(BIN)/python -m benchmarks.example_growth --plot docs/example_growth.png
	$(BIN)/python -m benchmarks.audit_lists
	$(BIN)/python -m benchmarks.audit_coverage
	$(BIN)/python -m benchmarks.serving_log
	$(BIN)/python -m benchmarks.experiments
	$(BIN)/python -m benchmarks.statistics
	$(BIN)/python -m benchmarks.interleaving
	$(BIN)/python -m benchmarks.off_policy
	$(INSTALL) -e '.[benchmarks]'
	$(BIN)/python -m benchmarks.index_search
	$(BIN)/python -m benchmarks.catalogue_growth --plot docs/catalogue_growth.png
	$(BIN)/python -m benchmarks.serving_load
	$(BIN)/python -m benchmarks.movielens --data $(DATA)
	$(if $(wildcard $(PROTOCOL)),$(BIN)/python -m benchmarks.movielens_protocol \
		--data $(DATA)/ml-1m --protocol $(PROTOCOL))
	$(if $(wildcard $(FLINK)/.ready),$(BIN)/python -m benchmarks.flink)

constraints: $(VENV)/bin/python ## Regenerate constraints.txt from setup.cfg
	for v in 3.10 3.11; do \
		$(BIN)/uv pip compile setup.cfg --all-extras --upgrade --quiet --no-annotate --no-header \
			--python-version $$v --python-platform x86_64-manylinux_2_28 \
			| sed "s/$$/ ; python_version == '$$v'/"; \
	done > constraints.tmp
	mv constraints.tmp constraints.txt

clean: ## Remove the environment, Flink and the demo's output
	rm -rf $(VENV) $(FLINK) $(OUT)

$(VENV)/bin/python:
	@.ci/check-system $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(VENV)/.installed: $(VENV)/bin/python setup.cfg constraints.txt
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@.ci/check-system $(PYTHON) browser
	$(INSTALL) -e '.[serve,test,notebooks]'
	@# For MovieLens-100K, which its wheel carries; the package itself is not used.
	$(INSTALL) --no-deps recbole==1.2.1
	touch $@

# Flink's distribution and Beam's job server, both of known SHA-256.
$(FLINK)/.ready: tests/flink/requirements.txt tests/flink/pom.xml tests/flink/job_server.sha256 \
		| $(VENV)/.installed-test
	@.ci/check-system $(PYTHON) flink
	rm -rf $(FLINK)
	$(BIN)/pip download --quiet --no-deps --dest $(FLINK) --requirement tests/flink/requirements.txt
	tar -xzf $(FLINK)/*.tar.gz -C $(FLINK) --strip-components=2 --wildcards \
		'*/deps/lib/flink-dist-*' '*/deps/lib/log4j-*'
	rm $(FLINK)/*.tar.gz
	mvn --quiet --batch-mode --file tests/flink/pom.xml dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory=$(CURDIR)/$(FLINK)/job_server
	cd $(FLINK)/job_server && ls | LC_ALL=C sort | xargs sha256sum \
		| diff $(CURDIR)/tests/flink/job_server.sha256 -
	touch $@
