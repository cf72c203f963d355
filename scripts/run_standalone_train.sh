#!/usr/bin/env bash
# usage: bash scripts/run_standalone_train.sh [DEVICE_ID] [options of train.py]
#
# Trains on one device.
# DEVICE_ID is the number of the device, 0 by default. Relative paths in options are relative to the current folder.
# The output also goes to logs/run_standalone_train_<time>.log in the checkout; the exit status is that of train.py.
# The interpreter is that of .venv in the checkout if it exists, else the active one; PYTHON=... names another.
#
# example: bash scripts/run_standalone_train.sh 0 --device CPU --data_root data/coco
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

launch train.py "$@"
