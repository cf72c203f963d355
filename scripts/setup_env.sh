#!/usr/bin/env bash
# usage: bash scripts/setup_env.sh [--dev] [--stack NAME]
#
# Makes a virtual environment in the checkout and installs requirements.txt and requirements-detector.txt into it, with
# --dev also requirements-onnx.txt and requirements-dev.txt. The stacks:
#   default  .venv         Python 3.10-3.12, MindSpore 2.8.0
#   gpu110   .venv-gpu110  Python 3.9, mindspore-gpu 1.10.0
#   ms200    .venv-ms200   Python 3.9, MindSpore 2.0.0
# Pythons are looked for on PATH, in pyenv and with uv. Takes one to two minutes and 2 to 3 GB the first time, nothing
# after that until a requirements file changes.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# Prints the first Python of the stack that runs: pyenv leaves shims of removed ones on PATH.
find_python() {
    local minor python without_venv=''
    for minor in $minors; do
        for python in "python3.$minor" python3 python "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin/python \
                      "$(uv python find "3.$minor" 2>/dev/null)"; do
            "$python" -c "import sys; sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null || continue
            if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
                echo "$python"
                return
            fi
            without_venv=$python
        done
    done
    [[ -z $without_venv ]] || fail "$without_venv: has no venv module; install it (Debian: apt install python3-venv)"
    fail "no Python $(printf '3.%s ' $minors)found on PATH, in pyenv or with uv; install one" \
         "(pyenv install 3.${minors%% *}, or uv python install 3.${minors%% *})"
}

make_venv() {
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        [[ -e $venv/pyvenv.cfg || -z $(find -H "$venv" -type f 2>/dev/null) ]] ||
            fail "$venv: not a virtual environment; move or rename it"
        local python
        python=$(find_python)
        echo "making $name with $("$python" --version)"
        "$python" -m venv --clear "$venv" || fail "$venv: could not be made; the reason stands above"
    fi
    # An interrupted start leaves an environment without pip.
    "$venv/bin/python" -c 'import pip' 2>/dev/null || "$venv/bin/python" -m ensurepip >/dev/null
}

pip_install() {
    local quiet=''
    [[ -t 1 ]] || quiet=--quiet
    "$venv/bin/python" -m pip install --disable-pip-version-check $quiet "$@" ||
        fail "pip could not install the packages (its reason stands above); check the network and run this again"
}

# opencv-python needs libGL, which servers often lack; opencv-python-headless suffices.
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

# Of CUDA, importing mindspore-gpu 1.10 needs the runtime library alone; the rest is loaded with a GPU's driver.
check_cuda() {
    local message
    message=$("$venv/bin/python" -c 'import mindspore.dataset' 2>&1) && return
    [[ $message == *libcudart.so* ]] || fail "MindSpore cannot be imported: ${message##*$'\n'}"
    echo "no CUDA 11 on this machine: installing its runtime library from pip, for --device CPU"
    pip_install nvidia-cuda-runtime-cu11==11.8.89
}

# Prints a requirements file with the stack's release of MindSpore.
requirements() {
    if [[ $stack == ms200 ]]; then
        sed 's/^mindspore-gpu==[0-9.]*/mindspore==2.0.0/' "$root/$1"
    else
        cat "$root/$1"
    fi
}

# Installs a requirements file unless it equals the copy that the last success put into the environment.
install_file() {
    requirements "$1" | cmp -s - "$venv/$1" && return
    echo "installing $1 into $name"
    requirements "$1" >"$venv/new-$1"
    pip_install -r "$venv/new-$1"
    if [[ $1 == requirements.txt ]]; then
        check_opencv
        [[ $stack != gpu110 ]] || check_cuda
    fi
    mv "$venv/new-$1" "$venv/$1"
}

# The people detector, without which tools/predict.py is left with a weak one.
install_detector() {
    local file=requirements-detector.txt
    cmp -s "$root/$file" "$venv/$file" && return
    "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps -r "$root/$file" &&
        cp "$root/$file" "$venv/$file" ||
        echo "warning: no people detector; later: $venv/bin/python -m pip install --no-deps -r $file"
}

offer_help "${1:-}"
files=(requirements.txt)
stack=default
while (($#)); do
    case $1 in
        --dev) files=(requirements.txt requirements-onnx.txt requirements-dev.txt) ;;
        --stack) (($# > 1)) || fail "--stack needs a name: $stacks"; stack=$2; shift ;;
        *) fail "unknown argument '$1': choose --dev or --stack NAME" ;;
    esac
    shift
done
use_stack "$stack"
name=$(basename -- "$venv")
make_venv
for file in "${files[@]}"; do
    install_file "$file"
done
install_detector
