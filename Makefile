# make quickstart: set everything up, train, print the verdict and the report's path
# make test:       set everything up, run the quick tests
# make docs:       build the documentation site in site/; a warning is an error
# make check:      format, lint, types, imports, docs and the quick tests, as in CI
# make slow:       the long tests, with real trainings, as in CI
# make coverage:   the share of lines that the quick tests reach, at least 90 %
# make notebook:   start Jupyter on the notebooks
# make notebooks:  run each notebook from its text and write it again with its outputs

PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test docs check slow coverage lock notebook notebooks

quickstart: .venv/ready
	$(BIN)/smidgen quickstart

test: .venv/ready
	$(BIN)/pytest

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs
	$(MAKE) test

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

slow: .venv/ready
	$(BIN)/pytest -m slow

coverage: .venv/ready
	$(BIN)/coverage run --source=smidgen -m pytest -q
	$(BIN)/coverage report --fail-under=90

notebook: .venv/notebook
	$(BIN)/jupyter lab notebooks

notebooks: .venv/notebook
	$(BIN)/python notebooks/build.py

# What Jupyter needs, next to the torch that is installed.
.venv/notebook: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --no-build-isolation --editable '.[notebook]'
	touch $@

# The environment, updated when the lock file or pyproject.toml changes.
.venv/ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Pin the newest allowed versions. torch stays pinned by hand: any other request for it also installs
# gigabytes of GPU libraries.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet $$(sed -n 's/^torch==.*/&/p' requirements.lock) --editable '.[dev,docs,export]'
	.venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+.*/\1/' > requirements.lock
	rm -r .venv-lock
