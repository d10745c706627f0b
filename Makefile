# The two commands: `make run` (the whole desk) and `make test`. They need nothing but make and Python 3.11 or newer.

.DEFAULT_GOAL := help
.PHONY: help run test lint format reset bench venv dev pin chaos shots

# The first Python that is new enough; each is tried, because a version manager's shim may exist and not work.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
SOURCES := transactions scoring alerts cases fraudsite tests manage.py bootstrap.py
VENV_PYTHON := .venv/bin/python

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile

run: venv ## Start the desk (PORT=8000, HOST=localhost); Ctrl-C stops it
	@exec $(VENV_PYTHON) -m fraudsite.supervisor

test: dev ## Run all tests, in two halves beside each other (ARGS="tests/cases": those alone)
	@exec $(VENV_PYTHON) -m $(if $(ARGS),pytest $(ARGS),tests)

chaos: dev ## Kill random processes under live traffic and check every promise (ARGS="--kills 200 --payments 200000")
	@exec $(VENV_PYTHON) -m benchmarks.chaos $(ARGS)

lint: dev ## Run the checkers
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy $(SOURCES)
	$(VENV_PYTHON) -m djlint --lint --quiet templates

format: dev ## Format the code
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .

bench: venv ## Measure everything on own servers (QUICK=1: minutes instead of hours; ARGS="--only decisions")
	@exec $(VENV_PYTHON) -m benchmarks $(ARGS)

shots: dev ## Pictures of every page, two widths, light and dark, into screenshots/ (ARGS="--only queue")
	@exec $(VENV_PYTHON) -m tests.browser.shots $(ARGS)

reset: venv ## Wipe the local data (refused while the desk runs)
	@exec $(VENV_PYTHON) -m fraudsite.supervisor reset

venv: ## .venv with what the desk needs
	@$(if $(PYTHON),"$(PYTHON)" bootstrap.py requirements.txt,echo "Cannot start: Python 3.11 or newer is needed and none was found; name one with PYTHON=." >&2; exit 1)

dev: venv ## .venv with what developers need
	@"$(PYTHON)" bootstrap.py requirements-dev.txt

pin: ## Pin requirements*.txt anew from requirements*.in
	@"$(PYTHON)" bootstrap.py --pin
