# The commands of this repository; `make demo` is the first one on a fresh machine.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_READY := $(VENV)/.stride32-demo
SERVE_READY := $(VENV)/.stride32-serve
READY := $(VENV)/.stride32-dev

# An environment on top of the main one: it sees all of it, and its own packages come first.
PEERS := .venv-peers

.PHONY: help demo serve test check format bench bench-peers train-detector train-embedder models-table clean

help:
	@echo "make demo            track people in a real clip; results in demo-output/"
	@echo "make serve           the HTTP service and its page on http://127.0.0.1:8000"
	@echo "make test            all tests"
	@echo "make check           format, lint, types, import contracts, spelling"
	@echo "make format          apply the formatter and the safe fixes"
	@echo "make bench           the speed measurements of benchmarks/"
	@echo "make bench-peers     the tracker beside all other packages' trackers, and its table in docs/"
	@echo "make train-detector CONFIG=run.toml    train a detector (train-embedder likewise)"
	@echo "make models-table    models/README.md from the cards"
	@echo "make clean           remove what was built, except $(VENV)"

# A stamp is newer than pyproject.toml once its packages are installed, so later calls are instant.
$(DEMO_READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

$(SERVE_READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[service]'
	touch $@

# trackeval brings opencv-python, which shares the folder cv2 with the headless build and wants GUI libraries that a server
# lacks; the headless build goes in last, so that its files stand.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps opencv-python-headless
	touch $(DEMO_READY) $(SERVE_READY) $@

demo: $(DEMO_READY)
	$(BIN)/stride32 demo

serve: $(SERVE_READY)
	$(BIN)/stride32 serve

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m codespell_lib

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script; done

$(PEERS)/.ready: benchmarks/peers.txt $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps opencv-python-headless
	test -x $(PEERS)/bin/python || $(BIN)/python -m venv $(PEERS)
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
		> "$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	$(PEERS)/bin/python -m pip install --quiet ipyfilechooser
	$(PEERS)/bin/python -m pip install --quiet --no-deps --requirement benchmarks/peers.txt
	touch $@

bench-peers: $(PEERS)/.ready
	$(PEERS)/bin/python benchmarks/bench_tracker.py
	$(PEERS)/bin/python benchmarks/tracker_table.py

train-detector train-embedder: train-%: $(READY)
	$(BIN)/stride32 train $* $(CONFIG)

models-table: $(READY)
	$(BIN)/stride32 models list --markdown > models/README.md.new
	mv models/README.md.new models/README.md

clean:
	rm -rf dist build demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find vision service tests -name __pycache__ -type d -prune -exec rm -rf {} +
