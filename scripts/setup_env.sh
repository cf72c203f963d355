#!/usr/bin/env bash
# usage: bash scripts/setup_env.sh [--dev]
#
# Makes the virtual environment .venv in the checkout and installs requirements.txt into it, with --dev also
# requirements-dev.txt.
# Takes one to two minutes and about 3 GB the first time, nothing after that until a requirements file changes.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
venv=$root/.venv

# Prints the newest usable Python. That a name is on PATH does not say that it runs: pyenv leaves shims behind.
find_python() {
    local name without_venv=''
    for name in python3.12 python3.11 python3.10 python3 python; do
        "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || continue
        if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$name"
            return
        fi
        without_venv=$name
    done
    [[ -z $without_venv ]] || fail "$without_venv has no venv module: install it (Debian: apt install python3-venv)"
    fail "no Python 3.10, 3.11 or 3.12 found that runs: install one of them"
}

make_venv() {
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        local python
        python=$(find_python)
        echo "making .venv with $("$python" --version)"
        "$python" -m venv --clear "$venv" || fail "$venv: the virtual environment could not be made"
    fi
    # An interrupted start leaves an environment without pip.
    "$venv/bin/python" -c 'import pip' 2>/dev/null || "$venv/bin/python" -m ensurepip >/dev/null
}

pip_install() {
    local quiet=''
    [[ -t 1 ]] || quiet=--quiet
    "$venv/bin/python" -m pip install --disable-pip-version-check $quiet "$@" ||
        fail "pip could not install the packages (its reason stands above): check the network, then run this again"
}

# opencv-python wants libGL, which servers often lack; its headless twin has all that is needed here.
check_opencv() {
    local version message
    message=$("$venv/bin/python" -c 'import cv2' 2>&1) && return
    [[ $message == *'cannot open shared object file'* ]] || fail "OpenCV cannot be imported: ${message##*$'\n'}"
    version=$(sed -n 's/^opencv-python==\([0-9.]*\).*/\1/p' "$root/requirements.txt")
    echo "OpenCV lacks a system library (${message##*$'\n'}): installing opencv-python-headless $version instead"
    "$venv/bin/python" -m pip uninstall --quiet --yes opencv-python
    pip_install "opencv-python-headless==$version"
    message=$("$venv/bin/python" -c 'import cv2' 2>&1) || fail "OpenCV cannot be imported: ${message##*$'\n'}"
}

# Installs a requirements file unless the copy that the last success left in .venv is the same.
install_file() {
    cmp -s "$root/$1" "$venv/$1" && return
    echo "installing $1 into .venv"
    pip_install -r "$root/$1"
    [[ $1 != requirements.txt ]] || check_opencv
    cp "$root/$1" "$venv/$1"
}

if wants_help "$@"; then
    usage
    exit
fi
[[ $# == 0 || ($# == 1 && $1 == --dev) ]] || fail "unknown argument in '$*': only --dev is known"
make_venv
install_file requirements.txt
if [[ ${1:-} == --dev ]]; then
    install_file requirements-dev.txt
fi
