# Everything runs in .venv, with the versions of constraints.txt. `make run` is all a new checkout needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DATA   ?= ../shared/data

.PHONY: help install run test lint wheel-check bench chaos clean
.DEFAULT_GOAL := help

help: ## show this
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## make .venv and install Pawl with all extras into it

# torch goes first and alone: asked for by another package, pip may take a newer build with gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[worker,postgres,embedded,files,dev]'
	@touch $@

run: install ## start everything on http://127.0.0.1:8000 (Ctrl-C stops it); ARGS='--port 9000' for options
	@exec $(BIN)/pawl up $(ARGS)

lint: install ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A file stays with one pytest process, which starts its own servers; more than 4 would only fight over the processors.
test: lint ## all checks and all tests
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

wheel-check: install ## build the wheel, install it afresh beside a foreign app/, and use it (minutes)
	$(BIN)/python -m tests.packaging.fresh_environment

bench: install ## the benchmarks that need no GPU; DATA=folder with the data sets
	$(BIN)/python benchmarks/accuracy.py --data $(DATA)/banking77
	$(BIN)/python benchmarks/correction_latency.py --data $(DATA)/banking77
	$(BIN)/python benchmarks/lexical.py

chaos: install ## faults at length: learner killed 20 times, full disk, paused servers; SCENE=kills, full-disk or servers
	$(BIN)/python -m tests.chaos $(SCENE)

clean: ## remove .venv and what tools left (never the data in ~/.pawl)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
