# One verb a target; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
ASSETS := dashboard/joblease_dashboard/pages/static/vendor/htmx.min.js
SOURCES := core operator worker dashboard cli local tests bench

.PHONY: help assets up down status clean-local test test-browser screenshots faults simulate property kind kind-down e2e chart-docs helm3 settings-docs krew manifests bench \
	bench-docs lint requirements

help: ## list the targets
	@grep -E '^[a-z0-9%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): requirements.txt pyproject.toml
	@echo "Python: installing what JobLease needs into $(VENV) (about a minute, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: JobLease needs Python 3.11 or later; choose one with 'make PYTHON=...'" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "error: $(PYTHON) cannot make a venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(ASSETS): dashboard/package-lock.json scripts/assets.sh
	@scripts/assets.sh

assets: $(ASSETS) ## what the pages load in the browser, from npm

up: $(STAMP) $(ASSETS) ## run everything on this machine, without containers, until Ctrl-C (DETACH=1: in the background)
	@$(BIN)/python -m joblease_local up $(if $(DETACH),--detach)

down: $(STAMP) ## end what `make up` started
	@$(BIN)/python -m joblease_local down

status: $(STAMP) ## say what runs
	@$(BIN)/python -m joblease_local status

clean-local: $(STAMP) ## forget the data of `make up`
	@$(BIN)/python -m joblease_local clean

# All of them: a module at a time in each of two processes, which share no parts. Most tests wait more than they compute.
test: $(STAMP) $(ASSETS) ## unit and integration tests, on real parts of their own (beside a running `make up`)
	@$(BIN)/python -m joblease_local prepare || test -z "$$CI" # what is missing on a laptop is skipped, with its reason
	@$(BIN)/python -m pytest $(or $(PYTEST_ARGS),--numprocesses 2 --dist loadfile)

test-browser: $(STAMP) $(ASSETS) ## the dashboard's pages in Chromium: live updates, light and dark, wide and narrow, accessibility
	@$(BIN)/python -m joblease_local prepare || test -z "$$CI"
	@$(BIN)/python -m pytest tests/browser

screenshots: $(STAMP) $(ASSETS) ## make the pictures of docs/images
	@$(BIN)/python -m joblease_local prepare
	@$(BIN)/python -m pytest -q tests/browser/screenshots.py

SEEDS ?= 1

faults: $(STAMP) ## break everything at random for JOBLEASE_FAULTS_SECONDS (600), and check that the guarantee holds (SEEDS=10: ten times)
	@JOBLEASE_FAULTS_SECONDS=$${JOBLEASE_FAULTS_SECONDS:-600} \
		JOBLEASE_FAULTS_SEED=$${JOBLEASE_FAULTS_SEED:-$$(od -An -v -tx4 -N$$((4 * $(SEEDS))) /dev/urandom | xargs | tr ' ' ,)} \
		$(BIN)/python -m pytest -s tests/faults/test_soak.py

simulate: $(STAMP) ## the protocol under faults, on virtual time, for JOBLEASE_SIMULATION_SECONDS (3600)
	@cd tests && ../$(BIN)/python -m simulation --seconds $${JOBLEASE_SIMULATION_SECONDS:-3600}

property: $(STAMP) ## make up jobs for JOBLEASE_PROPERTY_SECONDS (3600): each has one outcome, and the job behind it runs
	@JOBLEASE_PROPERTY_SECONDS=$${JOBLEASE_PROPERTY_SECONDS:-3600} $(BIN)/python -m pytest -s tests/integration/test_any_job.py

kind: $(ASSETS) ## JobLease on a kind cluster with ten workers, RabbitMQ and Azurite
	@scripts/kind-up.sh

kind-down: ## delete that cluster and all its data
	@kind delete cluster --name joblease

e2e: $(STAMP) kind ## delete pods, drain nodes, upgrade and uninstall on that cluster, while jobs run
	@$(BIN)/python -m pytest tests/e2e --timeout 600 -v

chart-docs: ## make the table of the chart's README, and the descriptions of its schema, from its values
	@GOBIN=$(CURDIR)/.local/bin go install github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2
	@.local/bin/helm-docs --chart-search-root charts --log-level warning
	@$(PYTHON) scripts/chart_schema.py

helm3: .local/helm3/helm ## build Helm 3, which the chart's tests compare with helm on PATH

.local/helm3/helm:
	@echo "Helm 3: building it from its Go module (some minutes, once)"
	@GOBIN=$(CURDIR)/.local/helm3 go install helm.sh/helm/v3/cmd/helm@v3.18.6

settings-docs: $(STAMP) ## make docs/settings.md from the programs' settings
	@$(BIN)/python scripts/settings_docs.py docs/settings.md

BENCHMARKS := handover throughput overhead client submit admission takeover history live idle waiting price scale
BENCH_ARGS ?=

$(BENCH_STAMP): $(STAMP) bench/requirements.txt
	@echo "Python: installing what the benchmarks compare with"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r bench/requirements.txt
	@touch $@

bench: $(addprefix bench-,$(BENCHMARKS)) bench-docs ## all benchmarks, one after the other, into docs/performance.md

bench-%: $(BENCH_STAMP) $(ASSETS) ## one of them: handover, throughput, overhead, client, submit, admission, takeover, history, live, idle, waiting, price, scale
	@$(BIN)/python -m joblease_local prepare
	@$(BIN)/python bench/$*.py --write $(BENCH_ARGS)

bench-docs: $(BENCH_STAMP) ## put the results into docs/performance.md, with plots
	@$(BIN)/python bench/document.py

krew: ## the command line as a krew plug-in for this machine's platform, to be downloaded from KREW_URL
	@test -n "$(KREW_URL)" || { echo "error: say from where it will be downloaded: make krew KREW_URL=https://..." >&2; exit 1; }
	@test -x .local/krew/bin/python || $(PYTHON) -m venv .local/krew
	@.local/krew/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r cli/requirements.txt
	@.local/krew/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps .
	@.local/krew/bin/python scripts/krew.py --url '$(KREW_URL)'

manifests: ## make manifests/install.yaml from the chart
	@scripts/manifests.sh > manifests/install.yaml.new && mv manifests/install.yaml.new manifests/install.yaml

lint: $(STAMP) ## style, types and import layers
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

UV_COMPILE = .local/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
	--no-emit-index-url --no-annotate --no-header

requirements: ## pin the dependencies anew, and each image's own from among them
	@test -x .local/uv/bin/uv || { $(PYTHON) -m venv .local/uv && .local/uv/bin/pip install --quiet uv; }
	@$(UV_COMPILE) pyproject.toml --extra dev --upgrade --output-file requirements.txt.new requirements.in
	@mv requirements.txt.new requirements.txt
	@$(UV_COMPILE) --constraint requirements.txt --output-file requirements-build.txt requirements.in
	@$(UV_COMPILE) pyproject.toml --extra bench --constraint requirements.txt --output-file bench/requirements.txt
	@for program in operator worker dashboard; do \
		$(UV_COMPILE) pyproject.toml --extra $$program --constraint requirements.txt \
			--output-file $$program/requirements.txt || exit 1; done
	@$(UV_COMPILE) pyproject.toml --extra krew --constraint requirements.txt --output-file cli/requirements.txt requirements.in
