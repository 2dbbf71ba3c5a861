# Every target does its own set-up: scripts/setup.sh says what it installs, and installs it once.
SHELL := /bin/bash
JOBS ?= $(shell nproc)
PATH := $(CURDIR)/.venv/bin:$(PATH)
export PATH

PYTHON := .venv/bin/python

.PHONY: build test demo bench bench-planner bench-prediction bench-training bench-methods \
  lint sanitize fuzz format clean setup setup-test setup-dev

build: setup
	@$(PYTHON) scripts/configure.py release
	cmake --build build/release -j $(JOBS)

setup:
	@scripts/setup.sh build
setup-test:
	@scripts/setup.sh test
setup-dev:
	@scripts/setup.sh dev

# Format, include direction, unit and process tests, and the build that knows neither torch nor MPI.
test: setup-test
	@$(PYTHON) scripts/configure.py release planner
	cmake --build build/release -j $(JOBS)
	cmake --build build/planner -j $(JOBS)
	@$(PYTHON) scripts/run_tests.py build/planner:unit,process build/release:unit,process

demo: setup
	@$(PYTHON) scripts/configure.py release
	cmake --build build/release -j $(JOBS) --target shardwise
	@scripts/demo.sh

# Micro benchmarks, then the three with a story.
bench: setup
	@$(PYTHON) scripts/configure.py release
	cmake --build build/release -j $(JOBS)
	@for bench in $$(find build/release/src -maxdepth 2 -name '*_bench' -type f | sort); do \
	  echo "== $$bench"; $$bench || exit 1; done
bench-methods bench-prediction bench-training: bench-%: setup
	@$(PYTHON) scripts/configure.py release
	cmake --build build/release -j $(JOBS) --target shardwise
	@$(PYTHON) bench/$*.py
# The build that users without torch and MPI have: start-up and memory are its own.
bench-planner: setup
	@$(PYTHON) scripts/configure.py planner
	cmake --build build/planner -j $(JOBS) --target shardwise solver_bench
	@$(PYTHON) bench/planner.py

lint: setup-dev
	@$(PYTHON) scripts/configure.py release
	@status=0; $(PYTHON) scripts/format.py --check || status=1; \
	  $(PYTHON) scripts/lint.py build/release || status=1; exit $$status

# Everything under address and undefined-behaviour sanitizers; what has threads under the race detector.
sanitize: setup-dev
	@$(PYTHON) scripts/configure.py debug tsan
	cmake --build build/debug -j $(JOBS)
	@$(PYTHON) scripts/run_tests.py --only '_test$$|_fuzz$$|^tests_' build/debug:unit
	cmake --build build/tsan -j $(JOBS)
	@$(PYTHON) scripts/run_tests.py --only '^(runtime|simulate|planner)_test$$|^tests_runtime' build/tsan:unit

fuzz: setup-dev
	@$(PYTHON) scripts/configure.py fuzz
	cmake --build build/fuzz -j $(JOBS)
	@scripts/fuzz.sh

format: setup-test
	@$(PYTHON) scripts/format.py

clean:
	rm -rf build
