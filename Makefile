# make train            trains the quickstart
# make test             lint, types and the fast tests
# make test-all         these, the slow tests, the examples, the package without extras, the
#                       oldest supported releases, and the compilers of TPUs and GPUs
# make train EXTRAS=cuda CONFIG=configs/cifar10_sphere.py WORKDIR=runs/cifar10
# make test PYTHON=python3.12 WORKERS=8

PYTHON ?= python3
OLDEST_PYTHON ?= python3.11
EXTRAS ?=
CONFIG ?= configs/quickstart.py
WORKDIR ?= runs/quickstart
ARGS ?=
WORKERS ?= auto

comma := ,
BIN := .venv/bin
TRAIN_STAMP := .venv/.installed-train$(if $(EXTRAS),-$(EXTRAS))
# Importing JAX takes three times as long where Python must compile it at every start.
export PYTHONDONTWRITEBYTECODE :=
# A file stays in one process, which counts what it compiles; in its order, so that a
# failure is the same everywhere. `.venv/bin/pytest` alone shuffles.
PYTEST := -m pytest -q -n $(WORKERS) --dist loadfile -p no:randomly
# What meets the libraries' interfaces.
MEETING := tests/nn tests/linen tests/optim \
	tests/test_contract.py tests/test_docstrings.py \
	tests/training/test_step.py tests/training/test_loop.py tests/recipes \
	tests/training/test_parts.py

.PHONY: train test test-all lint test-fast test-slow test-oldest test-aot bare mutations
.PHONY: benchmark-quickstart clean

train: $(TRAIN_STAMP)
	$(BIN)/python train.py --config=$(CONFIG) --workdir=$(WORKDIR) $(ARGS)

test: lint test-fast

test-all: test test-slow bare test-oldest test-aot

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --min-severity=error --summary=none

test-fast: .venv/.installed-test
	$(BIN)/python $(PYTEST) -m "not slow and not aot" tests

# What computes, fast and slow, as XLA compiles for users, and the examples of docstrings.
test-slow: .venv/.installed-test
	$(BIN)/python $(PYTEST) -m "slow and not aot" tests \
		--ignore=tests/ops --ignore=tests/losses
	$(BIN)/python $(PYTEST) -m "not aot" --optimized --doctest-modules \
		hypersphere tests/ops tests/losses

# The lower bounds of pyproject.toml, on the oldest Python.
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python $(PYTEST) -p no:compilations -m "not slow" $(MEETING)

# The training program compiled for machines that are not here.
test-aot: .venv-aot/.installed
	.venv-aot/bin/python -c "import libtpu"  # without which they would be skipped
	.venv-aot/bin/python -m pytest -q -n $(WORKERS) -p no:randomly -m aot tests/aot

# The package alone, without any extra: it imports, and its layers and losses run.
bare: .venv-bare/.installed
	.venv-bare/bin/python -W error .ci/bare.py

# Whether the tests notice faults that are planted; about a quarter of an hour.
mutations: .venv/.installed-test
	$(BIN)/python -m tests.mutations

benchmark-quickstart: $(TRAIN_STAMP)
	$(BIN)/python benchmarks/quickstart.py

# $(call make_environment,FOLDER,PYTHON): uv installs in seconds what takes pip a minute.
define make_environment
	$(2) -m venv $(1) || { rm -rf $(1); exit 1; }
	$(1)/bin/pip install --quiet --disable-pip-version-check uv
endef
# $(call install,FOLDER,WHAT)
install = $(1)/bin/uv pip install --quiet --compile-bytecode \
	--python $(1)/bin/python --editable $(2)

.venv/bin/uv:
	$(call make_environment,.venv,$(PYTHON))

.venv-oldest/bin/uv:
	$(call make_environment,.venv-oldest,$(OLDEST_PYTHON))

.venv-aot/bin/uv:
	$(call make_environment,.venv-aot,$(PYTHON))

.venv-bare/bin/uv:
	$(call make_environment,.venv-bare,$(PYTHON))

$(TRAIN_STAMP): pyproject.toml | .venv/bin/uv
	$(call install,.venv,'.[train$(if $(EXTRAS),$(comma)$(EXTRAS))]')
	touch $@

.venv/.installed-test: pyproject.toml | .venv/bin/uv
	$(call install,.venv,'.[test]')
	touch $@

.venv-oldest/.installed: pyproject.toml requirements-oldest.txt | .venv-oldest/bin/uv
	$(call install,.venv-oldest,'.[test]' --constraint requirements-oldest.txt)
	touch $@

.venv-aot/.installed: pyproject.toml | .venv-aot/bin/uv
	$(call install,.venv-aot,'.[aot$(comma)test]')
	touch $@

.venv-bare/.installed: pyproject.toml | .venv-bare/bin/uv
	$(call install,.venv-bare,.)
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-aot .venv-bare .cache .pytest_cache .ruff_cache
