# `make help` lists what can be made. Every target creates or refreshes .venv first when it is missing or stale.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast check format eval sweep report bench

PYTHON := .venv/bin/python
READY := .venv/.installed
# Tests take one core each and run two at a time, file by file, since fixtures are shared in a file.  Those marked slow,
# which start servers or train, come last, so that a mistake is told within minutes.
SIDE_BY_SIDE := -n 2 --dist loadfile

# One sleeping thread per process: on a small machine spinning thread pools slow each other down tenfold.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false

$(READY): requirements/install $(wildcard requirements/*.lock) pyproject.toml setup.py
	@requirements/install

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(READY) ## create .venv and install the locked packages: vLLM for the GPU where there is one, else for the CPU
	@echo ".venv is ready"

demo: $(READY) ## run experiment=pocket from dialogues to the leaderboard in reports/pocket/ (5 to 6 minutes on 2 cores)
	@$(PYTHON) -m ablations experiment=pocket

test: $(READY) ## run all tests that this machine can run; ARGS="-k merge" runs those
ifdef ARGS
	@$(PYTHON) -m pytest $(ARGS)
else
	@failed=0; $(PYTHON) -m pytest -m "not slow" $(SIDE_BY_SIDE) || failed=1; $(PYTHON) -m pytest -m slow $(SIDE_BY_SIDE) || failed=1; exit $$failed
endif

test-fast: $(READY) ## run all tests but those that start servers or train (minutes on 2 cores)
	@$(PYTHON) -m pytest -m "not slow" $(SIDE_BY_SIDE) $(ARGS)

check: $(READY) ## formatting, lint and types
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy

format: $(READY) ## put the formatting right, and what the linter can mend by itself
	@$(PYTHON) -m ruff check --fix --quiet . || true
	@$(PYTHON) -m ruff format .

eval: demo ## compare the pocket table and every artifact behind it with those kept, name the first that changed (UPDATE=1 keeps the new ones)
	@$(PYTHON) -m ablations.regression scores=reports/pocket/scores.csv baseline=eval/baselines/pocket.json$(if $(UPDATE), update=true 'pages=[docs/pocket.md]')

sweep: $(READY) ## the pocket study: merge rules over one set of targets, which are trained once
	@$(PYTHON) -m ablations -m experiment=pocket merge=linear,ties,sce

report: $(READY) ## tabulate the sweep into reports/sweep/
	@$(PYTHON) -m ablations.report cells=pocket out=reports/sweep

bench: $(READY) ## measure speed, memory and disk, each beside the bar it should reach (ARGS="alignment merging" for some)
	@$(PYTHON) -m bench $(ARGS)
