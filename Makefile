# Every routine task. `make demo` and `make test` set everything up by themselves, from a machine that
# has python3 (3.11 or newer), git and make.

PYTHON ?= python3
UV := uv==0.13.8
BIN := .venv/bin
PEERS := .venv-peers/bin
ARGS ?=
READY := .venv/.ready

.PHONY: help demo test check docs format lock glyphs peers clean
.DEFAULT_GOAL := help

help:  ## List every target.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY)  ## Adapt the bundled network to handwritten digits, register in .demo, promote, serve. ARGS=--exit ends by itself.
	$(BIN)/cultivar --home .demo demo $(ARGS)

test: check  ## Run every check, then every test.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder

check: $(READY)  ## Check lint and format (ruff), types (mypy) and layers (import-linter).
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## Check the documentation against the code: commands, options, metrics, links, paths, symbols.
	$(BIN)/pytest tests/test_docs.py tests/test_architecture.py

format: $(READY)  ## Apply ruff's fixes and its format to the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

glyphs: $(READY)  ## Train bundled:glyphs again and replace its weights and card (needs the fonts that it names).
	$(BIN)/python -m adapters.sources.glyphs.train $(ARGS)

lock: $(READY)  ## Resolve every dependency to its newest allowed version; pin versions and hashes in the lock files.
	$(BIN)/uv pip compile -q pyproject.toml --all-extras --universal --generate-hashes --upgrade \
		--no-emit-index-url --no-annotate --no-header -o requirements.lock
	$(BIN)/uv pip compile -q benchmarks/peers/requirements.in --universal --generate-hashes --upgrade \
		--no-emit-index-url --no-annotate --no-header -o benchmarks/peers/requirements.lock

# uv installs the CUDA stack in seconds; pip only has to bring uv. The lock's hashes bind what is installed.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install -q --disable-pip-version-check '$(UV)'
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install -q --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	touch $@

peers: $(READY)  ## Install the servers that benchmarks compare with into .venv-peers.
	test -x $(PEERS)/python || $(PYTHON) -m venv .venv-peers
	VIRTUAL_ENV=$(CURDIR)/.venv-peers $(BIN)/uv pip install -q --require-hashes -r benchmarks/peers/requirements.lock

clean:  ## Remove the environments, caches and build output; .demo and registries stay.
	rm -rf .venv .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
