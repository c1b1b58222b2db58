# `make demo` and `make test` do all of their own set-up; the second time they start at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
DATA ?= ../shared/data

.PHONY: demo test check slow browser parity clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/clear-service demo --port $(PORT)

test: $(VENV)/.dev
	$(BIN)/pytest

# What CI runs beyond the tests above.
check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: $(VENV)/.dev
	$(BIN)/pytest -m slow --timeout 900

browser: $(VENV)/.dev
	$(BIN)/pytest -m browser

# XQuAD, query language -> English, through the code that serves.
parity: $(VENV)/.dev
	$(BIN)/clear-trainer evaluate xquad $(DATA)/xquad --direction en-en --direction L-en

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[cpu,demo]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[cpu,demo,train,dev]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build *.egg-info
