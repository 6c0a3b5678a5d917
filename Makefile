# The two commands of the README are `make demo` and `make test`; both make .venv first where it is missing.
# ARGS is handed on: make test ARGS="-k knn", make demo ARGS=--seeds=3.

PYTHON_IN_VENV := .venv/bin/python
STAMP := .venv/.complete
SOURCES := larq_ssl tests

# TensorFlow's start-up messages drown everything else; TF_CPP_MIN_LOG_LEVEL=0 brings them back.
TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_CPP_MIN_LOG_LEVEL

# One worker per core, but no more than four: each holds its own TensorFlow.
PYTEST := $(PYTHON_IN_VENV) -m pytest -n auto --maxprocesses 4 --dist loadfile

.PHONY: help venv detection demo edge-demo notebook table test test-slow test-faults test-recipes lint format lock clean

help: ## this list (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP) ## .venv, made from requirements.lock (with PYTHON=..., from that interpreter)

$(STAMP): requirements.lock setup.cfg
	@sh scripts/make_venv.sh

detection: ## also what the command `detect` needs, from requirements-detection.lock
	@LOCK=requirements-detection.lock sh scripts/make_venv.sh

demo: $(STAMP) ## the main job on the bundled digits: teacher, BSSL stages 1 and 2, probes, table
	$(PYTHON_IN_VENV) -m larq_ssl.experiments.study --recipes=digits --out=runs/demo $(ARGS)

edge-demo: $(STAMP) ## from a folder of images (the digits) to an audited file for devices, timed
	$(PYTHON_IN_VENV) -m larq_ssl.experiments.edge_demo $(ARGS)

notebook: $(STAMP) ## runs docs/edge.ipynb, the same steps one by one, and keeps what they show
	rm -rf docs/edge
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/jupyter-execute --inplace docs/edge.ipynb

# RECIPES=cifar10 needs the images: ARGS="--dataset=folder --data_dir=<folder>", or a prepared TFDS cifar10.
RECIPES ?= digits
table: $(STAMP) ## all methods of RECIPES=digits|cifar10, float and binary, in one table that a killed run goes on with
	$(PYTHON_IN_VENV) -m larq_ssl.experiments.study --recipes=$(RECIPES) --methods=all --arms=float,stage1,stage2 \
		--out=runs/table/$(RECIPES) $(ARGS)

test: $(STAMP) ## the quick tests
	$(PYTEST) --durations 10 $(ARGS)

test-slow: $(STAMP) ## the tests that take minutes each
	$(PYTEST) -m slow --durations 10 $(ARGS)

# What the table of docs/reliability.md is made of.
FAULTS ?= runs/faults
test-faults: $(STAMP) ## does every fault to training processes; results go to FAULTS=<folder>
	LARQ_SSL_FAULTS=$(abspath $(FAULTS)) $(PYTEST) -m faults --junitxml=$(abspath $(FAULTS))/tests-$(shell date +%s).xml --durations 10 $(ARGS)

test-recipes: $(STAMP) ## every recipe built at its full size, one after the other
	$(PYTHON_IN_VENV) -m pytest -m recipes $(ARGS)

lint: $(STAMP) ## formatting, lint and types, nothing changed
	$(PYTHON_IN_VENV) -m ruff format --check $(SOURCES)
	$(PYTHON_IN_VENV) -m ruff check $(SOURCES)
	$(PYTHON_IN_VENV) -m mypy

format: $(STAMP) ## formats and mends what ruff can mend
	$(PYTHON_IN_VENV) -m ruff format $(SOURCES)
	$(PYTHON_IN_VENV) -m ruff check --fix $(SOURCES)

COMPILE := uv pip compile --quiet --universal --python-version 3.10 --extra export --extra test \
	--override scripts/overrides.txt --custom-compile-command "make lock"
lock: ## both locks anew (needs uv; LOCK_ARGS=--upgrade moves every version); the second holds the first
	$(COMPILE) $(LOCK_ARGS) setup.cfg -o requirements.lock
	$(COMPILE) $(LOCK_ARGS) --extra detection --constraint requirements.lock setup.cfg -o requirements-detection.lock

clean: ## removes .venv, caches and builds; never runs/
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist larq_ssl.egg-info
	find $(SOURCES) -type d -name __pycache__ -prune -exec rm -rf {} +
