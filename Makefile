# `make help` lists the targets. Nothing is installed outside of .venv.

PYTHON ?= python3
PORT ?= 8888
ARGS ?=
UNIT ?= autoregressive/nade
# Another index for torch alone: https://download.pytorch.org/whl/cpu spares 2 GB on Linux without GPU.
TORCH_INDEX ?=

VENV := .venv
PY := $(VENV)/bin/python
GDM := $(VENV)/bin/gdm
READY := $(VENV)/.installed
PIP := $(PY) -m pip --disable-pip-version-check install -qq -c constraints.txt
# A file after the other, as they are named: by their numbers of tests the slow ones come last,
# and a core idles. Solutions, of a few seconds each, fill up the end.
PYTEST := $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --nbval-lax --durations=15
# Other seeds and another instruction set for `make full`: one value, or several with commas;
# BARE=1: as where there are neither data nor a network.
SETTING = $(if $(SHIFT),--shift=$(SHIFT)) $(if $(ATEN_CPU_CAPABILITY),--isa=$(ATEN_CPU_CAPABILITY)) \
  $(if $(JOBS),--jobs=$(JOBS)) $(if $(BARE),--bare)
# Jupyter refuses to start as root unless told: containers and CI are root.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# Small steps gain nothing from a second thread, and lose much when another process wants the core.
test smoke full site slides bench: export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help lab test quick system sync check smoke full site slides bench clean

help: ## list the targets
	@echo "make TARGET [PYTHON=python3.12] [PORT=8888] [UNIT=family/unit] [ARGS=...]"
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  \1\t/' | expand -t 12

lab: $(READY) ## set up, build the notebooks, open JupyterLab at the index
	@$(GDM) sync
	@echo "Opening JupyterLab on port $(PORT); stop it with Ctrl-C."
	@$(GDM) lab --port $(PORT) $(ROOT) $(ARGS)

test: $(READY) ## set up, then run every test and every notebook (smoke budget)
	@echo "Testing: unit tests, lectures, solutions, exercises and a browser."
	@$(PYTEST) tests lectures solutions $(ARGS)

quick: $(READY) ## test what your changes touch, in two minutes at most [SINCE=main]
	@$(PY) -m tests.quick $(SINCE)

system: ## chromium and bubblewrap by apt-get, which some tests need (Debian, Ubuntu)
	@command -v apt-get >/dev/null || { echo "No apt-get here: install chromium and bubblewrap."; exit 1; }
	@$(SUDO) apt-get update -qq
	@DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends \
	  chromium bubblewrap >/dev/null
	@echo "chromium and bubblewrap are installed."

sync: $(READY) ## derive notebooks, exercises and tables from their sources
	@$(GDM) sync $(ARGS)

check: $(READY) ## prove that nothing derived is stale; lint, format, types
	@$(GDM) check $(ARGS)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/pyrefly check

smoke: $(READY) ## run the notebooks only, with few training steps
	@$(PYTEST) tests/test_notebooks.py lectures solutions $(ARGS)

full: $(READY) ## run the notebooks at full budget [SHIFT=1 ATEN_CPU_CAPABILITY=avx2 JOBS=2 BARE=1]
	@$(PY) -m gdm_course.publishing.full $(ARGS) $(SETTING)

site: $(READY) ## execute all and build a website in build/site [SOLUTIONS=0 leaves them out]
	@$(PY) -m gdm_course.publishing.site $(ARGS)

slides: $(READY) ## execute a lecture (UNIT=..., or all) and build its deck [FURTHER=1]
	@$(PY) -m gdm_course.publishing.slides $(UNIT) $(ARGS)

bench: $(READY) ## speed against naive versions, as ratios, to build/bench.json
	@$(PY) -m tests.benchmarks $(ARGS)

clean: ## remove what was built (not .venv, not work/)
	@rm -rf build dist .pytest_cache .ruff_cache
	@find gdm_course tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  "This course needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: try make ... PYTHON=python3.12" % v)'
	@echo "Setting up in $(VENV), once: 1.4 GB or more, one to ten minutes."
	@$(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	@echo "  1/2 torch, the pinned version ..."
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@echo "  2/2 everything else ..."
	@$(PIP) -e '.[dev]'
	@touch $@
	@echo "Set up: $$($(PY) -c 'import platform; print("Python", platform.python_version())')" \
	  "with torch $$($(PY) -c 'from importlib.metadata import version; print(version("torch"))')."
