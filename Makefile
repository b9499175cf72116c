# Podium's verbs. `make help` lists them; plain `make` checks everything.
# A machine needs Python 3.12 (as on Kaggle) or 3.11, and make; the rest is set up on first use.

SHELL := /bin/bash
.DEFAULT_GOAL := check
.PHONY: help setup backbones build build-check lint format types test test-fast test-jax test-bundle test-bundle-jax \
  test-slow test-kill test-long test-backbones check dry-run gallery race pseudo report blend new push infer-push status logs quota pull submit webhook-setup \
  webhook-test dashboard dashboard-import dashboard-export clean

# The first of these that runs and is 3.12 or 3.11.
CANDIDATES = $(PYTHON) python3.12 $(HOME)/.pyenv/versions/3.12*/bin/python python3.11 python3 python
OUR_PYTHON = import sys; sys.exit(sys.version_info[:2] not in ((3, 12), (3, 11)))
VENV = .venv/bin/python
REQUIREMENTS = requirements/kaggle-image.txt requirements/workshop.txt
CONSTRAINTS = requirements/constraints.txt
PIP = $(VENV) -m pip --disable-pip-version-check
RUN = PYTHONPATH=src $(VENV)
# The slow tests come first, and a process that has nothing left to do takes of the other's.
PYTEST = $(VENV) -m pytest -n 2 --dist worksteal
FAST = not slow and not backbones and not kill and not long
# On JAX, what no backend can change is not run again: these are the rooms that a backend does. Of
# main, test_infer runs all stages.
JAX_ROOMS = adoption augment backbones batches checkpoint conclude decoders devices fixres fold_data freezing hosts \
  hub_module infer keeper looks lr_range model network normalise objective optimizers port predict recalibrate \
  runtime sharing stretch train trainee truth webhook weights
# Many tests build the same small network: what one has compiled the others find.
PYTEST_JAX = KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.venv/compiled \
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.2 $(PYTEST)
ON_JAX = $(JAX_ROOMS:%=tests/test_%.py)

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: .venv/.ready  ## make .venv with the packages of Kaggle's image (done by every other target)

.venv/.ready: $(REQUIREMENTS) $(CONSTRAINTS)
	@for python in $(CANDIDATES); do \
	  "$$python" -c '$(OUR_PYTHON)' >/dev/null 2>&1 && found="$$python" && break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Podium needs Python 3.12 (as on Kaggle) or 3.11, and found neither;" \
	       "install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	echo "Setting up .venv with $$("$$found" --version); this is done once and takes minutes."; \
	"$$found" -m venv --clear .venv && \
	$(PIP) install --quiet --constraint $(CONSTRAINTS) $(REQUIREMENTS:%=-r %) && \
	$(PIP) install --quiet --target .venv/kaggle-newest kaggle && \
	echo "All is pinned but for one package: the tests also run against the newest client," \
	  "$$($(PIP) freeze --path .venv/kaggle-newest | grep ^kaggle=)." && \
	{ $(RUN) -m workbench.dashboard.uplot || echo "Until it is there, make dashboard shows no charts."; } && \
	touch $@

build: setup  ## flatten src/podium into kernel/podium.py; write docs/settings.md and the metadata
	@$(VENV) build_kernel.py
	@$(RUN) -m workbench.settings_page
	@$(RUN) -m workbench.kernel_metadata

build-check: setup  ## fail if the script, docs/settings.md or the metadata is stale
	@$(VENV) build_kernel.py --check
	@$(RUN) -m workbench.settings_page --check
	@$(RUN) -m workbench.kernel_metadata --check

backbones: setup  ## print the table of backbones
	@$(RUN) -m workbench.backbone_table

lint: setup  ## ruff, on the modules and on the built script
	@$(VENV) -m ruff check .
	@$(VENV) -m ruff format --check .

format: setup  ## put the code in shape
	@$(VENV) -m ruff check --fix --quiet .
	@$(VENV) -m ruff format .

types: setup  ## mypy, on the modules and on the built script
	@$(VENV) -m mypy src build_kernel.py
	@$(VENV) -m mypy kernel/podium.py

test-fast: setup  ## the modules on TensorFlow, without the dry runs
	@$(PYTEST) -m "$(FAST)"

test-jax: setup  ## the modules on JAX with 8 virtual devices
	@$(PYTEST_JAX) $(ON_JAX) -m "$(FAST) and not either"

# The workbench stays at home, and its dry runs run the script anyway, whole and on both backends.
test-bundle: setup  ## the same tests on the built script, but for those that show nothing new there
	@$(PYTEST) --bundle -m "$(FAST) and not modules" --ignore tests/workbench \
	  --ignore tests/test_build_kernel.py --ignore tests/test_bundle.py --ignore tests/test_setup.py \
	  --ignore tests/test_docs.py

# Apart from check, to keep it under half an hour: the dry runs run the script on both backends.
test-bundle-jax: setup  ## the script's slow tests, and its suite on JAX: seven minutes, not part of check
	@$(PYTEST) --bundle -m slow --ignore tests/workbench --ignore tests/test_bundle.py
	@$(PYTEST_JAX) $(ON_JAX) --bundle -m "$(FAST)"

test-slow: setup  ## the real dry runs, as Kaggle runs them
	@$(PYTEST) -m slow
	@$(PYTEST_JAX) $(ON_JAX) -m slow

test-kill: setup  ## kill whole runs at twenty moments each, on both backends: half an hour
	@$(PYTEST) -m kill tests/test_kill.py
	@$(PYTEST_JAX) -m kill tests/test_kill.py

test-long: setup  ## more seeds, deadlines and hosts than check has time for: ten minutes
	@$(PYTEST) -m long
	@$(PYTEST_JAX) -m long tests/test_hosts.py

test-backbones: setup  ## every backbone of the table, and a training step of it, on both backends: an hour
	@$(PYTEST) -m backbones
	@$(PYTEST_JAX) -m backbones tests/test_freezing.py

# Fast and slow ones together: to start the libraries and to find the tests takes ten seconds a time,
# and no core waits for the other's last dry run.
test: setup  ## every test
	@$(PYTEST) -m "not backbones and not kill and not long"
	@$(PYTEST_JAX) $(ON_JAX) -m "not backbones and not kill and not long and not either"
	@$(MAKE) --no-print-directory test-bundle

check: lint types build-check test  ## everything that must hold before a commit is pushed

dry-run: setup  ## run the built script as Kaggle does; DATA=folder BACKBONE=name BACKEND=jax SOLUTION=csv ARGS="--setting value"
	@$(RUN) -m workbench.dry_run $(if $(DATA),--data "$(DATA)") $(if $(BACKBONE),--backbone "$(BACKBONE)") \
	  $(if $(BACKEND),--backend "$(BACKEND)") $(if $(SOLUTION),--solution "$(SOLUTION)") -- $(ARGS)

gallery: setup  ## what each augmentation makes of your images, as one page; DATA=folder POLICIES="a b" IMAGES=n OUT=file
	@$(RUN) -m workbench.gallery $(if $(DATA),--data "$(DATA)") $(if $(POLICIES),--policies "$(POLICIES)") \
	  $(if $(IMAGES),--images "$(IMAGES)") $(if $(OUT),--out "$(OUT)") -- $(ARGS)

race: setup  ## which is better, by the evidence; AUGMENT="none light" or HEAD OPTIMIZER SCHEDULE COLOUR LR; SEEDS FROZEN=1 DATA BACKBONE ARGS OUT
	@$(RUN) -m workbench.race $(if $(AUGMENT),--augment "$(AUGMENT)") $(if $(HEAD),--head "$(HEAD)") \
	  $(if $(OPTIMIZER),--optimizer "$(OPTIMIZER)") $(if $(SCHEDULE),--schedule "$(SCHEDULE)") \
	  $(if $(COLOUR),--colour "$(COLOUR)") $(if $(LR),--lr "$(LR)") $(if $(DATA),--data "$(DATA)") \
	  $(if $(BACKBONE),--backbone "$(BACKBONE)") $(if $(BACKEND),--backend "$(BACKEND)") \
	  $(if $(SEEDS),--seeds "$(SEEDS)") $(if $(FROZEN),--frozen) $(if $(OUT),--out "$(OUT)") -- $(ARGS)

pseudo: setup  ## do test images that a run's models label help? two arms tell; read the rules first; TEACHER=runs/a SEEDS DATA OUT ARGS
	@$(RUN) -m workbench.pseudo_race --run "$(TEACHER)" $(if $(DATA),--data "$(DATA)") \
	  $(if $(SEEDS),--seeds "$(SEEDS)") $(if $(OUT),--out "$(OUT)") -- $(ARGS)

report: setup  ## runs side by side, as one page and one picture; of one run its report again; RUNS="runs/a runs/b" EVIDENCE="runs/race" OUT=file
	@$(RUN) -m workbench.compare_runs $(RUNS) $(if $(OUT),--out "$(OUT)") $(if $(EVIDENCE),--evidence $(EVIDENCE))

blend: setup  ## one submission of several runs, and the page that says which weights; RUNS="runs/a runs/b" OUT=folder
	@$(RUN) -m workbench.blend_runs $(RUNS) $(if $(OUT),--out "$(OUT)")

# COMPETITION=slug names a file of kernel/competitions; without it, the only one there is.
ABOUT = $(if $(COMPETITION),--competition "$(COMPETITION)") $(if $(INFER),--infer)

new: setup  ## write kernel/competitions/COMPETITION.toml; ARGS="--owner me --kind file --accelerator gpu"
	@$(RUN) -m workbench.new_competition $(ABOUT) $(ARGS)

push: $(if $(DRY),setup,check)  ## check everything, then run the script on Kaggle; DRY=1 only shows it
	@$(RUN) -m workbench.push $(ABOUT) $(if $(DRY),--dry)

infer-push: $(if $(DRY),setup,check)  ## the offline half of a code competition: the trained models answer
	@$(RUN) -m workbench.push $(ABOUT) --infer $(if $(DRY),--dry)

status: setup  ## is the pushed kernel queued, running, complete, or did it fail
	@$(RUN) -m workbench.watch status $(ABOUT)

logs: setup  ## its log, live while it runs; lines of the script are named by their source
	@$(RUN) -m workbench.watch logs $(ABOUT)

quota: setup  ## what is left of the week's GPU and TPU hours
	@$(RUN) -m workbench.watch quota $(ABOUT)

pull: setup  ## fetch its output into runs/<kernel>-v<version>; INFER=1: of infer-push
	@$(RUN) -m workbench.collect pull $(ABOUT)

submit: setup  ## hand its submission in; INFER=1: of infer-push
	@$(RUN) -m workbench.collect submit $(ABOUT)

webhook-setup: setup  ## put the addresses in PODIUM_WEBHOOK into your private dataset
	@$(RUN) -m workbench.webhook_setup $(ABOUT)

webhook-test: setup  ## send a sample run to the addresses in PODIUM_WEBHOOK
	@$(RUN) -m workbench.try_webhook

dashboard: setup  ## the live page of all runs; LISTEN=0.0.0.0 for a phone, RELAY=https://ntfy.sh behind NAT, PORT HOST FOLDER
	@$(RUN) -m workbench.dashboard $(if $(LISTEN),--listen "$(LISTEN)") $(if $(PORT),--port "$(PORT)") \
	  $(if $(RELAY),--relay "$(RELAY)") $(if $(HOST),--host "$(HOST)") $(if $(FOLDER),--folder "$(FOLDER)")

dashboard-import: setup  ## take finished runs into the live page; RUNS="runs/a runs/b"
	@$(RUN) -m workbench.dashboard import $(RUNS)

dashboard-export: setup  ## one run of the live page; RUNS=name and CSV=file, TENSORBOARD=folder or HTML=file
	@$(RUN) -m workbench.dashboard export --run "$(RUNS)" $(if $(CSV),--csv "$(CSV)") \
	  $(if $(TENSORBOARD),--tensorboard "$(TENSORBOARD)") $(if $(HTML),--html "$(HTML)")

clean:  ## remove what was made, but for .venv and runs/
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
