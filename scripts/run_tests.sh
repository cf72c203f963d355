#!/usr/bin/env bash
# usage: bash scripts/run_tests.sh [--all] [pytest arguments]
#
# Sets up .venv in the checkout on first use, then runs the fast tests, with --all the slow ones too.
# Paths among the pytest arguments start at the checkout.
#
# examples: bash scripts/run_tests.sh
#           bash scripts/run_tests.sh --all tests/test_scripts.py -x
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

if wants_help "$@"; then
    usage
    exit
fi
selection=(-m 'not slow')
if [[ ${1:-} == --all ]]; then
    selection=(-m '')
    shift
fi
bash "$root/scripts/setup_env.sh" --dev
cd -- "$root"
exec .venv/bin/python -m pytest "${selection[@]}" "$@"
