# ddbench from a fresh clone: `make bench`, then `make test`. Variables are given on the command line: make bench IPC=10

METHOD ?= clpdd
IPC    ?= 1
ENV    := build/python
# an environment that is gone is found or made again
$(if $(wildcard $(shell cat $(ENV) 2>/dev/null)),,$(shell rm -f $(ENV) build/test build/dev build/docs))
# -P: the folders datasets/ and methods/ here must not shadow packages of those names
RUN     = "$$(cat $(ENV))" -P -m
# the best cheap real images stand beside every method, and random and full join by themselves
GRID    = $(if $(SUITE),--suite '$(SUITE)',-m '$(METHOD)' -m centroids --ipc $(IPC))
PAPER   = $(wildcard suites/$(TABLE).yaml suites/$(TABLE)-*.yaml)
TABLES  = $(patsubst suites/%.yaml,%,$(wildcard suites/lgm-*.yaml suites/mkdt-*.yaml suites/krrst-*.yaml suites/clpdd-imagenet*.yaml))
SETUP   = $(firstword $(PYTHON) python3) .ci/install.py

.PHONY: help install bench paper test regress faults hostile perf perf-gpu pretrain tables lint check site clean build/tree

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1@\2/p' $(MAKEFILE_LIST) | column -s @ -t 2>/dev/null || grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST)

install: $(ENV) ## find or make an environment and install ddbench into it: TORCH=cpu without NVIDIA's libraries
	@echo "ddbench is installed for $$(cat $(ENV))"

bench: $(ENV) ## distil, evaluate, print the table: METHOD=clpdd IPC=1 BACKBONE= DATASET= SUITE=file.yaml ARGS=
	@$(RUN) ddbench run $(GRID) $(if $(BACKBONE),-b '$(BACKBONE)') $(if $(DATASET),-d '$(DATASET)') $(ARGS)

paper: $(ENV) ## reproduce a published table beside its claims: TABLE=lgm-1 ARGS=--dry-run (docs/reproduce.md)
	$(if $(PAPER),,$(error no suites/$(TABLE).yaml; TABLE is one of $(TABLES), or what several of them start with (lgm-1, mkdt)))
	@$(RUN) ddbench run $(addprefix --suite ,$(PAPER)) $(ARGS)

test: build/test ## all tests: ARGS are pytest's
	@$(RUN) pytest $(ARGS)

regress: $(ENV) ## run the regression suite and compare it with results/reference
	@rm -rf results/runs/regress
	@$(RUN) ddbench run --suite suites/regress.yaml --out results/runs/regress
	@$(RUN) ddbench compare results/reference/regress results/runs/regress

faults: $(ENV) ## kills, full disks, limits and bad plugins, about ten minutes: ARGS="--short | --kills N | --seed S | --only WORD | --ray"
	@PYTHONPATH='$(CURDIR)/tools' $(RUN) faults $(ARGS)

hostile: build/test ## 14,000 cases of hostile input, made up anew each time; `make test` has 700
	@HYPOTHESIS_PROFILE=night $(RUN) pytest -q tests/test_hostile.py tests/test_hostile_files.py $(ARGS)

perf: $(ENV) ## speed and memory at mini scale on the CPU, minutes: ARGS="--threads 1 --out DIR"
	@PYTHONPATH='$(CURDIR)/tools' $(RUN) perf --cases cpu --device cpu $(ARGS)

perf-gpu: build/tree ## the same with ViT-B on one GPU, at most 10 minutes: needs torch and timm for PYTHON, no network
	@PYTHONPATH='$(CURDIR)/build/tree:$(CURDIR)/tools'"$${PYTHONPATH:+:$$PYTHONPATH}" $(firstword $(PYTHON) python3) -P -m perf --cases gpu --device cuda $(ARGS)

pretrain: $(ENV) ## train an embedded backbone again: NAME=mini_vit_mae DATA='arrays[path=cifar100]' OUT=DIR ARGS= (docs/backbones.md)
	@PYTHONPATH='$(CURDIR)/tools' $(RUN) pretrain '$(NAME)' -d $(foreach spec,$(DATA),'$(spec)') --out '$(or $(OUT),build/zoo)' $(ARGS)

tables: $(ENV) ## renew the tables and figures of the documents from results/reference: ARGS=--check
	@PYTHONPATH='$(CURDIR)/tools' $(RUN) doc_blocks $(ARGS)

site: build/docs ## the documentation as a site in build/site
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet
	@echo "build/site/index.html"

lint: build/dev ## ruff: lint and format
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

check: build/dev ## pyright: types
	@$(RUN) pyright --pythonpath "$$(cat $(ENV))"

clean: ## remove caches and build output; keeps results and .venv
	@rm -rf build dist ./*.egg-info .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Stamps: each holds the interpreter and is newer than what it was made from.
$(ENV): pyproject.toml .ci/install.py
	@mkdir -p build
	@PYTHON='$(PYTHON)' TORCH='$(TORCH)' $(SETUP) > $@.new
	@mv $@.new $@

build/test build/dev build/docs: build/%: $(ENV)
	@PYTHON="$$(cat $(ENV))" $(SETUP) --extra $* > $@.new
	@mv $@.new $@

# The package as links into this tree, for machines where nothing can be installed.
build/tree:
	@mkdir -p $@/ddbench
	@for file in ddbench/*.py benchmark methods evaluation backbones datasets core; do ln -sfn ../../../$$file $@/ddbench/; done
