# Everything here sets itself up: a Python with venv is all it needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VISION_READY := .vision/.ready
LOWEST_READY := .lowest/.ready
JOBS ?= 2

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export OMP_NUM_THREADS ?= 1
# tests start many processes, and each imports PyTorch: Python keeps what it compiles
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test slow lowest fuzz lint format types imports doctest docs site study evidence evaluate survey \
  examples check clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile -e ".[hf,sweep,ray,optimizers,dev,docs]"
	$(BIN)/pip install --quiet --no-deps mup  # its metadata ask for torchvision, which it never imports
	touch $@

# Beside the environment, not in it: a torchvision of another build than torch breaks `transformers`.
$(VISION_READY): $(READY)
	$(BIN)/pip install --quiet --no-compile --no-deps --upgrade --target .vision torchvision timm
	touch $@

demo: $(READY) ## tune a shallow GPT, train one eight times deeper, print each rule's regret
	$(BIN)/etastar demo

lint format types imports doctest docs site study evidence evaluate: $(READY)

test: $(READY) $(VISION_READY) ## all tests but the slow ones, the examples of README and docs among them
	$(BIN)/pytest -m "not slow" -n $(JOBS) --dist worksteal

slow: $(READY) $(VISION_READY) ## the slow tests: kills, browsers, stored experiments, training
	$(BIN)/pytest -m slow -n $(JOBS) --dist worksteal

# What each dependency serves: sweeps and their stores, commands, pages, models and data by name.
LOWEST_TESTS := tests/contracts/test_stores.py tests/sweep/executors/test_ray.py \
  tests/integrations/test_optuna_prior.py tests/cli/test_application.py \
  tests/report/test_page.py tests/report/test_figures.py tests/sources/test_model_spec.py \
  tests/datasets/test_hugging_face.py tests/integrations/test_transformers.py

$(LOWEST_READY): pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .lowest
	PIP_CONSTRAINT=constraints-lowest.txt .lowest/bin/pip install --quiet --no-compile \
	  -e ".[hf,sweep,ray,plotly,plot]" hypothesis psycopg2-binary pytest pytest-xdist
	touch $@

lowest: $(LOWEST_READY) ## the lowest versions of pyproject.toml, under the tests of what they serve
	.lowest/bin/pytest -o filterwarnings=default -n $(JOBS) --dist worksteal $(LOWEST_TESTS)

survey: $(READY) $(VISION_READY) ## capture some 500 networks of torchvision, timm and transformers: docs/survey.md
	$(BIN)/python -W ignore benchmarks/survey.py

fuzz: $(READY) ## the property tests under twenty seeds
	files=$$(grep -rl --include='test_*.py' -E '^(from|import) hypothesis' tests); \
	for seed in {1..20}; do \
	  $(BIN)/pytest -q -m "hypothesis and not slow" --hypothesis-profile=random \
	    --hypothesis-seed=$$seed $$files || exit 1; \
	done

lint: ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: ## put the format right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: ## strict types
	$(BIN)/mypy

imports: ## imports point down the list of layers
	$(BIN)/lint-imports --no-logo

doctest: ## the examples of the docstrings
	$(BIN)/pytest --doctest-modules --pyargs etastar studies -n $(JOBS)

docs: ## the examples of README and docs, and the documentation site in docs/_build
	$(BIN)/pytest tests/test_documents.py
	$(MAKE) site

site: ## the documentation site alone; a warning is an error
	$(BIN)/sphinx-build -b html -W --keep-going --quiet docs docs/_build

study: ## an experiment of the papers: make study NAME=resnet SCALE=cpu
	$(BIN)/python -m studies $(NAME) --scale $(or $(SCALE),cpu)

evidence: ## the pages of the evidence in docs/ and what law="auto" knows, from the stored results
	$(BIN)/python -m studies.evidence

evaluate: ## the stored experiments again, from their stored runs
	$(BIN)/python -m studies.evaluate

examples: ## each example with the extra that it names and nothing else: make examples EXTRA=timm
	$(PYTHON) .ci/examples.py $(EXTRA)

check: test slow lint types imports doctest site lowest examples ## what CI runs

clean: ## remove what the targets made
	rm -rf $(VENV) .lowest .vision .hypothesis .mypy_cache .ruff_cache .import_linter_cache docs/_build \
	  docs/_generated
