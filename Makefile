# `make demo` and `make test` do all of their own set-up; the second time they start at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000

.PHONY: demo test check docs slow browser parity deployment image sbom audit clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/clear-service demo --port $(PORT)

# Two processes: each may need 3 GB. With two threads each, they would wait for each other by spinning.
test slow browser: export OMP_NUM_THREADS := 1
test: $(VENV)/.dev
	$(BIN)/pytest --numprocesses 2 --dist worksteal

# What CI runs beyond the tests above.
check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two Milvus servers would want one port; the one waits more than it computes, so it runs beside.
# The folders with the longest files come first: at the end no process waits long for the other.
MILVUS := tests/service/retrieval/index
LONGEST := tests/trainer/ tests/system/
SLOW := $(LONGEST) $(filter-out $(LONGEST) tests/__pycache__/,$(sort $(wildcard tests/*/ tests/test_*.py)))
slow: $(VENV)/.mteb
	mkdir -p build
	$(BIN)/pytest -m slow --timeout 900 $(MILVUS) >build/milvus.log 2>&1 & milvus=$$!; \
	$(BIN)/pytest -m slow --timeout 900 --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		--ignore $(MILVUS) $(SLOW); \
	status=$$?; wait $$milvus || status=1; cat build/milvus.log; exit $$status

browser: $(VENV)/.dev
	$(BIN)/pytest -m browser --numprocesses 2 --dist loadfile

# Writes the generated parts of the manual, builds it (build/site) and checks its links.
docs: $(VENV)/.docs
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# XQuAD, query language -> English, through the code that serves. DATA/xquad holds the files
# xquad.<language>.json of https://github.com/google-deepmind/xquad.
parity: $(VENV)/.dev
	@test -d "$(DATA)/xquad" || { echo "make parity DATA=DIR is needed: DIR/xquad holds the files" \
		"of https://github.com/google-deepmind/xquad" >&2; exit 2; }
	$(BIN)/clear-trainer evaluate xquad $(DATA)/xquad --direction en-en --direction L-en \
		--encoder bundled-base

# Every deployment file through the validator of its kind; promtool is in Debian's `prometheus`.
YAML_RULES := {extends: default, rules: {line-length: {max: 150}, document-start: disable, \
	empty-values: enable}}
COMPOSE := $(BIN)/docker-compose --file docker/compose.yaml
deployment: $(VENV)/.deploy
	$(COMPOSE) --profile cpu config --quiet
	$(COMPOSE) --profile gpu config --quiet
	$(BIN)/hadolint docker/*.Dockerfile
	$(BIN)/yamllint --strict --config-data '$(YAML_RULES)' docker k8s
	mkdir -p build
	set -e; for folder in overlays/cpu overlays/gpu overlays/object-store index training writer; do \
		$(BIN)/kubectl kustomize k8s/$$folder >build/manifests.yaml; \
		$(BIN)/kubernetes-validate --strict build/manifests.yaml; \
	done
	$(BIN)/kubernetes-validate --strict k8s/secret.yaml
	promtool check config docker/prometheus/prometheus.yaml
	promtool test rules docker/prometheus/alerts.test.yaml docker/prometheus/alerts.slow.test.yaml

# The CPU image, built without a container engine, run, and asked; as root on Debian.
image:
	docker/build-and-ask

# What each image holds, as CycloneDX (build/sbom), from its lock; and what is installed here, with licences.
LOCKS := $(basename $(notdir $(wildcard docker/*.lock)))
SBOM := $(BIN)/cyclonedx-py
SBOM_FLAGS := --pyproject pyproject.toml --mc-type application --output-reproducible --of JSON
sbom: $(VENV)/.dev
	mkdir -p build/sbom
	set -e; for lock in $(LOCKS); do \
		$(SBOM) requirements docker/$$lock.lock $(SBOM_FLAGS) -o build/sbom/$$lock.cdx.json; \
	done
	$(SBOM) environment $(VENV) $(SBOM_FLAGS) -o build/sbom/environment.cdx.json

# Known vulnerabilities of what the locks pin. AUDIT='--vulnerability-service osv --osv-url URL' asks
# another service than PyPI's; a package that the service does not know fails the audit.
audit: $(VENV)/.audit
	$(BIN)/python -m pip check
	set -e; for lock in $(LOCKS); do \
		$(BIN)/pip-audit --strict --disable-pip --requirement docker/$$lock.lock $(AUDIT); \
	done

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[cpu,demo]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[cpu,demo,train,tracing,dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.mteb: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[mteb,minilm]'
	touch $@

$(VENV)/.docs: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

$(VENV)/.deploy: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[deploy]'
	touch $@

# All that CI needs beyond `.dev`, resolved once.
$(VENV)/.tools: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[mteb,minilm,docs,deploy]'
	touch $@ $(addprefix $(VENV)/,.mteb .docs .deploy)

$(VENV)/.audit: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[audit]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
