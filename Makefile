# Every target works from a clean clone; the first one that runs sets up .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  ?= .venv-peers
PEERED := $(PEERS)/.installed
MODELS ?= models
FUZZ   ?= 10
DEMO   := $(MODELS)/digits/1/model.json $(MODELS)/diabetes/1/model.json

.PHONY: help setup models serve test fuzz lint check bench bench-serving uci techniques docs docker-test clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv with everything pinned in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[service,grpc,eval,otel,tune,dev]'
	@touch $@

models: $(DEMO) ## Train the demo models (under two minutes)

# &: one run makes both, also under make -j
$(DEMO) &: | $(STAMP)
	$(BIN)/mcdrop demo --output $(MODELS)

serve: setup models ## Train the demo models if need be and serve them on 127.0.0.1:8000
	MCDROP_MODELS=$(MODELS) OMP_WAIT_POLICY=passive exec $(BIN)/mcdrop serve

# One process a core, each with one thread; what measures time or memory comes after, alone.
test: setup ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests mcdrop service -m 'not docker and not alone' -n auto --dist loadfile
	$(BIN)/python -m pytest tests -m alone

fuzz: setup ## Let the fuzzers of `make test` try for ten times as long, each time anew
	MCDROP_FUZZ=$(FUZZ) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -m fuzz -n auto --dist loadfile

lint: setup ## Format, lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test docs ## Everything that must be green before a commit lands

bench: $(PEERED) ## Measure against the naive loop and the peers, and write docs/benchmarks.md
	$(PEERS)/bin/python -m benchmarks
	$(PEERS)/bin/python -m benchmarks.report

bench-serving: models $(PEERED) ## Load the server, beside LitServe, and write docs/serving-benchmarks.md (an hour, idle machine)
	$(BIN)/python -m benchmarks.serving --models $(MODELS) --peers $(PEERS)/bin/python; status=$$?; \
	$(BIN)/python -m benchmarks.serving.document; exit $$status

# An environment of their own: what the peers bring is no business of the project's
$(PEERED): pyproject.toml constraints.txt benchmarks/peers.txt
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[eval]'
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt -r benchmarks/peers.txt
	@touch $@

uci: setup ## Run the UCI protocols on the sets in the folder UCI, and write docs/uci.md (minutes, idle machine)
	@test -n "$(UCI)" || { echo "say where the sets are: make uci UCI=/path/to/sets"; exit 2; }
	$(BIN)/python -m benchmarks.uci --data $(UCI)
	$(BIN)/python -m benchmarks.uci.document

techniques: setup ## Compare every dropout technique, and write docs/techniques.md (half an hour)
	$(BIN)/mcdrop compare --output benchmarks/results/techniques --force --folds 3 --seeds 3
	$(BIN)/python -m docs.techniques benchmarks/results/techniques

docs: setup ## Redraw the picture and check that the documents' links lead somewhere
	$(BIN)/python -m docs.picture
	$(BIN)/python -m docs.links

docker-test: setup ## Build and run the Dockerfile with buildah, no daemon needed (root, Debian)
	$(BIN)/python -m pytest tests/docker -m docker

clean: ## Remove what make made
	rm -rf $(VENV) $(PEERS) $(MODELS) .docker-test .mypy_cache .pytest_cache .ruff_cache .hypothesis
