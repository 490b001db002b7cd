# `make` shows what there is. Everything works as an ordinary user, with Python 3.11 or newer and nothing else.
.DEFAULT_GOAL := help
.PHONY: help setup run test properties check generate bench soak faults lock clean

UV_VERSION := 0.13.9
LOCKING := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# uv brings certificate authorities of its own; where the machine keeps a list (perhaps with a company's), that one counts.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \
	/etc/ssl/cert.pem),true,false)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.tools
# Where uv is: in the environment, or already on this machine when the environment cannot hold it.
UV = $$(cat $(VENV)/.uv)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Make the environment and install what is locked (done by the others when needed)

run: $(INSTALLED) ## Start the product: server, workers and what they need; Ctrl-C stops it
	@exec $(BIN)/pipelit up

test: $(TOOLS) ## Run the whole suite, on SQLite and PostgreSQL (ARGS=... goes to pytest)
	@$(BIN)/pytest -n 2 --database both --randomly-seed 1 $(ARGS)

properties: $(TOOLS) ## Try the properties on 20 times as many examples, new ones in each run (ARGS=... goes to pytest)
	@$(BIN)/pytest -n 2 -m hypothesis --hypothesis-profile search $(ARGS)

check: $(TOOLS) ## Style, types, import contracts, spelling, and whether generated files are fresh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/pipelit generate --check

generate: $(TOOLS) ## Write the generated files: API description, node and settings reference
	@$(BIN)/pipelit generate

bench: $(INSTALLED) ## Measure: hops, throughput, webhook latency, live events, memory, start
	@$(BIN)/python -m bench

faults: $(TOOLS) ## Kill, pause and cut off everything under load, and look for what was lost (ARGS=... goes to the suite)
	@$(BIN)/python -m tests.faults $(ARGS)

soak: $(INSTALLED) ## Run 20,000 executions and show that nothing grows (ARGS="--executions N" for fewer)
	@$(BIN)/python -m bench.soak $(ARGS)

lock: $(INSTALLED) ## Resolve the newest allowed versions into requirements.lock
	$(UV) pip compile $(LOCKING) --upgrade setup.cfg -o requirements.lock
	$(UV) pip compile $(LOCKING) --upgrade --extra dev -c requirements.lock setup.cfg -o requirements-dev.lock

clean: ## Remove the environment and everything built (the data in var/ stays)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*

$(INSTALLED): requirements.lock setup.cfg pyproject.toml $(VENV)/.uv
	@echo "Installing what requirements.lock names ..."
	@# Compiled here, once: some machines forbid Python to write bytecode, and then every process compiles for seconds.
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@$(BIN)/python -m compileall -q pipelit celeryconfig.py wsgi.py
	@touch $@

$(TOOLS): $(INSTALLED) requirements-dev.lock
	@echo "Installing the tools for tests and checks ..."
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.uv:
	@test -n "$(PYTHON)" || { echo "Pipelit needs Python 3.11 or newer; none was found." >&2; exit 1; }
	@echo "Making the environment with $(PYTHON) ..."
	@sh .ci/bootstrap "$(PYTHON)" "$(VENV)" "$(UV_VERSION)"
