# `make demo` and `make test` need Python 3.11 and a C++ compiler; everything else they install.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
BUILD_INPUTS := pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)

.PHONY: demo test check bench bench-gpu clean

demo: $(VENV)/demo.stamp
	$(BIN)/fanin init zoo:alexnet --recipe kaiming --seed 0 --out alexnet.safetensors --force

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n 2 -q

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
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/check.stamp: $(VENV)/test.stamp
	$(PIP) --editable '.[test,check]'
	touch $@

clean:
	rm -rf $(VENV) build dist
