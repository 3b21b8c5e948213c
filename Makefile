# Two commands from a fresh clone: `make demo` and `make test`. Both need Python 3.11+ and nothing else.
SHELL := bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: demo test check types tests test-slow test-vllm test-machines format docs site builtin-model bench-account bench-train bench-score clean

demo: $(STAMP)
	@$(BIN)/dpaudit demo

test: $(STAMP)
	@$(MAKE) --no-print-directory check

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory --jobs 2 types tests

types: $(STAMP)
	$(BIN)/mypy

# Three processes on two cores: one fills the gaps in which a test of locks or signals waits. Compiled files are
# kept whatever the environment says: each process, and each command that a test starts, would compile them again
tests: export PYTHONDONTWRITEBYTECODE :=
tests: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP)
	@$(PIP) -e '.[dev,docs]'
	@mkdir -p build
	set -o pipefail; $(BIN)/python -m pytest -m slow -rA --durations=0 --numprocesses 2 --dist loadfile | tee build/slow.txt
	$(BIN)/python tests/slow_summary.py build/slow.txt > build/SLOW.md && mv build/SLOW.md tests/SLOW.md

# vLLM wants other versions of libraries: an environment of its own, with the build for processors
VLLM := .venv-vllm
test-vllm: $(VLLM)/.installed
	$(VLLM)/bin/python -m pytest -m slow tests/models/test_vllm.py

$(VLLM)/.installed: constraints-vllm.txt
	@test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-vllm.txt
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# with a real Ray and submitit; where a Slurm answers, with that too
test-machines: $(STAMP)
	@$(PIP) -e '.[dev,ray,slurm]'
	$(BIN)/python -m pytest -m slow -rs tests/machines

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python tests/regenerate_docs.py

# build/site/index.html opens without a server; a link that leads nowhere fails
site: $(STAMP)
	@$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo build/site/index.html

builtin-model: $(STAMP)
	$(BIN)/python -m dpaudit.training.pretrain

# half an hour on one core; leave the machine alone meanwhile
bench-train: $(STAMP)
	$(BIN)/python benchmarks/operations.py --out benchmarks/results/operations.json
	$(BIN)/python benchmarks/train_step.py --out benchmarks/results/train_step.json

# 55 to 100 minutes on 2 cores; leave the machine alone meanwhile
bench-score: $(STAMP)
	$(BIN)/python benchmarks/score.py --out benchmarks/results/score.json
	$(BIN)/python benchmarks/score_recipes.py --out benchmarks/results/score_recipes.json
	$(BIN)/python benchmarks/attackers.py --out benchmarks/results/attackers.json

bench-account: $(STAMP)
	$(BIN)/python benchmarks/account.py --out benchmarks/results/account.json

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache *.egg-info

# torch first and alone: resolved with the rest, a newer and far larger build may be taken
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "dpaudit needs Python 3.11 or newer with venv: install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "installing into $(VENV) with $(PYTHON): about 2 minutes and 2 GB, once" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $(TORCH)
	@$(PIP) -e '.[dev]'
	@touch $@
