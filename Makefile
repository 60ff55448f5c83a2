# What the README names, nothing else. Everything happens in .venv and .nightshelf.
PYTHON ?= python3
BIN := .venv/bin
# The shop of demo and serve: demo, made up, or completejourney, 92,331 groceries.
SHOP ?= demo

export RAY_USAGE_STATS_ENABLED := 0
export TOKENIZERS_PARALLELISM := false

.PHONY: demo serve test unit check mutants bench assets messages pictures

demo: .venv/.ready
	$(BIN)/python -m jobs.demo --shop $(SHOP)

serve: .venv/.ready
	$(BIN)/python -m jobs.demo --shop $(SHOP) --stay

test: check
	$(BIN)/python -m pytest

unit: .venv/.ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not ray and not realdata and not slow and not gpu"

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py

mutants: .venv/.ready
	$(BIN)/python -m tests.mutants --sample 300 --seed 0

bench: .venv/.ready
	$(BIN)/python -m jobs.evaluate_retail --dataset completejourney

assets: .venv/.ready
	cd serve/web && ../../$(BIN)/npm ci --ignore-scripts --no-audit --no-fund && ../../$(BIN)/npm run build

pictures: .venv/.ready
	$(BIN)/python -m tests.storefront_pictures

messages: .venv/.ready
	mkdir -p build
	$(BIN)/pybabel extract -F serve/web/babel.cfg -k N_ -k say -k text --no-location --omit-header -o build/messages.pot serve/web
	$(BIN)/pybabel update --no-fuzzy-matching -l zh -i build/messages.pot -o serve/web/locale/zh/messages.po

.venv/.ready: pyproject.toml .constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --no-compile --disable-pip-version-check -c .constraints.txt -e '.[demo,train,chinese,pictures,unsafe,redis,kafka,static,evaluation,dev]'
	touch $@
