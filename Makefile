PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench clean real-dft test-slurm faults fuzz

## demo: install, start the embedded database, run the Al-Fe-Pt campaign (again: continue, or say that it is finished)
demo: .venv/demo-installed
	$(BIN)/kmde db start
	$(BIN)/kmde run fw_specs/al_fe_pt.yaml --workers 2

## test: install, check style and types, run the whole suite, in two processes that take a file of tests at a time
test: check
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

## test-slurm: jobs, signals and a campaign through a real SLURM on this machine; installs it by apt-get where we may
test-slurm: .venv/test-installed
	command -v slurmctld slurmd munged > /dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge; }
	KMDE_SLURM_FULL=1 $(BIN)/pytest tests/slurm -rs

## check: style and types
check: .venv/test-installed
	$(BIN)/ruff check kmde_fw tests benchmarks
	$(BIN)/ruff format --check kmde_fw tests benchmarks
	$(BIN)/mypy

## real-dft: a small campaign labelled by real DFT (GPAW), some ten minutes on one core; results/real_dft/
real-dft: .venv/real-dft-installed
	$(BIN)/python fw_specs/real_dft/run.py

## faults: kills, outages, full disks, wrong clocks; fifty campaigns at once; results/faults/. FAULTS and MANY: options
faults: .venv/test-installed
	$(BIN)/python tests/faults/run.py $(FAULTS)
	$(BIN)/python tests/faults/many.py $(MANY)

## fuzz: 100 000 damaged inputs; ten minutes; results/faults/fuzz.json. CASES=1000: fewer
fuzz: .venv/test-installed
	$(BIN)/python tests/fuzz/fuzz.py $(if $(CASES),--cases $(CASES))

## bench: install the peers, run the benchmarks against them (under ten minutes, one thread), write benchmarks/RESULTS.md
bench: .venv/bench-installed
	$(BIN)/python benchmarks/run.py

.venv/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "kmde_fw needs Python 3.11 or newer: make PYTHON=python3.11"'
	$(PYTHON) -m venv .venv

.venv/demo-installed: .venv/bin/python setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable '.[embedded,sevennet]'
	touch $@

# GPAW is compiled here: it needs a C++ compiler, libxc and a BLAS, which apt-get installs where we may
.venv/real-dft-installed: .venv/demo-installed
	test -e /usr/include/xc.h || { apt-get update -qq && apt-get install -y -qq --no-install-recommends g++ libxc-dev libopenblas-dev; }
	CC=g++ CXX=g++ $(BIN)/pip install --quiet --editable '.[gpaw]'
	touch $@

.venv/test-installed: .venv/bin/python setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable '.[embedded,sevennet,test]'
	touch $@

# a peer that cannot be installed here is a row of the results that says so
.venv/bench-installed: .venv/bin/python setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable '.[embedded,sevennet]'
	-$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@

## clean: remove what can be made again; the embedded database in .kmde stays
clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
