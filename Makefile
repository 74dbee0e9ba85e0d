# Every target sets up .venv first; `make repro` and `make test` are all a newcomer needs.
SHELL := /bin/sh
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)

.PHONY: repro test test-slow lint setup constraints

repro: .venv/ready
	.venv/bin/dvc repro

test: .venv/ready lint
	.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: .venv/ready
	.venv/bin/python -m pytest -m slow --timeout 1500 -n 2 --dist loadfile

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell
	.venv/bin/mypy

setup: .venv/ready

# Interrupted or outdated environments are completed, never trusted: the stamp comes last.
.venv/ready: pyproject.toml constraints.txt overrides.txt $(filter .uv/%,$(UV))
	test -x .venv/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip install --quiet --compile-bytecode --python .venv/bin/python --constraints constraints.txt \
		--overrides overrides.txt \
		--editable '.[evaluation,export,heic,jxl]' --group pipeline --group dev
	touch .venv/ready

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet uv

# Renews every pin (needs the package index).
constraints:
	$(UV) pip compile --quiet --universal --no-emit-index-url --no-header --upgrade \
		--overrides overrides.txt \
		--python-version 3.11 --extra evaluation --extra export --extra heic --extra jxl --group pipeline --group dev \
		pyproject.toml --output-file constraints.txt
