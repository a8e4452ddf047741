# make demo    build liquid boxes, equilibrate them, run molecular dynamics, show densities
# make test    run the tests
# make check   lint, format, types, documentation
# make docs    the documentation: docs/_build/html/index.html
# make venv    only make the environment that these use

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

DEMO_RECIPE ?= 1.0 M LiPF6 in EC:DMC 1:1 v/v
DEMO_ATOMS ?= 250
DEMO_SOLVENT ?= DMC
DEMO_MODEL ?= electrolyte
DEMO_THREADS ?= 2
DEMO_PROTOCOL ?= --hot 3ps --hot-max 3ps --cool 1.5ps --soft 3ps --max-time 12ps
DEMO_STAGES ?= --stages nvt:0.5ps

.PHONY: demo test check docs venv clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or newer, got $$($(PYTHON) --version): make PYTHON=..." >&2; exit 2; }
	@echo "installing into $(VENV) (a few minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[test,smiles,dev,docs]'
	@touch $@

demo: $(STAMP)
	@mkdir -p demo
	$(BIN)/hff build "$(DEMO_RECIPE)" --atoms $(DEMO_ATOMS) --output demo/box.extxyz --force
	for seed in 1 2 3; do $(BIN)/hff build "$(DEMO_SOLVENT)" --atoms 120 --seed $$seed \
	  --output demo/solvent-$$seed.extxyz --force || exit; done
	@echo "equilibrating: a few minutes; exit code 3 says that this is too short, as it is here"
	OMP_NUM_THREADS=$(DEMO_THREADS) $(BIN)/hff equilibrate demo/box.extxyz demo/solvent-1.extxyz \
	  demo/solvent-2.extxyz demo/solvent-3.extxyz --model $(DEMO_MODEL) $(DEMO_PROTOCOL) \
	  --run demo/equilibrate --output demo/ready.extxyz --force || test $$? -eq 3
	OMP_NUM_THREADS=$(DEMO_THREADS) $(BIN)/hff md demo/equilibrate/replica-000/final.extxyz \
	  --model $(DEMO_MODEL) --velocities file --no-minimize --timestep 2 --hydrogen-mass 3 \
	  $(DEMO_STAGES) --output demo/run --force
	@echo "demo/run: statistics.dat, trajectory.extxyz, md.png, summary.yaml"
	@cat demo/equilibrate/densities.txt

test: $(STAMP)
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

check: $(STAMP) docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) demo build dist docs/_build *.egg-info
