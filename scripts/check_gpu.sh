#!/usr/bin/env bash
# usage: bash scripts/check_gpu.sh [DEVICES] [options]
#
# Checks a machine with GPUs in a few minutes: libraries, devices, numbers beside the CPU's, speed on one and two devices.
# DEVICES is the number of devices to use, by default all that CUDA shows.
# Writes a report, logs/check_gpu_<time>.txt in the checkout or --output FILE; the exit status is 1 if a check failed.
# --steps N sets the length of the training, 20 by default; further options go to train.py.
# The interpreter is that of .venv in the checkout if it exists, else the active one; PYTHON=... names another.
#
# example: PYTHON=.venv-gpu110/bin/python bash scripts/check_gpu.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

offer_help "${1:-}"
python=$(choose_python)
if (($#)) && [[ $1 != -* ]]; then
    [[ $1 =~ ^[1-9][0-9]*$ ]] || fail "DEVICES '$1': give a positive integer (options begin with --)"
    set -- --devices "$@"
fi
exec "$python" "$root/tools/check_gpu.py" "$@"
