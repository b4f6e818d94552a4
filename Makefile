# One entry point for people and CI. `make` alone says what there is.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  := build/peers
LINKS  := build/typing/oddslog
ARGS   ?=
LOCK   := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --quiet
RULES  := deploy/kubernetes/monitoring/rules.yaml
# Processes that share the suite's files, each with servers of its own; 0: this one alone.
# Twice the two cores that CI has: much of a test's time is waiting.
WORKERS ?= 4

.DEFAULT_GOAL := help
.PHONY: help install demo test faults torture check bench bench-peers bench-results dist lock rules clean

help:  ## What there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Make .venv with everything in it

# The lock has versions and hashes; the project itself is installed in place.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "oddslog needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d; name another: make PYTHON=python3.12 ..." % v)'
	@$(PYTHON) -m venv $(VENV) || { echo "No venv could be made; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing the locked packages into $(VENV) (a minute the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# mypy and editors need a path on which oddslog/<folder> exists.
$(LINKS):
	@mkdir -p $(LINKS)
	@for part in schemas ingest sink deploy; do ln -sfn ../../../$$part $(LINKS)/$$part; done

demo: install  ## Real Kafka, real PostgreSQL: feed, sink, compare (ARGS=--help)
	@$(BIN)/oddslog demo $(ARGS)

test: install  ## The suite but for the long fault tests, on real servers
	@$(BIN)/python -m pytest --numprocesses=$(WORKERS) $(ARGS)

faults: install  ## The long fault tests
	@$(BIN)/python -m pytest -m faults $(ARGS)

torture: install  ## Kill, cut and restart everything, lose nothing (ARGS='--minutes 10 --seed 1')
	@$(BIN)/oddslog torture $(ARGS)

check: install $(LINKS)  ## Lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy -p oddslog
	@$(BIN)/mypy tests
	@$(BIN)/mypy docs/examples

bench: install  ## Rows a second: ORM, bare COPY, this sink, and more (ARGS=--help)
	@$(BIN)/oddslog bench $(ARGS)

# An environment of its own: what the other programs need is not to be mixed with ours.
$(PEERS)/.installed: deploy/bench/peers.lock pyproject.toml
	@$(PYTHON) -m venv $(PEERS)
	@echo "Installing Quix Streams and Pathway into $(PEERS) (1.6 GB) ..."
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/bench/peers.lock
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check "setuptools>=77"
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

bench-peers: $(PEERS)/.installed  ## Rows a second beside Quix Streams and Pathway
	@$(PEERS)/bin/oddslog bench --section peers $(ARGS)

bench-results: $(PEERS)/.installed  ## The run of docs/speed.md, and its figures into it: 35 minutes, 15 GB
	@$(PEERS)/bin/oddslog bench --cycles 100 --backlog 10000000 --grow-to 30000000 --to build/bench $(ARGS)
	@sed -e '/figures: begin/r build/bench/bench.md' -e '/figures: begin/,/figures: end/{/figures: /!d;}' docs/speed.md >build/bench/speed.md
	@mv build/bench/speed.md docs/speed.md && cp build/bench/bench.svg docs/speed.svg

# As a user gets it: the wheel out of the sdist, its packages by its own bounds and not by the lock.
dist: install  ## Build sdist and wheel into dist/, check them, and try them in a clean venv
	@rm -rf dist build/clean
	@$(BIN)/python -m build --no-isolation --outdir dist .
	@$(BIN)/python -m twine check --strict dist/*
	@$(PYTHON) -m venv build/clean
	@build/clean/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	@cd build && clean/bin/python -c 'from oddslog.ingest import AsyncWriteQueue, KafkaDestination'
	@cd build && clean/bin/oddslog --version 2>&1 | grep --quiet "oddslog\[sink\]"
	@build/clean/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[sink]"
	@cd build && clean/bin/oddslog --version && clean/bin/oddslog config >/dev/null
	@build/clean/bin/python -m pip check

lock:  ## Resolve requirements.lock, and the image's part of it, anew (needs uv)
	@$(LOCK) --extra sink --extra local --extra dev --output-file requirements.lock
	@$(LOCK) --extra sink --constraints requirements.lock --output-file deploy/sink.lock
	@$(LOCK) --extra sink --extra local --extra peers --output-file deploy/bench/peers.lock

# The groups as they stand, two deeper: Kubernetes has a frame around what Prometheus reads.
rules:  ## Put the alert rules into the frame of the Prometheus operator anew
	@{ sed '/^spec:$$/q' $(RULES) && sed -n '/^groups:$$/,$$p' deploy/observability/alerts.yaml | sed 's/^./  &/'; } >$(RULES).new
	@mv $(RULES).new $(RULES)

clean:  ## Remove what was built (not the stack's data)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
