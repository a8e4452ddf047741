# make demo    build a liquid box and run molecular dynamics on it
# make test    run the tests
# make check   lint, format and types
# make venv    only make the environment that these use

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

DEMO_RECIPE ?= 1.0 M LiPF6 in EC:DMC 1:1 v/v
DEMO_ATOMS ?= 440
DEMO_MODEL ?= electrolyte
DEMO_THREADS ?= 2
DEMO_STAGES ?= --stage npt:1.5ps --stage nvt:0.5ps

.PHONY: demo test check venv clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or newer, got $$($(PYTHON) --version): make PYTHON=..." >&2; exit 2; }
	@echo "installing into $(VENV) (a few minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[test,smiles,dev]'
	@touch $@

demo: $(STAMP)
	@mkdir -p demo
	$(BIN)/hff build "$(DEMO_RECIPE)" --atoms $(DEMO_ATOMS) --output demo/box.extxyz --force
	OMP_NUM_THREADS=$(DEMO_THREADS) $(BIN)/hff md demo/box.extxyz --model $(DEMO_MODEL) $(DEMO_STAGES) \
	  --output demo/run --force
	@echo "demo/run: statistics.dat, trajectory.extxyz, md.png, summary.yaml"

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo build dist *.egg-info
