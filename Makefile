# Two commands for a fresh clone: `make demo` and `make test`. Each makes .venv first, if it must.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CLIP   ?=
SEEDS  ?= 20
READS  := $(VENV)/reads.txt
JOBS   ?= 2
# The oldest torch has wheels for Python up to 3.12.
OLDEST_PYTHON ?= $(shell for p in python3.10 python3.11 python3.12 $(PYTHON); do $$p -c '' 2>/dev/null && echo $$p && break; done)
OLDEST := .venv-oldest
NEWEST := .venv-newest
PYTEST  = HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: demo demo-plan lab lint test test-long mutants test-oldest test-oldest-guides test-newest soak test-seeds world tables
.PHONY: tables-real notebooks docs readme clean bench resolve reading

$(VENV)/.installed: settings.ini setup.py pyproject.toml
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python tools/install.py
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@$(BIN)/python tools/install.py dev
	@touch $@

demo-plan:
	@echo "This makes $(VENV) and installs the kit into it if that was not done yet, runs $(if $(CLIP),$(CLIP),a shipped clip) through the shipped"
	@echo "model (about ten seconds), and writes the page demo/prism.html."

demo: demo-plan $(VENV)/.installed      ## run the main job on a shipped clip, or CLIP=any/video.mp4
	@$(BIN)/vidprism show $(if $(CLIP),"$(CLIP)") --out demo/prism.html

lab: $(VENV)/.installed       ## open JupyterLab on the tour; Ctrl-C ends it
	@$(BIN)/jupyter lab --ip=127.0.0.1 --ServerApp.answer_yes=True $(if $(filter 0,$(shell id -u)),--allow-root) nbs/guides/01_explore_clip.ipynb

lint: $(VENV)/.dev            ## ruff, the prose, the types of data/ and configs, and the density of the library's lines
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/prose.py
	$(BIN)/python tools/typecheck.py
	$(BIN)/python tools/lines.py

test: $(VENV)/.dev            ## the library's notebooks and the tests beside them, in random order, JOBS at a time
	$(call PYTEST,$(VENV)) -m "not long"

test-long: $(VENV)/.dev       ## guides and papers, and what takes long: kills, races, browsers, processes, very large clips
	$(call PYTEST,$(VENV)) -m long

$(VENV)/.docs: $(VENV)/.dev
	@$(BIN)/python tools/install.py dev docs
	@touch $@

docs: $(VENV)/.docs          ## the documentation site, _docs/html/index.html, which needs no network
	$(BIN)/python tools/docs.py

$(OLDEST)/.dev: settings.ini setup.py pyproject.toml tools/bounds.py tools/colab.txt
	$(OLDEST_PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install -q -U pip
	$(OLDEST)/bin/python tools/bounds.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install -q -c $(OLDEST)/constraints.txt -e '.[dev]'
	$(OLDEST)/bin/python tools/bounds.py check
	@touch $@

$(NEWEST)/.dev: settings.ini setup.py pyproject.toml
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install -q -U pip
	@touch $@

test-oldest: $(OLDEST)/.dev   ## the tests on the lowest versions that settings.ini allows, in an environment of their own
	$(call PYTEST,$(OLDEST)) -m "not long"

test-oldest-guides: $(OLDEST)/.dev     ## of these, the library's notebooks and the guides that explore clips
	$(call PYTEST,$(OLDEST)) tests/test_notebooks.py tests/test_exercises.py -k "library or run[01 or run[02 or run[04"

test-newest: $(NEWEST)/.dev   ## the tests on the newest versions that settings.ini allows, in an environment of their own
	$(NEWEST)/bin/python -m pip install -q -U --upgrade-strategy eager -e '.[dev]'
	$(call PYTEST,$(NEWEST)) -m "not long"

$(VENV)/.mutants: $(VENV)/.dev
	$(BIN)/python -m pip install -q 'cosmic-ray==8.7.*'
	@touch $@

mutants: $(VENV)/.mutants     ## mutation testing of heads/ and training/ (MODULES="heads/dbi": these), for hours; numbers in benchmarks/mutants.json
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 VIDPRISM_QUICK=1 $(BIN)/python tools/mutants.py $(MODULES)

soak: $(VENV)/.dev            ## for hours: kills, loader, reads, damaged files, an inspector driven at random; numbers in benchmarks/soak.json
	for attack in kills loader reads files inspector; do HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py $$attack || exit 1; done
	VIDPRISM_SOAK=1 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_public_names.py

test-seeds: $(VENV)/.dev      ## the tests from SEEDS random states: all once, then those that read a global generator
	@rm -f $(READS)
	VIDPRISM_READS=$(READS) $(call PYTEST,$(VENV)) -m "not long"
	@for run in $$(seq 2 $(SEEDS)); do $(call PYTEST,$(VENV)) @$(READS) || exit 1; done

world: $(VENV)/.dev           ## rebuild clips, weights and measured numbers, then the README
	$(BIN)/vidprism-world
	$(MAKE) readme

resolve: $(VENV)/.installed   ## resolve the requirements for macOS, Linux and Windows, Python 3.10 to 3.13; nothing is installed
	$(BIN)/python tools/resolve.py

readme: $(VENV)/.dev          ## README.md from nbs/index.ipynb
	$(BIN)/python tools/readme.py --write

notebooks: $(VENV)/.dev       ## run every notebook anew; keep light pictures and figures' data (needs a Chromium for kaleido)
	for n in nbs/*.ipynb nbs/*/*.ipynb nbs/*/*/*.ipynb; do PLOTLY_RENDERER=plotly_mimetype+png $(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.timeout=3000 $$n || exit 1; done
	$(BIN)/python tools/slim.py nbs/*.ipynb nbs/*/*.ipynb nbs/*/*/*.ipynb
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export

tables: $(VENV)/.dev          ## the papers' tables on the embedded world; goes on where it was stopped
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python benchmarks/tables.py world

tables-real: $(VENV)/.dev     ## VidPrism's tables on real clips (DATA=list or folder, ENCODER=name; default: JHMDB-21 and MobileNet in ../shared)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python benchmarks/tables.py real $(if $(DATA),--data "$(DATA)") $(if $(ENCODER),--encoder "$(ENCODER)")

bench: $(VENV)/.dev           ## measured ratios: the head against its loops
	$(BIN)/python benchmarks/head_speed.py

reading: $(VENV)/.dev         ## frames read a second: the kit against the bare loops of decord, PyAV and torchcodec
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python benchmarks/reading.py

clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) demo build dist *.egg-info
