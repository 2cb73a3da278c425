# rdnscache: every target says what it does in `make help`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVE_STAMP := $(VENV)/.installed-serve
DEV_STAMP := $(VENV)/.installed-dev
COMPILED_STAMP := $(VENV)/.compiled
COMPILED_SOURCES := setup.py $(shell find rdnscache -name '*.pxd' -o -name '*.pyx' -o -name '*.py')

# UPSTREAM=192.0.2.53 or UPSTREAM="192.0.2.53 198.51.100.53:5353" or the same with commas.
UPSTREAM ?=
empty :=
space := $(empty) $(empty)
comma := ,
upstream_options := $(foreach each,$(subst $(comma),$(space),$(UPSTREAM)),--upstream $(each))

.DEFAULT_GOAL := help
.PHONY: help venv serve test bench chaos siege compile lint types check compose-test clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | \
		while IFS='|' read -r name text; do printf '%-18s %s\n' "$$name" "$$text"; done

venv: $(BIN)/pip  ## Make the virtual environment in .venv

serve: $(SERVE_STAMP)  ## Run a node; UPSTREAM="192.0.2.53 198.51.100.53" chooses where it asks
	$(BIN)/rdnscache serve $(upstream_options)

# Many tests are about processes, which a busy machine can make late: what fails is run once more, by itself.
TRIED = { $(1) || { echo "once more, what failed:"; $(1) --last-failed; }; }

test: $(COMPILED_STAMP)  ## Run the tests in the compiled form, and in plain Python those that are about the hot modules
	@if $(BIN)/rdnscache --version | grep compiled; then \
		$(call TRIED,$(BIN)/python -m pytest -q) && \
		$(call TRIED,RDNSCACHE_PURE=1 $(BIN)/python -m pytest -q -m 'not once'); \
	else \
		echo "no compiled form here: only the plain one is tested"; \
		$(call TRIED,RDNSCACHE_PURE=1 $(BIN)/python -m pytest -q); \
	fi

bench: $(COMPILED_STAMP)  ## Measure against other servers; says which Debian packages it wants
	$(BIN)/python -m bench $(BENCH_OPTIONS)

chaos: $(COMPILED_STAMP)  ## Break things around three nodes under load; CHAOS_OPTIONS="--rows redis,pause" or "soak"
	$(BIN)/python -m chaos $(CHAOS_OPTIONS)

siege: $(COMPILED_STAMP)  ## Lay siege to a node, honest clients beside; SIEGE_OPTIONS="--rows silent-2000,pulse"
	$(BIN)/python -m siege $(SIEGE_OPTIONS)

compile: $(COMPILED_STAMP)  ## Compile the hot modules beside their source

lint: $(DEV_STAMP)  ## Look for mistakes and style
	$(BIN)/ruff check .

types: $(DEV_STAMP)  ## Check the types
	$(BIN)/mypy rdnscache

check: test lint types  ## Everything a change has to pass

compose-test: $(DEV_STAMP)  ## Try docker-compose.yml in real containers; wants Docker and compose, or root and dockerd
	$(BIN)/python tests/compose

clean:  ## Remove the virtual environment and everything built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find rdnscache -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip comes last, so its absence means the environment is not complete.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# The developer's install is editable and holds everything the plain one does, so it satisfies both.
$(SERVE_STAMP): pyproject.toml | $(BIN)/pip
	@echo "installing into $(VENV), and compiling where a C compiler is there: about a minute, once"
	test $(DEV_STAMP) -nt pyproject.toml || $(BIN)/python -m pip install --quiet '.[embedded]'
	touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/pip
	RDNSCACHE_PURE=1 $(BIN)/python -m pip install --quiet --editable '.[embedded,dev]'
	touch $@

# Without a C compiler this leaves the plain form.
$(COMPILED_STAMP): $(COMPILED_SOURCES) $(DEV_STAMP)
	$(BIN)/python setup.py -q build_ext --inplace
	touch $@
