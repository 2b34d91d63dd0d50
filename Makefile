# Two environments, each made once and again only when what it is made from has changed:
#
#   .venv      iotd installed from its wheel, as a user has it: compiled where a C compiler is found
#   .venv-dev  iotd installed editable, always pure Python, with everything that checks the source
#
# No compiler, or another Python: make run IOTD_BUILD=pure PYTHON=python3.12

PYTHON ?= python3
IOTD_BUILD ?= auto
ARGS ?=
FUZZ_SECONDS ?= 60
export IOTD_BUILD

VENV := .venv/bin/python
DEV := .venv-dev/bin/python
PIP := -m pip --quiet --disable-pip-version-check
SOURCE := adapters benchmarks build_backend conformance examples iotd mqtt_core newsfragments tests tools

# The checksum of everything below the given paths, names and contents: no file time is trusted, and a
# deleted file counts.
key = $(shell { echo '$(PYTHON) $(IOTD_BUILD)'; find $(wildcard $(1)) -type f ! -name '*.pyc' \
	| LC_ALL=C sort | xargs cksum; } | cksum | cut -d ' ' -f 1)

# PYTHONSAFEPATH keeps the tree off the path of the tests and of every program they start.
PURE := IOTD_EXPECT_BUILD=pure PYTHONSAFEPATH=1 $(DEV)
COMPILED := IOTD_EXPECT_BUILD=compiled PYTHONSAFEPATH=1 $(VENV)

RECIPE := pyproject.toml setup.py build_backend
WHEEL := .make/wheel-$(call key,$(RECIPE) README.md adapters conformance iotd mqtt_core)
RUN_READY := $(WHEEL)/ready-to-run
TEST_READY := $(WHEEL)/ready-to-test
DEV_READY := .make/dev-$(call key,$(RECIPE))

.PHONY: help
help:
	@echo 'make run        a broker on 127.0.0.1:1883; options: make run ARGS="--runtime gevent"'
	@echo 'make test       everything that CI runs, both builds'
	@echo 'make check      format, lint, types, quick tests of the pure build'
	@echo 'make coverage   branch coverage of the core by its tests: fails below 100 %'
	@echo 'make fuzz       random input for $(FUZZ_SECONDS) s (FUZZ_SECONDS=n) against the compiled core'
	@echo 'make format     put the source into the form that lint asks for'
	@echo 'make docs       write the generated pages again'
	@echo 'make wheel      build the wheel into dist/'
	@echo 'make changelog  join the news fragments into CHANGELOG.md (VERSION=x.y.z)'
	@echo 'make clean      remove environments, builds and caches'

# ---- programs ----

.PHONY: run
run: $(RUN_READY)
	@exec .venv/bin/iotd serve $(ARGS)

.PHONY: fuzz
fuzz: $(TEST_READY)
	$(VENV) -P tests/fuzz.py --seconds $(FUZZ_SECONDS) $(ARGS)

# ---- proof ----

# Two at once, since each keeps one core busy: the checks of the source and the pure build's tests, and
# beside them the wheel and the compiled build's tests, whose report is kept until the others are through.
.PHONY: test
test: $(DEV_READY)
	@echo 'Testing both builds at once; the report on the compiled one follows that on the pure one.'
	@mkdir -p .make
	@verdict() { [ $$2 = 0 ] && echo "$$1: passed" || echo "$$1: FAILED (make ended with $$2)"; }; \
	$(MAKE) --no-print-directory test-compiled >.make/compiled.log 2>&1 & \
	compiled=$$!; \
	$(MAKE) --no-print-directory lint types docs-fresh test-pure & \
	pure=$$!; \
	trap 'kill $$pure $$compiled; exit 1' HUP TERM; \
	wait $$pure; pure_code=$$?; \
	wait $$compiled; compiled_code=$$?; \
	cat .make/compiled.log; \
	verdict 'source and pure build' $$pure_code; verdict 'compiled build' $$compiled_code; \
	[ $$pure_code = 0 ] && [ $$compiled_code = 0 ]

.PHONY: check
check: lint types
	$(PURE) -m pytest -q -m 'not slow' $(ARGS)

.PHONY: lint
lint: $(DEV_READY)
	$(DEV) -m ruff format --check .
	$(DEV) -m ruff check .

.PHONY: types
types: $(DEV_READY)
	$(DEV) -m mypy

.PHONY: test-pure
test-pure: $(DEV_READY)
	$(PURE) -m pytest $(ARGS)

.PHONY: test-compiled
test-compiled: $(TEST_READY)
	$(COMPILED) -m pytest -o cache_dir=.pytest_cache/compiled $(ARGS)

# By the core's own tests alone: what only a socket or a trace reaches is not tested yet. Tracing makes
# the core several times slower, so no test is taken to hang.
.PHONY: coverage
coverage: $(DEV_READY)
	$(PURE) -m coverage run -m pytest -q -o faulthandler_timeout=0 tests/core $(ARGS)
	$(DEV) -m coverage report

# ---- upkeep ----

.PHONY: format
format: $(DEV_READY)
	$(DEV) -m ruff check --fix .
	$(DEV) -m ruff format .

# Pages made from the code: each module writes its own, or with --check fails if it is stale.
GENERATORS := iotd.config.reference conformance.table \
	$(patsubst tools/%.py,tools.%,$(wildcard tools/[a-z]*.py))

.PHONY: docs docs-fresh
docs: $(DEV_READY)
	@for module in $(GENERATORS); do echo $$module; $(DEV) -m $$module || exit 1; done

docs-fresh: $(DEV_READY)
	@for module in $(GENERATORS); do $(DEV) -m $$module --check || exit 1; done

.PHONY: wheel
wheel: $(WHEEL)/built
	mkdir -p dist && cp $(WHEEL)/*.whl dist/ && ls dist

.PHONY: changelog
changelog: $(DEV_READY)
	$(DEV) newsfragments/join.py $(VERSION)

.PHONY: clean
clean:
	rm -rf .venv .venv-dev .make build dist *.egg-info .coverage .coverage.* \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(wildcard $(SOURCE)) -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- environments ----

# A build leaves iotd.egg-info in the tree. It is removed, since by it pytest would take all modules for
# parts of our plugin, and would rewrite the assertions of the core that is tested.

# pip, not python, is the target: without ensurepip a half-made environment has only python.
.venv/bin/pip .venv-dev/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
		"iotd needs Python 3.11 or later; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(@D:/bin=)

$(WHEEL)/built: | .venv/bin/pip
	@echo 'Building the wheel (compiled where a C compiler is found: about a minute) ...'
	@rm -rf .make/wheel-*
	$(VENV) $(PIP) wheel --no-deps --wheel-dir $(WHEEL) .
	@rm -rf iotd.egg-info
	@touch $@

# pip takes a wheel of the version it has for the one it has, so it is told to replace it.
$(RUN_READY): $(WHEEL)/built
	$(VENV) $(PIP) install --force-reinstall --no-deps $(WHEEL)/*.whl
	$(VENV) $(PIP) install "$$(echo $(WHEEL)/*.whl)[gevent]"
	@touch $@

$(TEST_READY): $(RUN_READY)
	$(VENV) $(PIP) install "$$(echo $(WHEEL)/*.whl)[gevent,test]"
	@touch $@

$(DEV_READY): | .venv-dev/bin/pip
	@echo 'Installing the development tools ...'
	IOTD_BUILD=auto $(DEV) $(PIP) install --editable '.[gevent,test,lint]'
	@rm -rf iotd.egg-info
	@mkdir -p .make && rm -f .make/dev-* && touch $@

.NOTPARALLEL:
