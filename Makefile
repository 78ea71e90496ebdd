# One command per act; CI calls the same ones. `make help` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# torch's install line, on its own: on Linux a plain index gives the CUDA build of several GB.
# Another build, for example the CPU one of pytorch.org's install page:
#   make run TORCH="torch==2.13.0 --index-url …"
TORCH ?= torch==2.13.0
CASES ?= tests/cases/dev_cases.jsonl

PY := .venv/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --quiet
# Stamps: what was installed, so that a second call starts at once.
BASE := .venv/.stamp-run
DEV := .venv/.stamp-dev
BROKER := .venv/.stamp-broker
GENERATOR := .venv/.stamp-generator
GUIDE := site/index.html
# Celery is needed only where the settings name a broker.
EXTRA := $(if $(shell printenv GRADDX_BROKER_URL; sed -n 's/^GRADDX_BROKER_URL=//p' .env 2>/dev/null),$(BROKER))

.DEFAULT_GOAL := help
.PHONY: help run worker migrate test lint types score accuracy repair cures bench calibration zoo formats docs contract answers constraints

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: migrate $(EXTRA) $(GUIDE) ## serve on 127.0.0.1:8000 with local workers
	@exec $(PY) -m api

worker: $(BASE) $(EXTRA) ## one more worker on the same database, told by the broker if there is one
	@exec $(PY) -m service

migrate: $(BASE) ## bring the database of the settings to the current schema
	@$(PY) -m alembic upgrade head

# Files of tests side by side, whole: what a file sets up once is set up once.
test: $(DEV) $(GENERATOR) ## everything that can fail
	@$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(DEV) ## ruff
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(DEV) ## mypy --strict
	@$(PY) -m mypy

score: $(DEV) ## precision, recall, false alarms, repair rate on CASES
	@$(PY) -m benchmarks.score --cases $(CASES)

accuracy: $(DEV) ## how far the verdict can be trusted: writes docs/accuracy.md (an hour or more)
	@$(PY) -m benchmarks.accuracy

repair: $(DEV) ## do prescriptions make sick networks train: writes docs/repair.md (an hour)
	@$(PY) -m benchmarks.repair

cures: $(DEV) ## what single cures are worth: writes docs/cures.md (half an hour)
	@$(PY) -m benchmarks.cures

bench: $(DEV) ## what a probe and an answer cost: writes docs/performance.md (a quarter of an hour, nothing else running)
	@test -d .venv/rivals || $(PIP) --target .venv/rivals --no-deps -r requirements-bench.txt \
	  || echo "the rivals could not be installed and are left out"
	@PYTHONPATH=.venv/rivals $(PY) -m benchmarks.performance

zoo: $(DEV) ## judge healthy networks in every form: writes docs/zoo.md (some ten minutes)
	@$(PY) -m benchmarks.zoo --jobs 2 --out docs/zoo.md

formats: $(DEV) ## the same networks in every form: writes docs/formats.md (some five minutes)
	@$(PY) -m benchmarks.formats --every 3 --out docs/formats.md

calibration: $(DEV) ## fit the confidence to labelled networks: writes docs/calibration.md (an hour)
	@$(PY) -m benchmarks.calibrate --write

docs: $(BASE) ## the docs as pages, served at /guide: writes site/
	@$(PY) -m api.guide

contract: $(DEV) ## freeze the API anew: writes tests/unit/api/contract.json
	@$(PY) -m tests.unit.api.contract > contract.new && mv contract.new tests/unit/api/contract.json

answers: $(DEV) ## ask a real server what /docs shows as answers: writes examples/answers/
	@$(PY) -m tests.e2e.answers

constraints: $(DEV) ## pin what is installed, except torch and what only torch needs
	@$(PY) -m pip freeze --exclude-editable \
	  | grep -viE '^(torch|filelock|fsspec|mpmath|networkx|sympy)[ =]' > constraints.txt

# A second, and only after a change: `make run` keeps the pages as new as their sources.
$(GUIDE): $(BASE) $(wildcard *.md docs/*.md docs/*/*.md examples/*.md api/guide/*.py api/guide/templates/* api/static/*)
	@$(PY) -m api.guide

$(PY):
	$(PYTHON) -m venv .venv

# Changes when TORCH does, and torch is installed anew.
TORCH_STAMP := .venv/.stamp-torch-$(shell printf '%s' '$(TORCH)' | cksum | cut -d ' ' -f 1)

$(TORCH_STAMP): | $(PY)
	@echo "installing $(TORCH) (this can take minutes, once)"
	@$(PIP) $(TORCH)
	@rm -f .venv/.stamp-torch-*
	@touch $@

$(BASE): requirements.txt constraints.txt $(TORCH_STAMP)
	@echo "installing requirements.txt"
	@$(PIP) -r requirements.txt -c constraints.txt
	@touch $@

$(BROKER): requirements-broker.txt constraints.txt $(BASE)
	@echo "installing requirements-broker.txt"
	@$(PIP) -r requirements-broker.txt -c constraints.txt
	@touch $@

$(GENERATOR): requirements-generator.txt $(BASE)
	@echo "installing requirements-generator.txt"
	@$(PIP) --upgrade --target .venv/generator --no-deps -r requirements-generator.txt
	@touch $@

$(DEV): requirements-dev.txt requirements-broker.txt client/pyproject.toml $(BASE)
	@echo "installing requirements-dev.txt"
	@$(PIP) -r requirements-dev.txt -c constraints.txt
	@touch $@
