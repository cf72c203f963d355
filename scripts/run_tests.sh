#!/usr/bin/env bash
# usage: bash scripts/run_tests.sh [--stack NAME] [--fast | --all] [pytest arguments]
#
# Sets up the virtual environment in the checkout on first use, then runs the tests on the CPU: the fast ones, or with
# --all the slow ones too. --stack gpu110 (mindspore-gpu 1.10.0) and --stack ms200 (MindSpore 2.0.0) need Python 3.9,
# have environments of their own (see setup_env.sh) and run all tests unless --fast is given.
# Paths in the pytest arguments are relative to the checkout.
#
# examples: bash scripts/run_tests.sh
#           bash scripts/run_tests.sh --all tests/programs/test_scripts.py -x
#           bash scripts/run_tests.sh --stack gpu110 --fast
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

offer_help "${1:-}"
stack=default
marks=''
while (($#)); do
    case $1 in
        --stack) (($# > 1)) || fail "--stack needs a name: $stacks"; stack=$2; shift ;;
        --fast) marks=fast ;;
        --all) marks=all ;;
        *) break ;;
    esac
    shift
done
selection=(-m 'not slow')
[[ $marks != all && ($stack == default || $marks == fast) ]] || selection=(-m '')
bash "$root/scripts/setup_env.sh" --dev --stack "$stack"
use_stack "$stack"
cd -- "$root"
exec "$venv/bin/python" -m pytest "${selection[@]}" "$@"
