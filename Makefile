# One word, `make check`, for a person and for CI. It expects `pip install -e '.[dev]'` in the environment in use.
PYTHON ?= python3

PRIMITIVES = spec_writer circuit_breaker ledger agent_loop review_surface
comma = ,
empty =
space = $(empty) $(empty)

.PHONY: check lint format types layers demo coverage test pythons lowest

# The tests come last, so that their summary is the last line.
check: lint format types layers demo coverage test

lint:
	@$(PYTHON) -m ruff check .

format:
	@$(PYTHON) -m ruff format --check .

types:
	@$(PYTHON) -m basedpyright --pythonpath "$$($(PYTHON) -c 'import sys; print(sys.executable)')"

layers:
	@$(PYTHON) -c "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"

demo:
	@$(PYTHON) -m donewhen demo

# The five primitives are covered whole, line and branch, by their own tests and the contract's.
coverage:
	@$(PYTHON) -m coverage run -m pytest -n 0 -p no:cacheprovider tests/test_tutorial_contract.py \
	  $(foreach room,$(PRIMITIVES),$(wildcard tests/test_$(room)*.py)) tests/test_reviewing.py tests/elsewhere/test_kept_store.py
	@$(PYTHON) -m coverage report --fail-under=100 \
	  --include="$(subst $(space),$(comma),$(foreach room,$(PRIMITIVES),*/donewhen/$(room).py))"

test:
	@$(PYTHON) -m pytest

# Other Pythons, where they are found; those that are not are named.
pythons:
	@bash .ci/pythons 3.10 3.12 3.13

# The lower bounds of pyproject.toml are true: everything a user may have, at its oldest.
lowest:
	@bash .ci/lowest
