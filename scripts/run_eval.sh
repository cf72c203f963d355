#!/usr/bin/env bash
# usage: bash scripts/run_eval.sh [DEVICE_ID] [options of eval.py]
#
# Evaluates a checkpoint, by default the one that training saved last.
# DEVICE_ID is the number of the device, 0 by default. Relative paths in options are relative to the current folder.
# The output also goes to logs/run_eval_<time>.log in the checkout; the exit status is that of eval.py.
# The interpreter is that of .venv in the checkout if it exists, else the active one; PYTHON=... names another.
#
# example: bash scripts/run_eval.sh 0 --device CPU --boxes gt
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

launch eval.py "$@"
