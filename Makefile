# Every verb of the platform: `make help`. Each is a thin call of DVC, MLflow or one module.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
TASK ?=
ARCH ?=
export STAGE ?= production
export WORKERS ?= 1
export PORT ?= 5001
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
# Where the environment forbids it, Python would compile every module anew for each command: a second or more.
export PYTHONDONTWRITEBYTECODE :=
# Threads that wait for one another sleep: beside other work, those that spin cost many times the work itself.
export OMP_WAIT_POLICY ?= PASSIVE

# What people type is text: make would expand `$(shell ...)` in a variable of its command line when it hands it on.
$(foreach each,$(.VARIABLES),$(if $(filter command,$(origin $(each))),$(eval override export $(each) := $$(value $(each)))))

# What says that Python and all packages are there. An image brings both: its ONCOLINEAGE_READY is a file that no rule makes.
READY := $(or $(ONCOLINEAGE_READY),.venv/.ready)
need_task = $(if $(value TASK),,$(error name the task: make $@ TASK=drug_response))

.PHONY: trial labels stack federate bom containers coverage croissant docs drevalpy export predict soak tune reproduce monitor promote rollback history verify retrain propose help demo data validate train compare generalize ablate register serve score ui dashboard test lint format bench lock clean backup restore audit

help: ## list the verbs
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

.venv/.ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another with make PYTHON=python3.12 ...")'
	@echo "setting up .venv (the first time this downloads a few gigabytes: PyTorch and its CUDA libraries)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	@touch $@

# Values that people type reach the shell through the environment ("$$TASK"), never as its text.
demo: $(READY) ## set up, pull the simulated samples, run everything, show leaderboards and the answer of a served model
	@[ -d data ] || dvc pull data.dvc
	@python -m serving.demo
	@printf '\nNext:\n'
	@printf '  %s\n' "make ui                                   compare the runs in the MLflow UI" \
		"make serve TASK=drug_response STAGE=staging   serve the model that the demo registered on port $$PORT" \
		"make dashboard                            predict, compare, registry and drift in the browser" \
		"make data FROM=DIR TASK=drug_response     bring your own data, then: make train TASK=drug_response"

data: $(READY) ## FROM=DIR [TASK=T]: copy data in, check it, record it in DVC
	@$(if $(value FROM),,$(error name the folder: make data FROM=DIR [TASK=T]))python -m pipelines.ingest --from "$$FROM" $(if $(value TASK),--task "$$TASK")

validate: $(READY) ## TASK=T: check and audit the raw data, write validation.json, audit.json and Data Docs to reports/T
	@$(need_task)dvc repro "validate@$$TASK" "audit@$$TASK"

croissant: $(READY) ## TASK=T [SOURCE=cnmc] [LICENSE=URL] [CITATION=TEXT] [URL=URL]: files and fields of the raw data as JSON-LD, reports/T/croissant.json
	@$(need_task)python -m pipelines.croissant --task "$$TASK" --source "$${SOURCE:-}" --license "$${LICENSE:-}" --citation "$${CITATION:-}" --url "$${URL:-}"

# The budget of a checkout is in budget.yaml, which git does not see; the tags of a run say what it was made with.
train: $(READY) ## TASK=T [ARCH=A] [BUDGET=quick|full|NAME] [SIDE_BY_SIDE=n]: tune, fit, evaluate; show the leaderboard; a budget holds until another is named
	@$(need_task)python -m pipelines.budget --task "$$TASK" --budget "$${BUDGET:-}" --architecture "$${ARCH:-}"
	@failed=0; $(if $(value ARCH),python -m pipelines.warm_process dvc repro --keep-going "evaluate@$$TASK-$$ARCH",$(if $(value SIDE_BY_SIDE),python -m pipelines.side_by_side --task "$$TASK" --at-once "$$SIDE_BY_SIDE",python -m pipelines.warm_process dvc repro --keep-going "leaderboard@$$TASK")) || failed=$$?; \
	python -m evaluation.leaderboard --task "$$TASK" $(if $(value ARCH),,--show); exit $$failed

# Without WORKERS and CLUSTER this is DVC's own stage.
tune: $(READY) ## TASK=T ARCH=A [WORKERS=n] [CLUSTER=ray://HOST:PORT|local]: n workers on one study; several need PostgreSQL, see docs/tuning.md
	@$(need_task)$(if $(value ARCH),,$(error name the architecture: make tune TASK=... ARCH=mlp))python -m training.tune --task "$$TASK" --architecture "$$ARCH" --workers "$$WORKERS" --cluster "$${CLUSTER:-}"

compare: $(READY) ## TASK=T: every architecture against every other, with corrected significance and cost; reports/T/comparison
	@$(need_task)python -m evaluation.compare --task "$$TASK"

drevalpy: $(READY) ## TASK=T DREVALPY=PROGRAM [MODELS="RandomForest"] [TRANSFORMATION=drug_mean]: drevalpy's models, tuned on the same rows, beside ours
	@$(need_task)$(if $(value DREVALPY),,$(error name its program: make drevalpy TASK=... DREVALPY=ENV/bin/drevalpy))python -m evaluation.beside_drevalpy --task "$$TASK" --drevalpy "$$DREVALPY" $(if $(value MODELS),--models $$MODELS) $(if $(value TRANSFORMATION),--transformation "$$TRANSFORMATION")

generalize: $(READY) ## TASK=T [ARCH="A B"] [MODES="cell_blind random"] [PILOT=10]: every architecture in every split mode, with intervals; goes on where it was broken off
	@$(need_task)python -m evaluation.generalize --task "$$TASK" $(if $(value ARCH),--architectures $$ARCH) $(if $(value MODES),--modes $$MODES) $(if $(value PILOT),--pilot "$$PILOT")

labels: $(READY) ## TASK=T [ARCH=A]: labels that models which never saw the sample doubt, reports/T/labels.html; ANSWERS=DIR: what to label first
	@$(need_task)python -m evaluation.labels --task "$$TASK" $(if $(value ARCH),--architecture "$$ARCH") --answers "$${ANSWERS:-}"

stack: $(READY) ## TASK=T [ARCH="A B"]: a weighted mean of tuned architectures, kept if it is better than its best member; reports/T/stack.json
	@$(need_task)python -m evaluation.stack --task "$$TASK" $(if $(value ARCH),--architectures $$ARCH)

federate: $(READY) ## TASK=T SITES="DIR DIR" [ARCH=mlp] [STRATEGY=fedavg|fedprox] [ROUNDS=20] [EPOCHS=2] [NOISE=1.0] [SECURE=1]: train at sites that keep their rows, beside each alone and all pooled
	@$(need_task)$(if $(value SITES),,$(error name the raw folders, one a site: make federate TASK=... SITES="north south"))dvc repro "prepare@$$TASK" "audit@$$TASK"
	@python -m training.federate --task "$$TASK" --architecture "$${ARCH:-mlp}" --sites $$SITES --strategy "$${STRATEGY:-fedavg}" --rounds "$${ROUNDS:-20}" --epochs "$${EPOCHS:-2}" --noise "$${NOISE:-0}" $(if $(value SECURE),--secure)
	@python -m evaluation.evaluate --task "$$TASK" --architecture "federated_$${ARCH:-mlp}" && python -m evaluation.beside_sites --task "$$TASK" --architecture "$${ARCH:-mlp}" --sites $$SITES

ablate: $(READY) ## TASK=T ARCH=A [PERMUTATIONS=3]: refit a recurrent network with its genes in random order
	@$(if $(and $(value TASK),$(value ARCH)),,$(error name both: make $@ TASK=gene_expression ARCH=lstm))python -m evaluation.ablate --task "$$TASK" --architecture "$$ARCH" $(if $(value PERMUTATIONS),--permutations "$$PERMUTATIONS")

register: $(READY) ## TASK=T [ARCH=A] [BY=NAME] [COHORT=NAME=DIR]: complete the evidence of the best model, make it the candidate, say what the gate says
	@$(need_task)python -m evaluation.candidate --task "$$TASK" $(if $(value ARCH),--architecture "$$ARCH") --cohort "$${COHORT:-}" && python -m serving.register --task "$$TASK" --by "$${BY:-}"

promote: $(READY) ## TASK=T [TO=staging|production] [VERSION=n] [BY=NAME] [WHY=...]: move a version to a stage, if every check of the gate passes
	@$(need_task)python -m serving.promote --task "$$TASK" --to "$${TO:-staging}" --version "$${VERSION:-}" --by "$${BY:-}" --why "$${WHY:-}"

rollback: $(READY) ## TASK=T WHY=... [BY=NAME]: the version that was in production before is served again
	@$(need_task)python -m serving.rollback --task "$$TASK" --by "$${BY:-}" --why "$${WHY:-}"

history: $(READY) ## TASK=T [JSON=1]: who moved which version where, when and why
	@$(need_task)python -m serving.history --task "$$TASK" $(if $(value JSON),--json)

backup: $(READY) ## TO=DIR: registry, history, runs, studies and artifacts into a new folder, with their hashes
	@$(if $(value TO),,$(error name a new folder: make backup TO=DIR))python -m serving.backup --to "$$TO"

restore: $(READY) ## FROM=DIR [SHA256=...] [ARTIFACTS_ONLY=1]: what make backup saved comes back; nothing is written over
	@$(if $(value FROM),,$(error name the backup: make restore FROM=DIR))python -m serving.restore --from "$$FROM" --sha256 "$${SHA256:-}" $(if $(value ARTIFACTS_ONLY),--artifacts-only)

verify: $(READY) ## TASK=T: do aliases, history, evidence and files still say the same?
	@$(need_task)python -m serving.verify --task "$$TASK"

serve: $(READY) ## TASK=T [STAGE=production] [WORKERS=1] [PORT=5001] [SHADOW=staging] [CANARY=0.1]: MLflow's scoring server with bounded requests
	@$(need_task)python -m serving.endpoint --task "$$TASK" --stage "$$STAGE" --workers "$$WORKERS" --port "$$PORT" $(if $(value SHADOW),--shadow "$$SHADOW") $(if $(value CANARY),--canary "$$CANARY")

# As of monitor, make itself exits with 2 whatever came of it; `python -m serving.trial` tells by its exit code.
trial: $(READY) ## TASK=T LOG=DIR [LABELS=FILE.csv] [ACT=1] [BY=NAME]: is the version in staging better than that in production? ACT promotes it or takes it back
	@$(need_task)$(if $(value LOG),,$(error name the folder: make trial TASK=... LOG=DIR))python -m serving.trial --task "$$TASK" --log "$$LOG" --labels "$${LABELS:-}" $(if $(value ACT),--act) --by "$${BY:-}"

score: $(READY) ## MODEL=URI DATA=DIR: metrics with intervals on any labelled folder, one line of JSON
	@$(if $(and $(value MODEL),$(value DATA)),,$(error name both: make score MODEL=models:/drug_response@staging DATA=DIR))python -m evaluation.score --model "$$MODEL" --data "$$DATA"

predict: $(READY) ## TASK=T DATA=DIR OUT=DIR [MODEL=URI] [CLUSTER=ray://HOST:PORT|local]: answer every question of an unlabelled folder; goes on where it was broken off
	@$(need_task)$(if $(and $(value DATA),$(value OUT)),,$(error name both: make predict TASK=... DATA=DIR OUT=DIR))python -m serving.predict --task "$$TASK" --data "$$DATA" --out "$$OUT" --model "$${MODEL:-}" --cluster "$${CLUSTER:-}"

export: $(READY) ## MODEL=URI OUT=DIR [FORMAT=onnx] [TOLERANCE=1e-5]: the model as a file for other runtimes, held against the endpoint's answers first
	@$(if $(and $(value MODEL),$(value OUT)),,$(error name both: make export MODEL=models:/drug_response@staging OUT=DIR))python -m serving.export --model "$$MODEL" --out "$$OUT" --format "$${FORMAT:-onnx}" $(if $(value TOLERANCE),--tolerance "$$TOLERANCE")

bom: $(READY) ## MODEL=URI OUT=FILE: bill of materials in CycloneDX: the version's files and metrics, and the packages that serve it
	@$(if $(and $(value MODEL),$(value OUT)),,$(error name both: make bom MODEL=models:/drug_response@staging OUT=bom.cdx.json))python -m serving.bom --model "$$MODEL" --out "$$OUT"

# make itself exits with 2 whatever failed; `python -m serving.monitor` says 2 for "train again" and 1 for an error.
monitor: $(READY) ## TASK=T LOG=DIR [LABELS=FILE.csv] [VERSION=n] [SINCE=DATE]: drift of what the endpoint logged; fails if it is time to train again
	@$(need_task)$(if $(value LOG),,$(error name the folder: make monitor TASK=... LOG=DIR))python -m serving.monitor --task "$$TASK" --log "$$LOG" --labels "$${LABELS:-}" --version "$${VERSION:-}" --since "$${SINCE:-}"

reproduce: $(READY) ## MODEL=models:/T/n: make a version again from its tags, in a worktree, and say what differs
	@$(if $(value TOLERANCE),$(error there is no TOLERANCE any more: 0 under the same conditions, else 1e-3))$(if $(value MODEL),,$(error name the version: make reproduce MODEL=models:/drug_response/1))python -m serving.reproduce --model "$$MODEL"

retrain: $(READY) ## TASK=T [ARCH="A B"] [ON_DRIFT=1]: new data or decisions become a version in staging, if the gate allows it
	@$(need_task)$(if $(value DRY),$(error there is no DRY any more: this would run the whole loop))python -m serving.retrain --task "$$TASK" $(if $(value ARCH),--architectures $$ARCH) $(if $(value ON_DRIFT),--on-drift)

propose: $(READY) ## TASK=T: a pull request with the dvc.lock and the report of the last retraining
	@$(need_task)python -m serving.propose --task "$$TASK"

ui: $(READY) ## the MLflow UI on port 5000
	@mlflow server --host 127.0.0.1 --port 5000

dashboard: PORT := $(if $(filter override,$(origin PORT)),$(value PORT),8501)
dashboard: $(READY) ## [PORT=8501]: predict, compare, registry and drift in the browser, over served endpoints and the registry
	@echo "http://127.0.0.1:$$PORT"
	@streamlit run serving/dashboard_server.py --server.port "$$PORT"

PYTEST := -m pytest -n 2 --dist loadfile --no-loadscope-reorder
test: $(READY) ## every test
	@OMP_NUM_THREADS=1 python $(PYTEST) --durations 40

coverage: $(READY) ## every test, and the share of the lines that they run; takes about twice as long as make test
	@OMP_NUM_THREADS=1 python -m coverage run $(PYTEST) && python -m coverage combine --quiet && python -m coverage report --sort=cover
	@[ -z "$${GITHUB_STEP_SUMMARY:-}" ] || python -m coverage report --sort=cover --format=markdown >> "$$GITHUB_STEP_SUMMARY"

soak: $(READY) ## what takes many minutes: a retraining loop and studies of many workers, killed in their midst; thousands of hostile requests
	@OMP_NUM_THREADS=1 python -m pytest -m soak
	@ONCOLINEAGE_FUZZ=$${ONCOLINEAGE_FUZZ:-5000} OMP_NUM_THREADS=1 python -m pytest tests/serving/test_endpoint_fuzz.py

containers: $(READY) ## the images of infra/, built by podman on Debian's packages where no image registry is reachable; make soak then starts all of them
	@infra/containers.sh

# Within a hook of pre-commit the files of the commit alone are searched for secrets, by a hook of its own.
lint: $(READY) ## ruff (check and format), mypy, secrets, and what workflows, compose, Dockerfiles and Kubernetes manifests must be
	@ruff check . && ruff format --check . && mypy
	@[ -n "$${PRE_COMMIT:-}" ] || pre-commit run secrets --all-files
	@check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@check-jsonschema --builtin-schema vendor.gitlab-ci infra/gitlab-ci.yml
	@check-jsonschema --builtin-schema vendor.compose-spec infra/compose*.yaml
	@hadolint --failure-threshold info infra/docker/*.Dockerfile
	@python infra/check_compose.py && python infra/check_manifests.py

docs: $(READY) ## build the documentation site into site/ and run its notebooks; a broken link or a cell that fails ends it
	@NO_MKDOCS_2_WARNING=1 EXECUTE_NOTEBOOKS=$${EXECUTE_NOTEBOOKS:-true} python -m mkdocs build --strict --quiet && echo "see site/index.html"

audit: $(READY) ## known vulnerabilities and licenses of the locked packages; offline it says so and does not fail
	@python -m infra.audit_dependencies && python -m infra.list_licenses --check

format: $(READY) ## let ruff mend what it can
	@ruff check --fix . ; ruff format .

bench: $(READY) ## speed and memory as ratios, measured side by side
	@python -m tests.bench

# The second begins with the pins of the first, so it is the same resolution without what only development needs.
RESOLVE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet
lock: $(READY) ## [UPGRADE=1]: resolve pyproject.toml into requirements.lock and, for images, requirements.runtime.lock (pinned, hashed); pins stay where they can
	@$(RESOLVE) --extra dev $(if $(value UPGRADE),--upgrade) -o requirements.lock
	@cp requirements.lock requirements.runtime.lock && $(RESOLVE) --extra ray --extra traces -o requirements.runtime.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv uv pip sync --quiet --require-hashes requirements.lock && touch $(READY) && python -m infra.list_licenses

clean: ## remove what runs made (runs, models, reports), not data or .venv
	@rm -rf budget.yaml models reports prepared checkpoints cache .retrain optuna.db mlflow.db mlruns mlartifacts .incoming optuna.db.lock
