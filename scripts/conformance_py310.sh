#!/bin/sh
# Builds Intel's own environment (Python 3.10, lava-dl 0.6.0 with its published pins) in .venv-py310 and runs the
# conformance suite against it. The suite itself runs in the default environment. PYTHON310 names an interpreter.
set -eu
cd "$(dirname "$0")/.."
if [ ! -x .venv-py310/bin/python ]; then
    uv venv --python "${PYTHON310:-3.10}" .venv-py310
fi
# --no-config: the project's overrides of lava-dl's pins must not apply here
uv pip install --no-config --python .venv-py310 -r tests/conformance/requirements-py310.txt
CONFORMANCE_PYTHON="$PWD/.venv-py310/bin/python" uv run pytest tests/conformance "$@"
