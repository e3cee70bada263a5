# make run    starts the MTA with a mock receiver and sends sample mail through it
# make test   runs the default test suite
# Needs python3 >= 3.11 and make; everything else goes into .venv.

PYTHON := .venv/bin/python
PYTEST := .venv/bin/pytest
# Tests wait for sockets and timers half of the time: two processes for each processor.
TESTERS := $(shell echo $$((2 * $$(nproc))))

.PHONY: run demo test test-slow lint format bench bench-short micro docs torture torture-short fuzz steps clean

run: .venv/ready
	@$(PYTHON) -m mta.sink.demo --stay

demo: .venv/ready
	@$(PYTHON) -m mta.sink.demo

test: .venv/ready
	$(PYTEST) -n $(TESTERS) -q

test-slow: .venv/ready
	$(PYTEST) -q -m slow --timeout=1800

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: .venv/ready
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# All shapes, five runs each, beside Postfix: about 40 minutes, the cold start of 1 M included; results go to benchmarks/results
bench: .venv/ready
	$(PYTHON) -m benchmarks

# Does every scenario still run? One run, few messages, under three minutes; fails when one breaks
bench-short: .venv/ready
	$(PYTHON) -m benchmarks --short --no-write

micro: .venv/ready
	$(PYTHON) -m benchmarks.micro

docs: .venv/ready
	$(PYTHON) -m mta.config.reference docs

# Crash engines against the real service: ROUNDS=, SEED=, ENGINE=kill,calls,images,... SHORT=1
torture: .venv/ready
	$(PYTHON) -m tests.reliability

# All engines, in about five minutes
torture-short: .venv/ready
	SHORT=1 $(PYTHON) -m tests.reliability

# TIME= CPU seconds over all targets; guided by coverage where atheris is installed (pip install '.[fuzz]')
TIME ?= 60
fuzz: .venv/ready
	$(PYTHON) -m tests.fuzz --seconds $(TIME)

# The scheduler under all limits at once: STEPS=, SEED=
STEPS ?= 100000
steps: .venv/ready
	STEPS=$(STEPS) SEED=$(SEED) $(PYTEST) -q -s -m slow tests/unit/queue/test_all_limits.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/ready: pyproject.toml .ci/venv
	@.ci/venv
