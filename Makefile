# What there is to do with a checkout. Needs python3 (3.11 or newer), make and the package registries; the rest is fetched.
.NOTPARALLEL:
.PHONY: setup dashboard demo dev test check bench lock chromium model chaos chaos-mutants
.PHONY: test-unit test-property test-integration test-e2e test-browser test-bench test-chaos

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest

setup:
	@python3 setup/bootstrap.py

# Part of the set-up: built when its sources have changed.
dashboard: setup

# The whole system on this machine, until Ctrl-C.
dev: setup
	@$(PYTHON) -m cli.main dev

# A year of real flights: ingested twice, a worker killed on the way, billed and checked to the last cent. KEEP=1 leaves it running.
demo: setup
	@$(PYTHON) -m demo $(if $(KEEP),--keep)

check: setup
	@$(PYTHON) setup/check.py

# Cheap and strict first: a broken rule is reported in seconds.
test: setup chromium check test-unit test-property test-integration test-e2e test-browser test-bench test-chaos

# Two files at once where one cannot slow the other into a failure; what is timed or killed in a whole system stands alone.
test-unit test-property test-integration: PARALLEL := --numprocesses 2 --dist loadfile

test-unit test-property test-integration test-e2e test-browser test-bench test-chaos: test-%:
	$(if $(wildcard tests/$*/*.py),$(PYTEST) $(PARALLEL) tests/$*)

chromium:
	@python3 setup/chromium.py

# Every interleaving of the counting protocol in small: what must hold, and each rule off in turn, which must fail. Minutes.
model: setup
	@for part in scenarios mutants completion readers; do QUICK=$(QUICK) $(PYTHON) -m docs.protocol.$$part || exit 1; done

# QUICK=1: once and small. ONLY="ingest pipeline": some of the scenarios. COMPARE=old.json: beside an older run.
bench: setup
	@$(PYTHON) -m bench $(ONLY) $(if $(QUICK),--quick) $(if $(COMPARE),--compare $(COMPARE))

# Everything fails under load, at moments that SEED decides, and every number is compared with the truth afterwards.
chaos: setup
	@$(PYTHON) -m tests.chaos --seed $(or $(SEED),1) --minutes $(or $(MINUTES),3)

# Each rule of the protocol switched off in turn, with the faults it is there for: it must be found. Ten minutes; ONLY="name ..." for some.
chaos-mutants: setup
	@$(PYTHON) -m tests.chaos.mutants $(ONLY)

# After a change of dependencies in pyproject.toml.
lock:
	@python3 -m setup.lock
