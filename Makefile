# Everything a developer or a first user does. `make help` lists the verbs.
#
# One virtual environment, .venv, made from the lock files. A stamp file inside it says which lock
# was installed, so that nothing is done twice and a changed lock is installed by the next verb.

# The distribution's interpreter where it will do: distributions build theirs with profile-guided and
# link-time optimisation, what pyenv builds is a fifth to a third slower (docs/PERFORMANCE.md).
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help run test test-parts test-server check fix quick cover memory docs lock clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: $(VENV)/.run ## a demonstration server on 127.0.0.1:9000, its data in ./var
	@exec $(BIN)/python tools/run_demo.py

# Two halves at a time, for two cores: what drives a server process mostly waits for it.
test: $(VENV)/.dev ## every test this machine can run
	@echo "two halves side by side, each shown when it has ended: about a quarter of an hour"
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=line test-parts test-server

test-parts: $(VENV)/.dev
	$(PYTEST) --ignore=tests/client --ignore=tests/crash

test-server: $(VENV)/.dev
	$(PYTEST) tests/client tests/crash

check: $(VENV)/.dev ## formatting, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.dev ## mend what a tool can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quick: $(VENV)/.dev ## unit and property tests, under a minute
	$(PYTEST) tests/unit tests/property -m "not slow" -q

cover: $(VENV)/.dev ## branch coverage of everything but the client tests
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --ignore=tests/client
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --show-missing --fail-under=95

memory: $(VENV)/.dev ## 64 concurrent PUTs and GETs of 1 GiB; needs 70 GiB of room
	$(PYTEST) tests/client/test_numbers.py -k memory -s --object-mib=1024 -o faulthandler_timeout=0

docs: $(VENV)/.run ## write the generated tables of the documentation anew
	$(BIN)/python -m tools.write_readme
	$(BIN)/python -m tools.write_settings_docs
	$(BIN)/python -m tools.write_report_docs

lock: $(VENV)/.dev ## resolve both lock files anew
	$(BIN)/uv pip compile --quiet --no-emit-index-url --universal --generate-hashes \
		--no-annotate --no-header --python-version 3.11 \
		--extra build --extra dev pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --no-emit-index-url --universal --generate-hashes \
		--no-annotate --no-header --python-version 3.11 \
		--extra build -c requirements-dev.lock pyproject.toml -o requirements.lock

clean: ## remove what the verbs made, but not the data in ./var
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; try make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is needed (Debian: python3-venv)" >&2; exit 1; }

$(VENV)/.run: $(BIN)/python requirements.lock pyproject.toml
	@echo "installing into $(VENV)"
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# Newer than .run, so that `make run` after `make test` installs nothing again.
$(VENV)/.dev: $(BIN)/python requirements-dev.lock pyproject.toml
	@echo "installing into $(VENV), tools and clients for the tests included"
	$(PIP) --require-hashes -r requirements-dev.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $(VENV)/.run $@

# Crash proofs beyond the short forms in `make test`. COUNT is cycles or cases, SEED repeats a run.
# WORKERS=2 puts two server processes through power-cut and crash-images.
PROOF = $(BIN)/python -m tools.crash_proofs $@ $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED)) \
	$(if $(WORKERS),--workers $(WORKERS))
.PHONY: kill-loop kill-workers kill-workers-postgres power-cut crash-images syscall-faults full-disk slow-disk bit-flips

kill-loop: $(VENV)/.dev ## kill -9 under eight clients, then every acknowledged object is read (COUNT=1000)
	@$(PROOF)

kill-workers: $(VENV)/.dev ## the same on two workers (COUNT=500)
	@$(PROOF)

kill-workers-postgres: $(VENV)/.dev ## the same on two workers and PostgreSQL (COUNT=500)
	@$(PROOF)

power-cut: $(VENV)/.dev ## the same with power cuts of ext4 and XFS; needs root (COUNT=500)
	@$(PROOF)

crash-images: $(VENV)/.dev ## images of a logged disk, cut behind any write; needs root and FUSE (COUNT=10000)
	@$(PROOF)

syscall-faults: $(VENV)/.dev ## failing system calls, by strace (COUNT=all of the matrix)
	@$(PROOF)

full-disk: $(VENV)/.dev ## disks filled to the last block; needs root (COUNT=10)
	@$(PROOF)

slow-disk: $(VENV)/.dev ## an HDD that hangs and crawls under load; needs root and FUSE (COUNT=10)
	@$(PROOF)

bit-flips: $(VENV)/.dev ## single bits in records, catalog pages and log (COUNT=1000 in each)
	@$(PROOF)

.PHONY: move-bench
move-bench: $(VENV)/.dev ## how fast pages sink beside fio on the same disk (DIRECTORY=on it, SOURCE=on another)
	$(BIN)/python -m tools.bench_moves $(if $(DIRECTORY),--directory $(DIRECTORY)) $(if $(SOURCE),--source $(SOURCE))

.PHONY: foreground-bench
foreground-bench: $(VENV)/.dev ## GETs from the SSD beside moves, once their rates are found (DIRECTORY=; 10 minutes)
	$(BIN)/python -m tools.bench_foreground $(if $(DIRECTORY),--directory $(DIRECTORY))

.PHONY: tier-bench
tier-bench: $(VENV)/.dev ## what the default policy gains over LRU and S3-FIFO (TRACES=folder for recorded ones)
	$(BIN)/python -m tools.bench_tiering $(if $(TRACES),--traces $(TRACES))

.PHONY: heat-bench
heat-bench: $(VENV)/.dev ## what heat costs, on synthetic heat, beside the goals; 2 GB of memory (PAGES=100000000)
	$(BIN)/python -m tools.bench_heat $(if $(PAGES),--pages $(PAGES))

.PHONY: plan-bench
plan-bench: $(VENV)/.dev ## what a plan and an explanation cost, beside the goals (OBJECTS=20000)
	$(BIN)/python -m tools.bench_plan $(if $(OBJECTS),--objects $(OBJECTS))

# ONLY=get-4KiB,put ROUNDS=5 JSON=file; BENCH_DIR is on the file system to measure (./var/bench).
BENCH = $(BIN)/python -m tools.bench $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	$(if $(TIME_MAX),--time-max $(TIME_MAX)) $(if $(JSON),--json $(JSON))
.PHONY: bench bench-quick
bench: $(VENV)/.dev ## speed beside ceilings and a peer, on a quiet machine; hours (ONLY=get-4KiB,head)
	$(BENCH)

bench-quick: $(VENV)/.dev ## the same scaled down to some minutes: shows that it runs, judges nothing
	$(BENCH) --quick

.PHONY: wire-bench
wire-bench: $(VENV)/.dev ## CPU time of a request between socket and handler, layer by layer (ROUNDS=5)
	$(BIN)/python -m tools.bench_wire $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: hostile-bench
hostile-bench: $(VENV)/.dev ## what honest clients feel of slow, silent, rude and lost ones (ROUNDS=3)
	$(BIN)/python -m tools.bench_hostile $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: fuzz
SECONDS ?= 600

fuzz: $(VENV)/.dev ## every parser for SECONDS=600 each, then the server over raw sockets as long
	$(BIN)/python tools/fuzz.py --each --seconds $(SECONDS)
	THERMOCLINE_FUZZ_SECONDS=$(SECONDS) $(PYTEST) tests/client/test_fuzz_http.py -q -s -o faulthandler_timeout=0

# RUNS histories of STEPS steps each, 25 to a seed; SEED is the first and repeats them.
.PHONY: model
model: $(VENV)/.dev ## random histories against the reference model (RUNS=20000 STEPS=100)
	$(BIN)/python -m tools.check_model --runs $(or $(RUNS),20000) --steps $(or $(STEPS),100) \
		$(if $(SEED),--seed $(SEED))

# POINTS crash points from seed FIRST on; one seed alone: `python -m tools.simulate --seed N --dense`
.PHONY: simulate sabotage
simulate: $(VENV)/.dev ## seeds of the simulated appliance until POINTS=1000000 crash points are checked
	$(BIN)/python -m tools.simulate --crash-points $(or $(POINTS),1000000) --first $(or $(FIRST),0) $(if $(PROFILE),--profile $(PROFILE))

sabotage: $(VENV)/.dev ## every rule of durability broken in turn: a seed must find each
	$(BIN)/python -m tools.simulate --sabotage
