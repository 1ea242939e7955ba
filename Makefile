# Everything a fresh checkout needs; `make help` lists it.

# The Python that .venv is made with. Empty: the first one on the path that is new enough.
PYTHON ?=
# More words for pytest, as in: make test ARGS='tests/unit -x'
ARGS ?=

venv := .venv/bin
sphinx := $(venv)/sphinx-build -n -W -q -d doc/_build/doctrees
build_doc := $(sphinx) -b html doc doc/_build/html && $(sphinx) -b man doc doc/_build/man
as_root := $(if $(filter 0,$(shell id -u)),,sudo)

# What the sandbox, the lab and the jobs in the tests use of the machine, by Debian package.
demo_needs := ip=iproute2 nft=nftables mkfs.ext4=e2fsprogs make=make /usr/bin/python3=python3
test_needs := $(demo_needs) cc=gcc /usr/include/stdio.h=libc6-dev go=golang-go
bench_needs := $(demo_needs) nginx=nginx-light curl=curl

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: ## .venv from requirements.lock; quick when it is up to date
	@scripts/make-venv $(PYTHON)

.PHONY: demo
demo: venv ## a cluster on this machine runs its first jobs (asks sudo when you are not root)
	@scripts/provide $(demo_needs)
	$(as_root) scripts/demo

.PHONY: test
test: venv ## every test; those that need root skip themselves when you are not
	@scripts/provide --go-on $(test_needs)
	$(venv)/python -m pytest $(ARGS)

.PHONY: torture
torture: venv ## hurt a cluster at random for five minutes (ARGS='--minutes 30 --seed x')
	@scripts/provide $(demo_needs)
	$(as_root) $(venv)/syndicate lab torture $(ARGS)

.PHONY: killmatrix
killmatrix: venv ## kill the manager thirty times at each step of its work, under load
	@scripts/provide $(demo_needs)
	$(as_root) $(venv)/python -m tests.support.tortures --times 30 .killmatrix $(ARGS)

.PHONY: check
check: venv ## format, lint, types, rules of import, documentation
	$(venv)/ruff format --check .
	$(venv)/ruff check .
	$(venv)/mypy
	$(venv)/lint-imports
	$(build_doc)

.PHONY: format
format: venv ## mend of format and lint what can be mended without thinking
	$(venv)/ruff check --fix-only --quiet .
	$(venv)/ruff format .

.PHONY: doc
doc: venv ## the documentation, in doc/_build/html, and manual pages, in doc/_build/man
	$(build_doc)

.PHONY: bench
bench: venv ## how fast it is (asks sudo when you are not root)
	@scripts/provide --go-on $(bench_needs)
	$(as_root) $(venv)/python bench/run.py $(ARGS)

.PHONY: lock
lock: ## requirements.lock anew, from the ranges in setup.py
	@scripts/make-lock $(PYTHON)

.PHONY: clean
clean: ## remove everything that make has made
	rm -rf --one-file-system .demo .killmatrix
	rm -rf .venv .venv.lock build dist doc/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	rm -rf .import_linter_cache .hypothesis .coverage .coverage.* htmlcov
	find syndicate tests twisted -name __pycache__ -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache
