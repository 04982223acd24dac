# make train            trains the quickstart
# make test             lint, types and the fast tests
# make test-all         these, the slow tests, and the oldest supported releases
# make train EXTRAS=cuda CONFIG=configs/cifar10_sphere.py WORKDIR=runs/cifar10

PYTHON ?= python3
EXTRAS ?=
CONFIG ?= configs/quickstart.py
WORKDIR ?= runs/quickstart
ARGS ?=

comma := ,
BIN := .venv/bin
TRAIN_STAMP := .venv/.installed-train$(if $(EXTRAS),-$(EXTRAS))

.PHONY: train test test-all lint test-fast test-slow test-oldest bare benchmark-quickstart clean

train: $(TRAIN_STAMP)
	$(BIN)/python train.py --config=$(CONFIG) --workdir=$(WORKDIR) $(ARGS)

test: lint test-fast bare

test-all: test test-slow test-oldest

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

test-fast: .venv/.installed-test
	$(BIN)/python -m pytest -q -m "not slow" tests
	$(BIN)/python -m pytest -q --doctest-modules hypersphere

test-slow: .venv/.installed-test
	$(BIN)/python -m pytest -q -m slow tests

# The lower bounds of pyproject.toml.
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest -q -m "not slow" tests

# The package alone, without any extra: it imports, and its layers and losses run.
bare: .venv-bare/.installed
	.venv-bare/bin/python -W error .ci/bare.py

benchmark-quickstart: $(TRAIN_STAMP)
	$(BIN)/python benchmarks/quickstart.py

.venv/bin/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip

$(TRAIN_STAMP): pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[train$(if $(EXTRAS),$(comma)$(EXTRAS))]'
	touch $@

.venv/.installed-test: pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

.venv-oldest/.installed: pyproject.toml requirements-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check --editable '.[test]' --constraint requirements-oldest.txt
	touch $@

.venv-bare/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-bare
	.venv-bare/bin/pip install --quiet --disable-pip-version-check --editable .
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-bare .cache .pytest_cache .ruff_cache
