# Every verb of the platform: `make help`. Each is a thin call of DVC, MLflow or one module.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
TASK ?=
ARCH ?=
STAGE ?= staging
PORT ?= 5001
UV_VERSION := 0.13.8

BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false
export MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK := true
export GX_ANALYTICS_ENABLED := false
export DVC_NO_ANALYTICS := 1

READY := .venv/.ready
need_task = $(if $(TASK),,$(error name the task: make $@ TASK=drug_response))

.PHONY: help demo data validate train ablate register serve score ui test lint format bench lock clean

help: ## list the verbs
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another with make PYTHON=python3.12 ...")'
	@echo "setting up .venv (the first time this downloads a few gigabytes: PyTorch and its CUDA libraries)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	@touch $@

demo: $(READY) ## set up, pull the simulated sample, run everything, show the leaderboard
	@[ -d data ] || dvc pull data.dvc
	@before=$$(git hash-object dvc.lock 2>/dev/null || true); \
	dvc repro $$(python -m pipelines.targets --demo) && dvc repro --single-item $$(python -m pipelines.targets --leaderboards); \
	if [ "$$before" = "$$(git hash-object dvc.lock)" ]; then echo "nothing to do: data, code and parameters are as they were"; fi
	@for task in $$(ls data); do python -m evaluation.leaderboard --task $$task --show; done
	@printf '\nNext:\n'
	@printf '  %s\n' "make ui                                   compare the runs in the MLflow UI" \
		"make register TASK=drug_response          register the best model; staging if its margin is proved" \
		"make serve TASK=drug_response             serve it on port $(PORT)" \
		"make data FROM=DIR TASK=drug_response     bring your own data, then: make train TASK=drug_response"

data: $(READY) ## FROM=DIR [TASK=T]: copy data in, check it, record it in DVC
	@$(if $(FROM),,$(error name the folder: make data FROM=DIR [TASK=T]))python -m pipelines.bring --from "$(FROM)" $(if $(TASK),--task $(TASK))

validate: $(READY) ## TASK=T: check and audit the raw data, write validation.json, audit.json and Data Docs to reports/T
	@$(need_task)dvc repro validate@$(TASK) audit@$(TASK)

train: $(READY) ## TASK=T [ARCH=A] [BUDGET=quick|full]: tune, fit, evaluate; show the leaderboard
	@$(need_task)$(if $(BUDGET),sed -i.old -E 's/^budget: *[a-z]+/budget: $(BUDGET)/' params.yaml && rm -f params.yaml.old,true)
	@failed=0; dvc repro --keep-going $(if $(ARCH),evaluate@$(TASK)-$(ARCH),leaderboard@$(TASK)) || failed=$$?; \
	python -m evaluation.leaderboard --task $(TASK) $(if $(ARCH),,--show); exit $$failed

ablate: $(READY) ## TASK=T ARCH=A [PERMUTATIONS=3]: refit a recurrent network with its genes in random order
	@$(if $(and $(TASK),$(ARCH)),,$(error name both: make $@ TASK=gene_expression ARCH=lstm))python -m evaluation.ablation --task $(TASK) --architecture $(ARCH) $(if $(PERMUTATIONS),--permutations $(PERMUTATIONS))

register: $(READY) ## TASK=T [ARCH=A]: register the best model; staging only if its margin is proved
	@$(need_task)python -m serving.register --task $(TASK) $(if $(ARCH),--architecture $(ARCH))

serve: $(READY) ## TASK=T [STAGE=staging] [PORT=5001]: mlflow models serve
	@$(need_task)mlflow models serve -m models:/$(TASK)@$(STAGE) --env-manager local --host 127.0.0.1 --port $(PORT)

score: $(READY) ## MODEL=URI DATA=DIR: metrics with intervals on any labelled folder, one line of JSON
	@$(if $(and $(MODEL),$(DATA)),,$(error name both: make score MODEL=models:/drug_response@staging DATA=DIR))python -m evaluation.score --model "$(MODEL)" --data "$(DATA)"

ui: $(READY) ## the MLflow UI on port 5000
	@mlflow server --host 127.0.0.1 --port 5000

test: $(READY) ## every test
	@OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile

lint: $(READY) ## ruff (check and format) and mypy
	@ruff check . && ruff format --check . && mypy

format: $(READY) ## let ruff mend what it can
	@ruff check --fix . ; ruff format .

bench: $(READY) ## speed and memory as ratios, measured side by side
	@python -m tests.bench

lock: $(READY) ## resolve pyproject.toml anew into requirements.lock (pinned, hashed)
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet -o requirements.lock

clean: ## remove what runs made (runs, models, reports), not data or .venv
	@rm -rf models reports prepared checkpoints cache optuna.db mlflow.db mlruns mlartifacts .incoming
