# Every task a person does. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export GANNET_HOME ?= $(CURDIR)/.gannet

PACKAGES := libs/protos libs/kernels libs/lexical libs/inference libs/service libs/edge libs/client \
            services/embedder services/reranker services/generator services/gateway
CONFIGS := gannet_gateway.config:GatewayConfig gannet_embedder.config:EmbedderConfig gannet_reranker.config:RerankerConfig \
           gannet_generator.config:GeneratorConfig gannet_edge.config:EdgeConfig
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help
help: ## list these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- a newcomer's four --------------------------------------------------------------------------------------------------

.PHONY: demo run test
demo: setup ## from nothing to a streamed, cited answer over the Python documentation
	@$(BIN)/gannet demo

run: setup ## the whole stack on this machine until Ctrl-C
	@$(BIN)/gannet up

test: setup-dev models ## all tests; sets up what is missing
	$(BIN)/python -m pytest

check: lint types imports packages test ## everything that CI runs

# ---- environment --------------------------------------------------------------------------------------------------------

.PHONY: setup setup-dev models lock
setup: $(VENV)/.ready ## create the environment from pinned versions
setup-dev: $(VENV)/.ready-dev

# Two steps on purpose: with one hash among the requirements pip demands hashes of everything, our editables included.
$(VENV)/.ready: requirements.lock $(PACKAGES:=/pyproject.toml)
	@command -v $(PYTHON) >/dev/null || { echo "gannet needs Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gannet needs Python 3.11 or newer, found $$($(PYTHON) -V)"; exit 2; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no venv module (Debian: apt-get install python3-venv)"; exit 2; }
	@echo "installing pinned versions into $(VENV) ..."
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
	@touch $@

$(VENV)/.ready-dev: requirements-dev.lock $(VENV)/.ready
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

models: setup ## fetch, verify, build and cache the built-in models
	@$(BIN)/gannet models build

lock: setup-dev ## resolve requirements*.in into requirements*.lock
	@for name in requirements requirements-dev; do \
	  $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet $$name.in -o $$name.lock; done

# ---- checks -------------------------------------------------------------------------------------------------------------

.PHONY: check lint types imports packages format protos config-docs mutations consistency isolation
lint: setup-dev ## ruff: rules and format
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet . && echo "lint: ok"

types: setup-dev ## pyright, strict
	@$(BIN)/pyright

imports: setup-dev ## who may import whom
	@$(BIN)/lint-imports

packages: setup-dev ## install every package alone into an empty environment and import it
	@$(BIN)/python tests/packaging/install_alone.py

format: setup-dev ## rewrite the code in the one format
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

protos: setup-dev ## regenerate the stubs of libs/protos from protos/
	@$(BIN)/python libs/protos/generate.py libs/protos/src

config-docs: setup-dev ## rewrite docs/configuration.md
	@$(BIN)/python -m gannet_service.reference $(CONFIGS) > docs/configuration.md

mutations: setup-dev models ## break each rule on purpose; every break must fail its test
	@$(BIN)/python tests/mutations/run.py

isolation: setup-dev models ## 100,000 rows of overlapping probes between tenants and between readers; ROWS=100000
	GANNET_ISOLATION_ROWS=$(or $(ROWS),100000) $(BIN)/python -m pytest tests/integration/gateway/test_isolation.py -s

consistency: setup-dev ## many seeds of crashes against snapshot consistency; SEEDS=100, and a tenth of that with whole processes
	GANNET_CONSISTENCY_SEEDS=$(or $(SEEDS),100) GANNET_CONSISTENCY_PROCESS_SEEDS=$$(( ($(or $(SEEDS),100) + 9) / 10 )) \
	  $(BIN)/python -m pytest tests/consistency -x

# ---- measurements -------------------------------------------------------------------------------------------------------

.PHONY: eval bench-stack bench-graph bench-kernels bench-embed bench-rerank bench-embed-latency bench-overload bench-search bench-ingest bench-extractive bench-verify clean bench-answer
eval: setup-dev models ## retrieval quality on ../shared/data, tables and a plot; GENERATOR=name adds multi-query expansion (long)
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/eval_retrieval.py $(if $(GENERATOR),--generator $(GENERATOR))

bench-stack: setup models ## seconds to healthy, and back after kill -9 of each process
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/bench_stack.py

bench-graph: setup models ## tokens a second of the encoder graphs, and their share of the int8 bound
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/bench_graph.py

bench-kernels: setup ## every kernel beside NumPy and the libraries made for its work; installs them for itself (1 minute)
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/bench_kernels.py

bench-embed: setup models ## embedding throughput beside other systems; installs them for itself (12 minutes)
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/bench_embed.py

bench-rerank: setup models ## reranking throughput beside other systems; installs them for itself (4 minutes)
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/bench_rerank.py

.PHONY: bench-generate
bench-generate: setup ## our decoder beside onnxruntime-genai on the same graphs; installs it for itself (10 minutes)
	@PYTHONPATH=tests/bench:tests $(BIN)/python tests/bench/bench_generate.py

bench-embed-latency: setup models ## one query through the embedder beside a bare session.run, and with the bulk lane full
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/bench_embed_latency.py

bench-extractive: setup-dev models ## quoted answers and refusals over thresholds on ../shared/data, tables and plots (20 minutes)
	@for split in train test; do PYTHONPATH=tests/bench $(BIN)/python tests/bench/calibrate_answers.py --split $$split; done

bench-verify: setup-dev models ## claims told from claims that the sources do not support, on ../shared/data (20 minutes)
	@for split in train test; do PYTHONPATH=tests/bench $(BIN)/python tests/bench/calibrate_verify.py --split $$split; done

bench-overload: setup models ## the embedder under five times its capacity: goodput, refusals, memory, recovery
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/bench_overload.py

bench-search: setup models ## searches of 100,000 passages beside a haystack pipeline; installs it for itself (10 minutes, the first time more)
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/bench_search.py

bench-ingest: setup models ## documents through the whole stack beside the embedder alone; memory (4 minutes)
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/bench_ingest.py

bench-answer: setup models ## whole extractive answers from 100,000 passages, stage by stage (3 minutes, the first time more)
	@PYTHONPATH=tests/bench $(BIN)/python tests/bench/bench_answer.py

clean: ## remove the environment, models and data of this checkout
	rm -rf $(VENV) .gannet bench-results dist
