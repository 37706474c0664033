# Every target sets itself up. PYTHON chooses the interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
DEMO ?= .demo
OUT ?= bench/results
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
DEVELOP := $(VENV)/.installed

.PHONY: help demo test test-slow coverage mutation shuffle gpu wheel docs format lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: ## label a picture and a video with an engine built here, in a light environment (no torch)
	@echo "demo: installing the light extras into $(DEMO)"
	@test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	@SKBUILD_WHEEL_CMAKE=false $(DEMO)/bin/python $(PIP) '.[ort,faces]'
	@echo "demo: an engine for this machine's CPU, gates included"
	$(DEMO)/bin/convcut-trt build --precision fp16 --backend onnxruntime -o $(DEMO)/engines
	@echo "demo: what the face in a picture expresses"
	$(DEMO)/bin/convcut-trt predict $(CURDIR)/examples/astronaut.png --box 110,70,100,120 --engine $(DEMO)/engines --draw $(DEMO)/astronaut.png
	@echo "demo: the robot loop on a drawn clip: play $(DEMO)/faces.mp4"
	$(DEMO)/bin/convcut-trt run $(CURDIR)/examples/faces.mp4 --engine $(DEMO)/engines --detector haar --to $(DEMO)/faces.mp4
	@echo "demo: TensorRT-RTX, which builds for another machine's GPU"
	@SKBUILD_WHEEL_CMAKE=false $(DEMO)/bin/python $(PIP) '.[rtx,faces]'
	$(DEMO)/bin/convcut-trt build --precision fp16 --backend tensorrt-rtx --target rtx4060ti -o $(DEMO)/engines

$(DEVELOP): pyproject.toml constraints.txt
	@echo "set-up: installing everything, torch included (several GB), into $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) --editable '.[rtx,lab,dev]'
	@touch $@

test: lint ## check style, types and layering, then run the fast tests
	@echo "test: running the fast tests, one worker a core"
	@$(BIN)/pytest --numprocesses auto --dist worksteal

test-slow: $(DEVELOP) ## run the slow tests: training, downloads, wheels in a fresh environment
	@echo "test-slow: running the slow tests"
	@$(BIN)/pytest -m slow

coverage: $(DEVELOP) ## measure which branches of convcut_trt the fast tests take: 92 % at least
	@$(BIN)/pytest --numprocesses auto --dist worksteal --cov

mutation: $(DEVELOP) ## break gates, stats and int8 in every small way: of each, their tests see 80 % at least
	@$(BIN)/mutmut run
	@$(BIN)/mutmut results --all true | awk -F ': ' ' \
	  { name = $$1; sub(/^ +/, "", name); sub(/\.x[^.]*$$/, "", name); of[name]++; modules += of[name] == 1 } \
	  $$2 == "killed" || $$2 == "timeout" { killed[name]++; next } \
	  { print } \
	  END { \
	    if (modules < 3) { print "mutation: mutants of " modules + 0 " modules, not of gates, stats and int8"; exit 1 } \
	    for (name in of) { \
	      printf "mutation: %s: %d of %d killed\n", name, killed[name], of[name]; \
	      if (killed[name] < 0.8 * of[name]) low = 1 \
	    } \
	    if (low) print "mutation: less than 80 % killed; mutmut show NAME shows one that lived"; \
	    exit low \
	  }'

shuffle: $(DEVELOP) ## run the fast tests in random order; the seed is printed
	@$(BIN)/pytest -p randomly --numprocesses auto --dist worksteal

gpu: $(DEVELOP) ## run the GPU tests and the benchmarks; results go to OUT
	@echo "gpu: running the tests that need a GPU"
	@status=0; $(BIN)/pytest -m gpu -rs || status=1; echo "gpu: measuring into $(OUT)"; \
	  $(BIN)/python -m bench --out $(OUT) || status=1; exit $$status

wheel: $(DEVELOP) ## build the sdist and the wheel from it into dist/, and check both
	@echo "wheel: building into dist/"
	@rm -rf dist
	@$(BIN)/python -c 'from scikit_build_core.build import build_sdist; build_sdist("dist")'
	@$(BIN)/python -m pip --quiet wheel dist/*.tar.gz --no-deps --wheel-dir dist
	@echo "wheel: checking"
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/check-wheel-contents dist/*.whl

docs: $(DEVELOP) ## write the API reference from the docstrings
	@$(BIN)/python docs/make_api.py

format: $(DEVELOP) ## format the code and sort its imports
	@echo "format: rewriting files in place"
	@$(BIN)/ruff check --quiet --select I --fix .
	@$(BIN)/ruff format --quiet .

lint: $(DEVELOP) ## check style, types and layering
	@echo "lint: style"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@echo "lint: types"
	@$(BIN)/mypy --no-error-summary --num-workers auto
	@echo "lint: layering"
	@$(BIN)/lint-imports --no-logo

clean: ## remove what the other targets made
	@echo "clean: removing environments, builds and caches"
	@rm -rf $(VENV) $(DEMO) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
