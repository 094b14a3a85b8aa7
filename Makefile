# Every target sets up .venv first; the second time that costs a fraction of a second.
SHELL := /bin/sh
.DEFAULT_GOAL := help

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# nothing is reported to anybody
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export HF_HUB_DISABLE_TELEMETRY := 1
# starting takes four times as long without compiled bytecode
unexport PYTHONDONTWRITEBYTECODE

RECIPE ?=

.PHONY: help
help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: set-up
set-up: ## the virtual environment, with pinned versions
	@./set-up.sh

.PHONY: repro
repro: set-up ## the whole pipeline: corpus, three models, scores, registry (RECIPE=name first merges a recipe)
	@if [ -n "$(RECIPE)" ]; then precis recipe $(RECIPE); fi
	@python flows/pipeline.py

.PHONY: flow
flow: set-up ## the same as a Prefect flow run
	@python flows/reproduce.py

.PHONY: test
test: set-up ## the tests that take minutes, a process for each core
	@python -m pytest -n auto --dist loadfile

.PHONY: test-slow
test-slow: set-up ## the tests that take longer
	@python -m pytest -m slow

.PHONY: test-faults
test-faults: set-up ## the tests that kill processes and damage files
	@python -m pytest -m faults

.PHONY: test-services
test-services: set-up ## the tests against PostgreSQL and an S3 store, which they start
	@python -m pytest -m services tests/services

.PHONY: test-gpu
test-gpu: set-up ## the tests that need a CUDA device
	@python -m pytest -m gpu

.PHONY: check
check: set-up ## format, lint, types, import rules
	ruff format --check src flows tests benchmarks docs
	ruff check src flows tests benchmarks docs
	mypy
	lint-imports --no-cache
	@git ls-files -z --cached --others --exclude-standard -- ':!*.lock' ':!*.png' | \
		xargs -0 detect-secrets-hook --disable-plugin Base64HighEntropyString \
		--disable-plugin HexHighEntropyString --disable-plugin KeywordDetector --no-verify && echo "no secrets found"

.PHONY: audit
audit: set-up ## ask PyPI what is known against the pinned versions; fails if it does not hear of each
	@python .ci/audit.py

.PHONY: verified
verified: set-up ## another environment, .venv-verified, of nothing but files with the index's hashes
	uv pip compile --quiet --python-version 3.11 --no-header --no-annotate --generate-hashes -c constraints.txt \
		pyproject.toml -o .work/verified.txt
	uv venv --quiet --clear .venv-verified
	UV_FIND_LINKS= uv pip install --python .venv-verified/bin/python --require-hashes \
		-r .work/verified.txt
	uv pip install --quiet --python .venv-verified/bin/python --no-deps -e .

.PHONY: format
format: set-up ## put the code in its form
	ruff format src flows tests benchmarks docs
	ruff check --fix src flows tests benchmarks docs

.PHONY: docs
docs: set-up ## the documentation as a site in .work/site; fails on a link that leads nowhere
	@python docs/parameters_page.py
	@NO_MKDOCS_2_WARNING=1 mkdocs build

.PHONY: docs-pictures
docs-pictures: set-up ## the pictures of docs/models.md, from the models that `make repro` trained
	@python docs/pictures.py

.PHONY: ui
ui: set-up ## compare runs in MLflow at http://127.0.0.1:5000
	@python -c 'from precis.training.tracking import configure; configure()'
	@python flows/ui.py

.PHONY: constraints
constraints: set-up ## choose the pinned versions anew
	uv pip compile --universal --python-version 3.11 --no-header --no-annotate --all-extras \
		--upgrade pyproject.toml -o constraints.txt

.PHONY: serve-flows
serve-flows: set-up ## Prefect server, worker and the nightly schedule on this machine
	@python flows/serve.py

.PHONY: services
services: set-up ## PostgreSQL and an S3 store on this machine, to try what a team shares
	@python flows/stores.py start

.PHONY: services-stop
services-stop: set-up ## end them; what is in them stays
	@python flows/stores.py stop

.PHONY: doctor
doctor: set-up ## what is wrong with the set-up, dvc.yaml, the stores and the runs, and how to mend it
	@precis doctor --trace

.PHONY: clean
clean: ## remove what the pipeline made; the cache of DVC and the record of MLflow stay
	git clean -fdX data models reports .work
