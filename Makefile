PYTHON ?= python3
PY := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-all test-products test-fast test-gpu lint format clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/  -/'

# The stamp follows requirements.txt: a changed pin rebuilds nothing but what differs.
# opencv-python needs libGL; on a machine without it the headless build of the same
# version is put over it.
.venv/installed: requirements.txt
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --requirement requirements.txt
	$(PY) -c 'import cv2' 2>/dev/null || $(PY) -m pip install --quiet --no-deps \
		--force-reinstall $$(sed -n 's/^opencv-python==/opencv-python-headless==/p' requirements.txt)
	touch $@

demo: .venv/installed  ## train a small network end-to-end and as local modules, compare
	$(PY) tools/demo.py

test: .venv/installed  ## run the tests, a sample of the long products among them
	$(PY) -m pytest --numprocesses auto --dist worksteal -m 'not exhaustive'

test-all: .venv/installed  ## run every test, long products of settings in pairs
	$(PY) -m pytest --numprocesses auto --dist worksteal -m 'not product'

test-products: .venv/installed  ## run what test-all leaves of these products
	$(PY) -m pytest --numprocesses auto --dist worksteal -m product

test-gpu: .venv/installed  ## run the tests that need a CUDA device
	$(PY) -m pytest tests/gpu -rs

test-fast: .venv/installed  ## run the tests that take under a second each
	$(PY) -m pytest --numprocesses auto -m 'not slow and not dist and not exhaustive'

lint: .venv/installed  ## ruff (lint, format, docstrings), mypy, who may import whom
	$(PY) -m ruff check .
	$(PY) -m ruff check --preview --select PLC2701 infopro_seg  # private imports
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo

format: .venv/installed  ## rewrite files in the project's format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:  ## remove the environment and everything that was made
	rm -rf .venv demo_output build dist *.egg-info
