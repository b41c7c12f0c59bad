# Every target sets itself up from nothing: system packages, then a virtual environment (scripts/setup.sh).

VENV ?= .venv
MOUNTPOINT ?= $(HOME)/idc
MOUNT_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
MINUTES ?= 10
SOAK_ARGS ?=
FRESH_ARGS ?=
EXAMPLES ?= 500
TARGETS ?=

export VENV
# Tests start idcfs some thousand times: compiled anew each time, that takes 1.4 times as long.
unexport PYTHONDONTWRITEBYTECODE
# Debian keeps Orthanc in a place that a user's own path does not lead to.
export PATH := $(PATH):/usr/sbin:/sbin

unit_kind := $(if $(filter 0,$(shell id -u)),system,user)
user_units := $(or $(XDG_CONFIG_HOME),$(HOME)/.config)/systemd/user
UNIT_DIR ?= $(if $(filter system,$(unit_kind)),/etc/systemd/system,$(user_units))

bin := $(VENV)/bin
python := $(bin)/python

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))  # none makes a file of its name

help:  ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '  make %-20s %s\n' "$$target" "$$text"; done

setup:  ## Install what `idcfs mount` needs, and nothing else
	@scripts/setup.sh runtime

setup-dev:
	@scripts/setup.sh dev

demo: setup-dev  ## Mount a sample archive, walk it, read it with DICOM tools, unmount; needs no network
	@$(python) -m scripts.demo

mount: setup  ## Mount all of IDC at MOUNTPOINT (default ~/idc), with MOUNT_ARGS
	@mkdir -p "$(MOUNTPOINT)" 2>/dev/null || true
	@$(bin)/idcfs mount "$(MOUNTPOINT)" $(MOUNT_ARGS)
	@echo "The Imaging Data Commons is mounted at $(MOUNTPOINT); take it off with: $(bin)/idcfs umount $(MOUNTPOINT)"

install-service: setup  ## Let systemd mount: root's for the machine, else yours (docs/SYSTEM.md)
	@mkdir -p "$(UNIT_DIR)"
	@sed "s|/usr/local/bin/idcfs|$(abspath $(bin)/idcfs)|" scripts/systemd/$(unit_kind)/idcfs@.service \
		>"$(UNIT_DIR)/idcfs@.service"
	@echo "written: $(UNIT_DIR)/idcfs@.service; take it back with: rm $(UNIT_DIR)/idcfs@.service"

man: setup-dev  ## Write docs/idcfs.1 anew, from what --help says
	@$(python) -m scripts.manpage >docs/idcfs.1

install-mount-helper: setup  ## Let mount(8) and /etc/fstab know the type idcfs, for which this asks for root's rights
	@if [ "$$(id -u)" = 0 ]; then root=; else root=sudo; fi; $$root ln -sfn "$(abspath $(bin))/mount.idcfs" /sbin/mount.idcfs
	@echo "mount -t idcfs works now; take it back with: rm /sbin/mount.idcfs"

test: setup-dev  ## Run every test, real mounts included, with PYTEST_ARGS
	@$(python) -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder --durations=15 --durations-min=1 $(PYTEST_ARGS)

fresh-machine: setup-dev  ## Run `make demo` and `make test`, or FRESH_ARGS, on bare Debians of their own, as root
	@$(python) -m scripts.fresh --pytest-args="$(PYTEST_ARGS)" $(FRESH_ARGS)

model: setup-dev  ## Compare what is read with a plain dict for long: EXAMPLES, 500 take ten minutes (docs/TESTING.md)
	@MODEL_EXAMPLES="$(EXAMPLES)" $(python) -m pytest -o faulthandler_timeout=3600 tests/model $(PYTEST_ARGS)

lint: setup-dev  ## Check style, types, and that imports point downward
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy --strict
	$(bin)/lint-imports
	bash -n scripts/setup.sh && bash -n .ci/run
	@if command -v shellcheck >/dev/null; then shellcheck scripts/setup.sh .ci/run; fi

format: setup-dev  ## Put the code into the form that lint asks for
	$(python) -m ruff check --fix
	$(python) -m ruff format

bench: setup-dev  ## Compare idcfs with rclone, davfs2 and downloads, and with what it promises; takes 40 minutes
	@$(python) -m scripts.bench $(BENCH_ARGS)

soak: setup-dev  ## Read for MINUTES (default 10) in many processes while the archive fails, and say what broke
	@$(python) -m scripts.soak --minutes "$(MINUTES)" $(SOAK_ARGS)

matrix: setup-dev  ## Compare tools on mounts with local files, and write it into docs/SEMANTICS.md
	@$(python) -m pytest -q tests/tools/test_matrix.py --write-matrix $(PYTEST_ARGS)

fuzz: setup-dev  ## Fuzz what reads what others wrote (docs/fuzzing.md), for MINUTES, or only TARGETS of it
	@$(python) -m scripts.fuzz --minutes "$(MINUTES)" $(TARGETS)

clean:  ## Remove what tools left behind
	rm -rf build dist *.egg-info .fuzz .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	find . -path './$(VENV)' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## Remove the virtual environment too
	rm -rf "$(VENV)"
