# make run    starts the MTA with a mock receiver and sends sample mail through it
# make test   runs the default test suite
# Needs python3 >= 3.11 and make; everything else goes into .venv.
# make PYTHON=python3.13 test runs it on another interpreter, whose packages go into .venv-python3.13

PYTHON ?= python3
VENV := $(if $(filter-out python3,$(PYTHON)),.venv-$(notdir $(PYTHON)),.venv)
RUN := $(VENV)/bin/python
PYTEST := $(VENV)/bin/pytest
# Tests wait for sockets and timers half of the time: two processes for each processor.
TESTERS := $(shell echo $$((2 * $$(nproc))))

.PHONY: run demo test test-slow lint format bench bench-short micro docs torture torture-short fuzz steps clean venv

run: venv
	@$(RUN) -m mta.sink.demo --stay

demo: venv
	@$(RUN) -m mta.sink.demo

test: venv
	$(PYTEST) -n $(TESTERS) -q

test-slow: venv
	$(PYTEST) -q -m slow --timeout=1800

lint: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: venv
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# All shapes, five runs each, beside Postfix: about 40 minutes, the cold start of 1 M included; results go to benchmarks/results
bench: venv
	$(RUN) -m benchmarks

# Does every scenario still run? One run, few messages, under three minutes; fails when one breaks
bench-short: venv
	$(RUN) -m benchmarks --short --no-write

micro: venv
	$(RUN) -m benchmarks.micro

docs: venv
	$(RUN) -m mta.config.reference docs

# Crash engines against the real service: ROUNDS=, SEED=, ENGINE=kill,calls,images,... SHORT=1
torture: venv
	$(RUN) -m tests.reliability

# All engines, in about five minutes
torture-short: venv
	SHORT=1 $(RUN) -m tests.reliability

# TIME= CPU seconds over all targets; guided by coverage where atheris is installed (pip install '.[fuzz]')
TIME ?= 60
fuzz: venv
	$(RUN) -m tests.fuzz --seconds $(TIME)

# The scheduler under all limits at once: STEPS=, SEED=
STEPS ?= 100000
steps: venv
	STEPS=$(STEPS) SEED=$(SEED) $(PYTEST) -q -s -m slow tests/unit/queue/test_all_limits.py

clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

# Makes it when it isn't there, is older than what goes in, or was made by another interpreter
venv:
	@PYTHON=$(PYTHON) .ci/venv $(VENV)
