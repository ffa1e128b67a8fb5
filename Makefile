# Everything a contributor runs. All of it works in a fresh clone with Python 3.11 or later, a C compiler and make;
# what else is needed goes into .venv and build, both in this tree.

PYTHON ?= python3
RUN := .venv/bin/python
SHARED ?= ../shared
FOLDER ?= documents
PORT ?= 8080
STORIES := tests/test_live_editing.py tests/test_page_browser.py

.DEFAULT_GOAL := help
.PHONY: help build test browser browsers serve demo docs-test packaging conformance lint format types coverage bench bench-check peers dist clean

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build:  ## compile what changed and install the package editable, in .venv
	@$(PYTHON) tools/develop.py

test: build  ## run all tests and doctests but the packaging tests (ARGS=-n8: on eight processors, not two)
	$(RUN) -m pytest -n2 $(ARGS)

browser:  ## install a Chromium for the tests of the page, which are skipped without one
	@$(PYTHON) tools/develop.py test browser

browsers:  ## take the page through its stories in a Firefox and a WebKit, which it installs (minutes)
	@$(PYTHON) tools/develop.py test browsers
	EGWALKER_BROWSER=required EGWALKER_ENGINE=firefox $(RUN) -m pytest -n2 $(STORIES) $(ARGS)
	EGWALKER_BROWSER=required EGWALKER_ENGINE=webkit $(RUN) -m pytest -n2 $(STORIES) $(ARGS)

serve:  ## serve live editing of the documents in a folder (FOLDER=documents PORT=8080 ARGS=...)
	@$(PYTHON) tools/develop.py build
	.venv/bin/egwalker serve $(FOLDER) --port $(PORT) $(ARGS)

demo: build  ## merge two diverged real histories and show what came from whom
	$(RUN) examples/demo.py

docs-test: build  ## run only the examples in README, docs and docstrings
	$(RUN) -m pytest README.md docs/ egwalker

packaging: build  ## build, install and use sdist, wheel and editable install in empty environments
	$(RUN) -m pytest -m packaging

conformance: build  ## replay the reference histories of $(SHARED)/conformance
	$(RUN) tests/conformance.py $(SHARED)/conformance/*.json.gz

lint:  ## check style and formatting
	@$(PYTHON) tools/develop.py lint
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

format:  ## rewrite the sources in the project's style
	@$(PYTHON) tools/develop.py lint
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

types:  ## check types, and the stubs against the compiled modules
	@$(PYTHON) tools/develop.py test lint
	$(RUN) -m mypy -p egwalker
	$(RUN) -m mypy
	$(RUN) -m mypy.stubtest egwalker.cycore --ignore-disjoint-bases --allowlist tools/stubtest.allow

# Cython's coverage plugin looks for the generated C beside the sources, where it is put for that time only.
coverage:  ## measure which lines the tests reach, the compiled ones too (rebuilds; make build undoes it)
	@EGWALKER_TRACE=1 $(PYTHON) tools/develop.py
	@cp build/cython/cycore/*.c cycore/
	$(RUN) -m coverage run -m pytest $(ARGS) && $(RUN) -m coverage report; \
	    status=$$?; rm -f cycore/*.c; exit $$status

bench:  ## run the benchmarks on this commit
	@$(PYTHON) tools/develop.py bench
	cd asv_bench && ../$(RUN) -m asv machine --yes >/dev/null && ../$(RUN) -m asv run HEAD^!

bench-check:  ## check that the benchmarks load, and that keystrokes can be timed beside other libraries
	@$(PYTHON) tools/develop.py test bench
	cd asv_bench && ../$(RUN) -m asv check --environment existing:../$(RUN)
	$(RUN) -m pytest -q tests/test_benchmarks.py

peers: build  ## time the engine beside other libraries
	@$(PYTHON) tools/develop.py bench
	$(RUN) asv_bench/peers.py S1 C1 A1 A2

dist: build  ## make the sdist, and from it the wheel, in dist
	$(RUN) -m build

clean:  ## remove all that was built, .venv too
	rm -rf .venv build dist *.egg-info src/*.egg-info cycore/*.so asv_bench/env asv_bench/html asv_bench/results
	rm -rf .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
