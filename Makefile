# Everything runs in .venv, which is made on first use from pyproject.toml and constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help quickstart test lint format constraints clean

help:
	@echo "make quickstart   set everything up, train and evaluate on embedded data (minutes)"
	@echo "make test         set everything up, run the tests"
	@echo "make lint         ruff and mypy"
	@echo "make format       let ruff rewrite the sources"
	@echo "make constraints  solve constraints.txt again"
	@echo "make clean        remove the environment, caches and runs/quickstart"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("skinjax needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

quickstart: $(READY)
	$(BIN)/python -m skinjax.main train --config=configs/quickstart.py --workdir=runs/quickstart
	$(BIN)/python -m skinjax.main evaluate --workdir=runs/quickstart

test: $(READY)
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "# The exact versions that were tested, solved with all extras together (make constraints)." > constraints.new
	$(BIN)/uv pip compile pyproject.toml --all-extras --python-version 3.11 --upgrade --quiet \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links >> constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis runs/quickstart
