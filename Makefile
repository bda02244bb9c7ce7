# Every task a person does. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export GANNET_HOME ?= $(CURDIR)/.gannet

PACKAGES := libs/protos libs/kernels libs/inference libs/service libs/edge libs/client \
            services/embedder services/reranker services/generator services/gateway
PROTO_FILES := $(shell find protos -name '*.proto' | sort)

.PHONY: help
help: ## list these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- environment ------------------------------------------------------------------------------------------------------

# Two steps on purpose: with one hash among the requirements pip demands hashes of everything, our editables included.
$(VENV)/.ready: requirements.lock $(PACKAGES:=/pyproject.toml)
	@command -v $(PYTHON) >/dev/null || { echo "gannet needs Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gannet needs Python 3.11 or newer, found $$($(PYTHON) -V)"; exit 2; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { echo "no venv module (Debian: apt-get install python3-venv)"; exit 2; }
	@echo "installing pinned dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
	@touch $@

.PHONY: setup
setup: $(VENV)/.ready ## create the environment from pinned versions

.PHONY: lock
lock: ## resolve requirements.in into requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet \
	  requirements.in -o requirements.lock

.PHONY: protos
protos: setup ## regenerate the stubs of libs/protos from protos/
	$(BIN)/python libs/protos/generate.py libs/protos/src
