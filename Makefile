# The commands people type. Everything runs in the environment that uv keeps in .venv.
.PHONY: help setup demo test quick lint docs

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 8

setup: ## install everything that development needs, Lava included
	uv sync

demo: ## the whole way on scikit-learn's digits, a few minutes
	uv run fastsnn-deploy demo

test: ## style, format, types and all tests: what a change must pass
	.ci/run

quick: ## tests that take neither Lava nor long, less than two minutes
	uv run pytest -n 2 --dist loadfile -m "not lava and not slow"

lint: ## style and format, mended where that is safe, and types
	uv run ruff check --fix .
	uv run ruff format .
	uv run mypy

docs: ## run every example of README, docs and docstrings, and check words and links
	uv run pytest tests/test_docs.py tests/test_words.py
