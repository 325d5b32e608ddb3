# `make demo` and `make test` need Python 3.11 and a C++ compiler; everything else they install.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
OLDEST := .venv-oldest
NOT_OLDEST := --ignore tests/real --ignore tests/browser --ignore tests/gpu
BUILD_INPUTS := pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)

.PHONY: demo test test-oldest-torch check bench bench-gpu clean

demo: $(VENV)/demo.stamp
	$(BIN)/fanin init zoo:alexnet --recipe kaiming --seed 0 --out alexnet.safetensors --force

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n 2 -q

# The oldest release that pyproject.toml states: a gigabyte to download, three with what it needs.
test-oldest-torch: $(OLDEST)/oldest.stamp
	$(OLDEST)/bin/python -m pytest -n 2 -q $(NOT_OLDEST)

check: $(VENV)/check.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q --doctest-modules src/fanin

bench: $(VENV)/test.stamp
	$(BIN)/python benches/against_torch.py

# Needs a CUDA device and a CUDA build of torch in the environment.
bench-gpu: $(VENV)/test.stamp
	$(BIN)/python benches/gpu.py --save

# Editable, so that Python edits need no new install; a change of the native code does.
$(VENV)/demo.stamp: $(BUILD_INPUTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(PIP) --editable '.[test,gpu]'
	touch $@

$(VENV)/check.stamp: $(VENV)/test.stamp
	$(PIP) --editable '.[test,gpu,check]'
	touch $@

# Built anew for this environment, so that it leaves the editable one alone.
$(OLDEST)/oldest.stamp: $(BUILD_INPUTS)
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		torch==2.10.0 --editable '.[test]' --config-settings=build-dir=build/oldest
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) build dist
