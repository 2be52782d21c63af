# Everything starts from a fresh clone with Python 3.11, git, make and a package registry.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export YOLO_AUTOINSTALL = false
export YOLO_OFFLINE = true

.PHONY: demo test lint types bench ci setup clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Identrix needs Python 3.11 or newer; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e '.[dev]'
	# opencv-python needs libGL; a server without a screen may lack it, and the headless wheel is the same code.
	$(BIN)/python -c 'import cv2' 2>/dev/null || { $(BIN)/uv pip uninstall -q --python $(BIN)/python opencv-python && \
	  $(BIN)/uv pip install -q --python $(BIN)/python "opencv-python-headless==$$(sed -n 's/^opencv-python==//p' constraints.txt)"; }
	touch $(READY)

demo: $(READY)   ## render a small site, run the whole path on it, score it
	$(BIN)/python run_pipeline.py demo

test: $(READY)   ## all tests; those that need footage or weights are skipped when they are absent
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)  ## writes bench/*.json
	$(BIN)/python -m tests.benchmarks.run_all

ci: lint types test

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis bench
