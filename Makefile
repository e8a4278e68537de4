# The front door. `make run` and `make test` do all their own set-up; `make` alone lists what there is.
# It takes Python 3.11 or newer, make and git. On Debian the rest is fetched; elsewhere one line says what is missing.

PYTHON ?= python3
# More arguments for the program that a target ends in: make test ARGS='-k complaint'
ARGS ?=

VENV ?= .venv
# What is installed there, each file with its hash.
LOCK ?= requirements/dev.lock
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench

# A normal user's PATH on Debian lacks /usr/sbin, and the rabbitmq-server there is a wrapper that wants root; the one
# in RabbitMQ's own folder runs as whoever starts it. They go last, so that what the caller put first stays first.
export PATH := $(PATH):/usr/lib/rabbitmq/bin:/usr/sbin

.DEFAULT_GOAL := help
# The steps of the set-up stand on each other, and apt-get bears no second one beside it.
.NOTPARALLEL:

.PHONY: help
help: ## List these targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1#/p' Makefile | awk -F '#' '{ printf "make %-12s %s\n", $$1, $$2 }'

.PHONY: run
run: packages dependencies ## Run all of it on this machine: a private RabbitMQ, a provider simulator, the roles
	@$(BIN)/bridge dev $(ARGS)

# Python keeps what it has compiled there, even where the environment forbids it beside the source: else each of some
# thousand processes of the tests would compile the bridge anew.
PYTEST = env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX='$(CURDIR)/$(VENV)/pycache' $(BIN)/pytest

# Three at once for each core: what takes long in them is waiting. On one core, too: that tests bear each other's company
# is part of what they test.
.PHONY: test
test: packages postgresql pgbouncer promtool sqlite3 fuse3 dependencies ## Test it, in parallel, on a private RabbitMQ and PostgreSQL
	@$(PYTEST) -n $$((3 * $$(nproc 2>/dev/null || echo 1))) $(ARGS)

.PHONY: test-fast
test-fast: packages postgresql promtool sqlite3 dependencies ## Unit tests, and the integration tests that start nothing (within a minute)
	@$(PYTEST) -n $$((2 * $$(nproc 2>/dev/null || echo 1))) \
	    tests/unit $$(grep -l '^pytestmark = pytest.mark.quick' tests/integration/*.py tests/faults/*.py) $(ARGS)

# What of the tests depends most on the Python under it: aiohttp, for one, starts its tasks at once from 3.12 on.
# A python3.13 that is there in name only, as pyenv's are, is asked for by PYENV_VERSION too.
ON_313 ?= tests/unit $(addprefix tests/integration/test_,$(addsuffix .py,answers short_way publisher link))
.PHONY: test-py313
test-py313: ## The tests of what depends on Python once more, on 3.13 as in the image (a minute)
	@python=$$(PYENV_VERSION=3.13 python3.13 -c 'import sys; print(sys.executable)' 2>/dev/null) || { \
	    echo 'test-py313: skipped: there is no python3.13 here that runs'; exit 0; }; \
	$(MAKE) --no-print-directory test VENV=.venv-3.13 PYTHON="$$python" ARGS='$(or $(ARGS),$(ON_313))'

# What the bridge uses of its libraries beyond what they promise, and what rests on it: docs/internals.md.
CONTRACT := $(addprefix tests/unit/test_,$(addsuffix .py,aiohttp_contract aiormq_contract fast_path wire deliveries \
    message_roundtrip)) $(addprefix tests/integration/test_,$(addsuffix .py,short_way answers publisher link deliveries \
    undecodable both_paths both_paths_answers))
NEWEST := .dev/newest.lock
no_index = { echo 'contract-newest: skipped: the package index does not answer'; exit 0; }
.PHONY: contract-newest
contract-newest: dependencies ## The contract tests on the newest versions that pyproject.toml allows (two minutes)
	@mkdir -p .dev && made=$$(mktemp -d) && trap "rm -rf $$made" EXIT && $(build_requires) > $$made/build && \
	{ [ -x $(BIN)/uv ] || $(pip) install --quiet --require-hashes -r requirements/pins.lock || $(no_index); } && \
	{ $(uv_compile) --generate-hashes --no-header --output-file $$made/lock pyproject.toml - --extra dev \
	    < $$made/build 2> $$made/said || { \
	    ! grep -Eiq 'error sending request|failed to fetch|dns error|could not connect' $$made/said || $(no_index); \
	    cat $$made/said >&2; exit 1; }; } && \
	{ cmp -s $$made/lock $(NEWEST) || cp $$made/lock $(NEWEST); } && \
	echo contract-newest: $$(grep -Eo '^(aiohttp|aio-pika|aiormq|pamqp)==[^ ]+' $(NEWEST)) && \
	$(MAKE) --no-print-directory test VENV=.venv-newest LOCK=$(NEWEST) ARGS='$(or $(ARGS),$(CONTRACT))'

.PHONY: test-faults
test-faults: packages postgresql pgbouncer chromium fuse3 dependencies ## Test what happens when a database, the provider, a process, a disk or RabbitMQ fails (four minutes)
	@$(PYTEST) -n $$((3 * $$(nproc 2>/dev/null || echo 1))) $(or $(ARGS),tests/faults)

.PHONY: faults
faults: packages postgresql pgbouncer chromium fuse3 dependencies ## The tests of faults; then break everything under load, with a table of what was lost (twenty minutes)
	@[ -n "$(ARGS)" ] || $(MAKE) --no-print-directory test-faults
	@$(BIN)/python -m tests.programs.faults $(ARGS)

# Without ARGS the five seeds of CI. Everything at once takes a machine of its own; a seed takes half a minute.
.PHONY: chaos
chaos: packages postgresql fuse3 libfaketime dependencies ## Break all of it at random, as a seed says, and prove from its history what held (three minutes)
	@$(BIN)/python -m tests.programs.chaos $(or $(ARGS),--jobs 2)

.PHONY: power-cuts
power-cuts: packages postgresql fuse3 dependencies ## Cut the power of everything at once under 1,000 events a second, twenty times; a table of what it cost (twelve minutes)
	@$(BIN)/python -m tests.programs.power_cuts $(ARGS)

.PHONY: isolation
isolation: packages dependencies ## Do something bad beside good traffic; a table of what the good felt of it (six minutes)
	@$(BIN)/python -m tests.programs.faults.isolation $(ARGS)

# Node and npm have to be there for the one in Node: without them its rows are left out.
.PHONY: others
others: packages fuse3 dependencies contenders ## Put it and two bridges of other packages under the same ten faults; one table (twenty minutes)
	@$(BIN)/python -m tests.programs.others $(ARGS)

.PHONY: figures
figures: packages dependencies ## Measure it: slow and hostile clients, answer times, memory, the drain (ten minutes)
	@$(BIN)/python -m tests.programs.faults.figures $(ARGS)

# What of Docker is called otherwise here, the environment says: COMPOSE (docker compose) and DOCKER (docker).
.PHONY: stack-test
stack-test: dependencies ## Start the Compose stack, restart and kill all of it under load, see its alerts, take it down (twelve minutes)
	@$(BIN)/python -m tests.programs.stack $(ARGS)

# Best alone on the machine. Without wrk the project's own generator takes the load, at a higher price.
.PHONY: bench
bench: packages postgresql wrk dependencies contenders ## Measure it against what else one would use, and cost against size (--only growth); tables (half an hour)
	@$(BIN)/python -m tests.programs.bench $(ARGS)

# The same on a busy machine and on an idle one: what is compared is the work of a program, not its time.
.PHONY: cost
cost: packages postgresql valgrind dependencies ## Count the instructions that an event costs, against those of the last release (four minutes)
	@$(BIN)/python -m tests.programs.cost $(ARGS)

.PHONY: capacity
capacity: dependencies ## What a load of your own takes, by the model of docs/capacity.md: ARGS='--events 50000000'
	@$(BIN)/python -m tests.programs.capacity $(ARGS)

.PHONY: secrets
secrets: python ## Make the passwords and tokens of the Compose stack, in config/secrets; those that are there stay
	@$(PYTHON) config/make_secrets.py $(ARGS)

.PHONY: rotate-token
rotate-token: python ## Put a new token in front of the webhook's in config/secrets; receivers take both
	@$(PYTHON) config/make_secrets.py --rotate-token $(ARGS)

.PHONY: retire-token
retire-token: python ## Take the old one away, once the provider posts with the new one
	@$(PYTHON) config/make_secrets.py --retire-token $(ARGS)

.PHONY: check lint format types layers pages contract
check: lint format types layers pages contract ## Hold the code to its rules: linter, formatter, strict types, layers of imports, docs, contract
lint: dependencies
	$(BIN)/ruff check
format: dependencies
	$(BIN)/ruff format --check
types: dependencies
	$(BIN)/mypy
layers: dependencies
	$(BIN)/lint-imports
pages: dependencies
	$(BIN)/python -m tests.docs --check
	$(BIN)/python -m config.grafana --check
# docs/contract is the one of the last release: docs/contract.md. And what the code publishes holds to the schemas.
contract: dependencies
	$(BIN)/bridge contract check docs/contract
	$(BIN)/python -m tests.contract

# They are committed, so that nobody else needs Node; a test compares them with the packages.
.PHONY: assets
assets: dependencies ## Copy the console's scripts of others out of the npm packages that tests/node locks
	@$(BIN)/python -m tests.assets

.PHONY: screenshots
screenshots: packages chromium dependencies ## Take the pictures of the console in docs/images (three minutes)
	@$(BIN)/python -m tests.screenshots

.PHONY: docs
docs: dependencies ## Write the tables of docs/reference that are made from code
	@$(BIN)/python -m tests.docs

.PHONY: dashboards
dashboards: dependencies ## Write the dashboards of config/grafana from code
	@$(BIN)/python -m config.grafana

# `make test-faults` runs the tour, too.
.PHONY: docs-check
docs-check: packages pages ## Hold the docs to the code: tables, links, names, commands; and run the README's tour
	@$(PYTEST) tests/faults/test_readme.py $(ARGS)

# For every Python from 3.11 on, and every system: uv writes down the hash of each file of a release. It asks the index
# alone, so what else lies on this machine has no say. All locks are cut out of one set of versions.
LOCKS := product tracing dev bench build pins
lock_product := pyproject.toml
lock_tracing := pyproject.toml --extra tracing
lock_dev := pyproject.toml - --extra dev
lock_bench := pyproject.toml --extra bench
lock_build := -
lock_pins := --group pyproject.toml:pins
.PHONY: lock
lock: venv ## Pin the newest versions that pyproject.toml allows; the next target installs them
	@[ -t 1 ] && quiet= || quiet=--quiet; \
	$(pip) install $$quiet --require-hashes -r requirements/pins.lock
	@echo 'lock: asking the package index what is new'
	@made=$$(mktemp -d) && trap "rm -rf $$made" EXIT && \
	$(build_requires) > $$made/build && \
	$(uv_compile) --no-header --output-file $$made/all pyproject.toml - --all-extras < $$made/build && \
	$(foreach lock,$(LOCKS),$(uv_compile) --generate-hashes --no-header --constraints $$made/all \
	    --output-file $$made/$(lock).lock $(lock_$(lock)) < $$made/build &&) \
	for lock in $(LOCKS); do \
	    { printf '%s\n' $(lock_header); cat $$made/$$lock.lock; } > requirements/$$lock.lock || exit; \
	done

.PHONY: clean
clean: ## Remove the environment, the caches and the data of make run
	@rm -rf .venv .venv-3.13 .venv-newest .dev .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@rm -rf tests/programs/bench/contenders/fastify/node_modules
	@find bridge tests -name __pycache__ -prune -exec rm -rf {} +

# The set-up, from here on. Each step looks first, so that a second time it says nothing, asks nobody and costs nothing.

# False too when the checkout has moved (scripts hold its path) or the Python under the environment has gone.
venv_works = { grep -qsF '$(CURDIR)/$(VENV)/' $(BIN)/pip && $(BIN)/python -c 'import pip' 2>/dev/null; }
can_make_venv = $(PYTHON) -c 'import ensurepip' 2>/dev/null
# Debian keeps ensurepip in a package of its own for each Python: python3-venv, python3.12-venv.
venv_package = $(notdir $(PYTHON))-venv

.PHONY: python
python:
	@$(venv_works) || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "python: it takes Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo not there):" \
	         "name another, as in make PYTHON=python3.12" >&2; exit 1; }

.PHONY: packages
packages: python
	@missing=; \
	$(venv_works) || $(can_make_venv) || missing=$(venv_package); \
	command -v rabbitmq-server >/dev/null || missing="$$missing rabbitmq-server"; \
	$(install_missing)

.PHONY: venv
venv: python
	@$(venv_works) && exit; \
	missing=; $(can_make_venv) || missing=$(venv_package); $(install_missing); \
	echo "venv: creating $(VENV) with $$($(PYTHON) -V)"; \
	$(PYTHON) -m venv --clear $(VENV)

pip = $(BIN)/python -m pip --disable-pip-version-check --no-input

# The bridge itself has no hash: it is installed last, alone, with a build backend that has one.
.PHONY: dependencies
dependencies: venv
	@[ $(STAMP) -nt pyproject.toml ] && [ $(STAMP) -nt $(LOCK) ] && exit; \
	echo 'dependencies: installing what $(LOCK) pins'; \
	[ -t 1 ] && quiet= || quiet=--quiet; \
	$(pip) install $$quiet --require-hashes -r $(LOCK) && \
	$(pip) install $$quiet --no-deps --no-build-isolation -e . && touch $(STAMP)

# The programs that the bridge is measured against are nobody else's dependency. Node's packages the bench fetches itself.
.PHONY: contenders
contenders: dependencies
	@[ $(BENCH_STAMP) -nt pyproject.toml ] && [ $(BENCH_STAMP) -nt requirements/bench.lock ] && exit; \
	echo 'contenders: installing what requirements/bench.lock pins'; \
	[ -t 1 ] && quiet= || quiet=--quiet; \
	$(pip) install $$quiet --require-hashes -r requirements/bench.lock && touch $(BENCH_STAMP)

.PHONY: wrk
wrk:
	@command -v wrk >/dev/null || ( missing=wrk; $(install_missing) ) || \
	    echo 'wrk: the own load generator takes its place, which leaves less of the machine to what is measured' >&2

# Counts instructions. Without it, as where there is no Debian, `make cost` says so and counts none.
.PHONY: valgrind
valgrind: python
	@command -v valgrind >/dev/null || ! command -v apt-get >/dev/null || ( missing=valgrind; $(install_missing) )

# The tests start a server of their own from its programs, which Debian keeps out of everybody's PATH.
.PHONY: postgresql
postgresql: python
	@missing=; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing=postgresql; \
	$(install_missing)

# Stands in front of the tests' PostgreSQL. Without it, as where there is no Debian, its tests are skipped.
.PHONY: pgbouncer
pgbouncer: python
	@command -v pgbouncer >/dev/null || ! command -v apt-get >/dev/null || ( missing=pgbouncer; $(install_missing) )

# Runs the alerts over samples, and Prometheus the queries of the dashboards. Without it, as where there is no Debian, these tests are skipped.
.PHONY: promtool
promtool: python
	@command -v promtool >/dev/null || ! command -v apt-get >/dev/null || ( missing=prometheus; $(install_missing) )

# The console is tested in a real browser. Without it, as where there is no Debian, those tests are skipped.
.PHONY: chromium
chromium: python
	@command -v chromium >/dev/null || ! command -v apt-get >/dev/null || ( missing=chromium; $(install_missing) )

# What docs/operate.md recovers a corrupt spool file with. Without it, as where there is no Debian, that one test is skipped.
.PHONY: sqlite3
sqlite3: python
	@command -v sqlite3 >/dev/null || ! command -v apt-get >/dev/null || ( missing=sqlite3; $(install_missing) )

# The disk that forgets what was not fsynced is a file system of the tests' own. Without it, as where there is no Debian,
# the tests of power cuts are skipped.
.PHONY: fuse3
fuse3: python
	@command -v fusermount3 >/dev/null || ! command -v apt-get >/dev/null || ( missing=fuse3; $(install_missing) )

# Sets the clock of one process. Without it, as where there is no Debian, `make chaos` leaves its clocks alone.
.PHONY: libfaketime
libfaketime: python
	@ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || ! command -v apt-get >/dev/null || \
	    ( missing=libfaketime; $(install_missing) )

# Debian starts a service as soon as its package is there, and that broker would be none of ours. With SYSTEMD_OFFLINE
# the packages' scripts leave the running system alone: systemctl enables, but starts nothing. Unlike a policy-rc.d or
# a masked unit it ends with the command: nothing stays behind, whatever interrupts us. And PostgreSQL's package would
# make a database of its own, and on a system without systemd start it: it finds a pg_createcluster that makes none.
# There services would be started by invoke-rc.d: the packages find one that starts nothing.
apt_get_install = env DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 sh -c ' \
    none=$$(mktemp -d) && trap "rm -rf $$none" EXIT && ln -s /bin/true "$$none/pg_createcluster" && \
    ln -s /bin/true "$$none/invoke-rc.d" && apt-get -q update; \
    apt-get -q -o DPkg::Lock::Timeout=300 -o "DPkg::Path=$$none:/usr/sbin:/usr/bin:/sbin:/bin" \
        install --yes --no-install-recommends "$$@"' sh

# Installs the Debian packages that $missing names, if any. What apt-get says is shown when it fails.
define install_missing
[ -z "$$missing" ] || { \
	by_hand="apt-get install --no-install-recommends $$(echo $$missing)"; \
	command -v apt-get >/dev/null || { \
	    echo "packages: no apt-get here to install" $$missing "with: install it with this system's own tools" \
	         "(RabbitMQ 3.10 or newer; for the tests PostgreSQL; rabbitmq-server and initdb on PATH), then make again" >&2; exit 1; }; \
	[ "$$(id -u)" = 0 ] && root= || root=sudo; \
	command -v $${root:-env} >/dev/null || { \
	    echo "packages: this takes root, and there is no sudo here: as root, $$by_hand, then make again" >&2; exit 1; }; \
	echo "packages: installing" $$missing "(a minute or two)"; \
	said=$$($$root $(apt_get_install) $$missing 2>&1) || { \
	    echo "$$said" >&2; echo "packages: this failed: as root, $$by_hand, then make again" >&2; exit 1; }; \
}
endef

uv_compile = $(BIN)/uv --quiet --no-config --no-cache pip compile --universal --python-version 3.11 --no-annotate

lock_header = \
    '\# What is installed for one purpose, each file with its hash. Made by: make lock' \
    "\# To be used with: pip install --require-hashes -r requirements/$$lock.lock"

build_requires = $(BIN)/python -c 'import tomllib; \
    print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'
