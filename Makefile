# Every target sets up .venv first. `make repro` runs the pipeline, `make test` the checks.
SHELL := /bin/sh
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)

.PHONY: repro test test-slow test-gpu lint setup constraints git

repro: git .venv/ready
	.venv/bin/dvc repro

# Files in their order: else those of few tests come last, which take the longest.
BY_FILE := --dist loadfile --no-loadscope-reorder

test: .venv/ready lint
	.venv/bin/python -m pytest -n auto --maxprocesses 4 $(BY_FILE)

# A part of the fuzzing's inputs and kills; TVQRAP_FUZZ_FACTOR=1 and more try all of them.
test-slow: export TVQRAP_FUZZ_FACTOR ?= 0.3
test-slow: .venv/ready
	.venv/bin/python -m pytest -m slow --timeout 1500 -n 2 $(BY_FILE)

# Prints a table, and writes it as gpu.md into the folder TVQRAP_GPU_REPORT. Takes under 8 minutes.
test-gpu: .venv/ready
	.venv/bin/python -m pytest -m gpu tests/gpu --timeout 140 -n 0 -rs

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell
	.venv/bin/mypy

setup: .venv/ready

# DVC needs a git repository, which an unpacked archive is not.
git:
	@git rev-parse --git-dir >/dev/null 2>&1 || { echo "make repro: this folder is not a git" \
		"repository, which DVC needs; run: git init && git add -A && git commit -m start" >&2; \
		exit 1; }

# The stamp comes last, so an interrupted or outdated environment is completed.
.venv/ready: pyproject.toml constraints.txt overrides.txt $(filter .uv/%,$(UV))
	test -x .venv/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip install --quiet --compile-bytecode --python .venv/bin/python --constraints constraints.txt \
		--overrides overrides.txt \
		--editable '.[evaluation,export,heic,hub,jxl,ui]' --group pipeline --group dev
	touch .venv/ready

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet uv

# Renews every pin (needs the package index).
constraints:
	$(UV) pip compile --quiet --universal --no-emit-index-url --no-header --upgrade \
		--overrides overrides.txt \
		--python-version 3.11 --extra evaluation --extra export --extra heic --extra hub --extra jxl --extra ui --group pipeline --group dev \
		pyproject.toml --output-file constraints.txt
