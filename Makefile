# Needs Python >= 3.11 and make, nothing else. The first target that runs makes .venv; later runs reuse it, and install again
# only when pyproject.toml has changed.
#
#   make test ARGS="-k frame -x"        arguments for pytest
#   make test PYTHON=/opt/py/bin/python a certain interpreter for a .venv that does not exist yet

PYTHON =
ARGS =
VENV = .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
VERSIONS = 3.11 3.12 3.13 3.14

.PHONY: help demo test test-all lint package interop bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## a producer and a simulated cluster at work
	$(BIN)/python -m benchmarks.demo

test: $(STAMP) ## all tests that need nothing but Python
	$(BIN)/python -m pytest $(ARGS)

test-all: ## the same under every Python 3.11 to 3.14 found here, each in a venv of its own
	@ran=''; failed=''; missing=''; \
	for version in $(VERSIONS); do \
		found=''; \
		for candidate in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
			if "$$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')" >/dev/null 2>&1; then \
				found="$$candidate"; break; \
			fi; \
		done; \
		if [ -z "$$found" ]; then missing="$$missing $$version"; continue; fi; \
		printf '\n== Python %s (%s)\n' "$$version" "$$found"; \
		if $(MAKE) test VENV=.venv-$$version PYTHON="$$found"; then ran="$$ran $$version"; else failed="$$failed $$version"; fi; \
	done; \
	printf '\npassed:%s\nfailed:%s\nnot found here:%s\n' "$${ran:- none}" "$${failed:- none}" "$${missing:- none}"; \
	[ -z "$$failed" ] && [ -n "$$ran" ]

lint: $(STAMP) ## ruff, mypy --strict on both packages, and the law of the floors
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q tests/test_tidy.py

package: $(STAMP) ## build the wheel, install it elsewhere, import both packages from there
	@set -e; \
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(BIN)/python -m build --wheel --outdir "$$scratch/dist" .; \
	$(BIN)/python -m venv "$$scratch/venv"; \
	wheel=$$(echo "$$scratch"/dist/*.whl); \
	check() { (cd "$$scratch" && venv/bin/python -I "$$@"); }; \
	"$$scratch/venv/bin/python" -m pip install --quiet "$$wheel"; \
	check -c 'import rocketmq_aio, broker_sim; [getattr(p, n) for p in (rocketmq_aio, broker_sim) for n in p.__all__]'; \
	check -c 'from importlib.resources import files; [files(p).joinpath("py.typed").read_bytes() for p in ("rocketmq_aio", "broker_sim")]'; \
	"$$scratch/venv/bin/python" -m pip install --quiet "$$wheel[cli]"; \
	"$$scratch/venv/bin/broker-sim" --help >/dev/null; \
	echo "package: $$(basename "$$wheel") installs; both packages, their py.typed and broker-sim work outside the source tree"

interop: $(STAMP) ## against Apache's own brokers and clients: needs Java 17, Maven and a few minutes
	$(BIN)/python -m pytest tests/interop -o faulthandler_timeout=1200 $(ARGS)

bench: $(STAMP) ## measure
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove what make, the tools and the tests made, virtual environments included
	rm -rf .venv .venv-3.* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A name on PATH proves nothing (pyenv's shims exist for versions that are not selected): each candidate is run.
$(STAMP): pyproject.toml
	@set -e; \
	enough='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$enough" >/dev/null 2>&1; then \
		chosen=''; \
		for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python3.14); do \
			if "$$candidate" -c "$$enough" >/dev/null 2>&1; then chosen="$$candidate"; break; fi; \
		done; \
		if [ -z "$$chosen" ]; then \
			echo "No Python >= 3.11 runs here (tried: $(if $(PYTHON),$(PYTHON),python3, python3.13, python3.12, python3.11, python3.14)). Install one, or name it: make PYTHON=/path/to/python" >&2; \
			exit 1; \
		fi; \
		echo "$(VENV): made by $$("$$chosen" --version) ($$chosen)"; \
		"$$chosen" -m venv --clear $(VENV); \
	fi; \
	echo "$(VENV): installing this project and its development tools"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	touch $(STAMP)
