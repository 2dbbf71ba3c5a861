#!/usr/bin/env bash
# The README's main command: profile this machine, plan, train, compare prediction with measurement.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/bin/python scripts/demo.py "$@"
