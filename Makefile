# `make demo` and `make test` need Python 3.11 or newer and nothing else; both make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Runs wait much, for processes that start one after the other, so two files of tests are run at a time.
LOCAL = $(BIN)/pytest -n 2 --dist loadfile tests/local

# Modules that are not kept compiled are compiled anew in each of a run's processes, which costs seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint unit local cluster cluster-down test-cluster soak gpu bench bench-streaming wheel lock lock-onebox clean
.DEFAULT_GOAL := help

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "runner needs Python 3.11 or newer; $(PYTHON) is older. Say: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' constraints.txt | \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement /dev/stdin
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		--build-constraint constraints.txt --compile-bytecode --editable '.[all,examples,dev,onebox]'
	@touch $(READY)

demo: $(READY)  ## The main job on this machine: the standard library's source -> tokens -> a small GPT
	$(BIN)/runner submit jobs/stdlib_gpt.py

lint: $(READY)  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

unit: $(READY)  ## Tests that start no run
	$(BIN)/pytest -n logical tests/unit

local: $(READY)  ## Tests with real runs on this machine
	$(LOCAL)

test: lint  ## Style, types, all tests but those on Kubernetes (of those a short one, where the cluster is up)
	$(BIN)/pytest -n logical tests/unit
	$(LOCAL)
	@if $(BIN)/python -m runner.onebox status >/dev/null 2>&1; then $(BIN)/pytest tests/cluster -m smoke; \
		else echo "no one-machine cluster is up, so nothing was tested on Kubernetes: make cluster, make test-cluster"; fi

cluster: $(READY)  ## A real one-machine Kubernetes with KubeRay, Kueue and S3 (needs root; see docs/onebox.md)
	$(BIN)/python -m runner.onebox up

cluster-down: $(READY)  ## Remove every trace of it
	$(BIN)/python -m runner.onebox down

# On the cluster of RUNNER_TEST_KUBECONFIG, or on the one-machine cluster; where there can be neither, tests say why.
test-cluster: $(READY)  ## Tests on a real Kubernetes
	@test -n "$(RUNNER_TEST_KUBECONFIG)" || $(BIN)/python -m runner.onebox build || true
	$(BIN)/pytest tests/cluster -m "not soak"

soak: cluster  ## Tests that take long, or take the cluster down
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[sweep]'
	$(BIN)/pytest tests/unit tests/local -m soak
	$(BIN)/pytest tests/cluster -m soak

gpu: $(READY)  ## Tests on a GPU of this machine
	$(BIN)/pytest tests/unit -m gpu

bench: $(READY)  ## How quickly a run starts, beside its peers
	$(BIN)/python benchmarks/startup.py

bench-streaming: $(READY)  ## How fast rows come out of files, beside the bare limit and other loaders
	$(BIN)/python -m benchmarks.streaming

wheel: $(READY)  ## The distribution, in dist/
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python

lock: $(READY)  ## Newer versions of everything, pinned
	$(BIN)/uv pip install --quiet --python $(BIN)/python --upgrade --editable '.[all,examples,dev,onebox,sweep]'
	{ echo '# Every package that an environment of runner holds, pinned with the hashes of its files; `make lock` writes it anew.'; \
	  $(BIN)/uv pip freeze --python $(BIN)/python --exclude-editable | $(BIN)/uv pip compile --quiet --no-deps --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate -; } > constraints.new
	mv constraints.new constraints.txt

lock-onebox: $(READY)  ## The hashes of the modules that the one-machine cluster is compiled from (needs Go)
	$(BIN)/python -c 'from runner.onebox import build, versions; build.SUMS.write_text(build.sums((*versions.EVERYTHING, *versions.FOR_TESTS)))'

clean:  ## Remove what was made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
