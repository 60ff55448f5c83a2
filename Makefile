# What the README names, nothing else. Everything happens in .venv and .nightshelf.
PYTHON ?= python3
BIN := .venv/bin

export RAY_USAGE_STATS_ENABLED := 0
export TOKENIZERS_PARALLELISM := false

.PHONY: demo serve test check bench

demo: .venv/.ready
	$(BIN)/python -m jobs.demo

serve: .venv/.ready
	$(BIN)/python -m jobs.demo --stay

test: check
	$(BIN)/python -m pytest

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py

bench: .venv/.ready
	$(BIN)/python -m jobs.evaluate_retail --dataset completejourney

.venv/.ready: pyproject.toml .constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --no-compile --disable-pip-version-check -c .constraints.txt -e '.[demo,train,chinese,redis,static,dev]'
	touch $@
