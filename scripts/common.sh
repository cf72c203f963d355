# Sourced by the other scripts: the checkout's folder, error messages, and the launch of a program with its log.
set -euo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    echo "error: $*" >&2
    exit 1
}

# offer_help ARGUMENT [COMMAND]: where help is asked for, prints the script's opening comment, runs COMMAND and ends.
offer_help() {
    [[ $1 == -h || $1 == --help ]] || return 0
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    shift
    "$@"
    exit
}

stacks='default, gpu110 or ms200'

# use_stack NAME: sets the virtual environment of a set of packages, its Pythons (3.x, best first), and what it needs to
# run.
use_stack() {
    case $1 in
        default) venv=$root/.venv minors='11 12 10' ;;
        gpu110 | ms200) venv=$root/.venv-$1 minors=9 ;;
        *) fail "unknown stack '$1': choose $stacks" ;;
    esac
    if [[ $1 == gpu110 ]]; then
        # Without CUDA on the machine, importing needs one library of it, which setup_env.sh installs; GLOG_v silences
        # MindSpore's warnings about the others.
        [[ ! -d $venv/$cuda_runtime ]] || export LD_LIBRARY_PATH=$venv/$cuda_runtime:${LD_LIBRARY_PATH:-}
        export GLOG_v=${GLOG_v:-4}
    fi
}
cuda_runtime=lib/python3.9/site-packages/nvidia/cuda_runtime/lib

# Prints the interpreter for the programs: $PYTHON, else that of .venv, else the active one.
choose_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} "$root/.venv/bin/python" python3 python; do
        if command -v -- "$candidate"; then return; fi
        [[ $candidate != "${PYTHON:-}" ]] || fail "PYTHON=$PYTHON: cannot be run; name a Python interpreter"
    done
    fail "no Python found; run 'bash scripts/setup_env.sh', or name one in the variable PYTHON"
}

# log_to FILE: copies all further output to the file. Unbuffered, because Python holds lines back in a pipe.
log_to() {
    mkdir -p -- "$(dirname -- "$1")" 2>/dev/null && : 2>/dev/null >"$1" ||
        fail "$1: cannot be written; make the folder writable"
    export PYTHONUNBUFFERED=1
    echo "log: $1"
    exec > >(exec tee -i -- "$1") 2>&1
}

time_stamp() {
    echo "$(date +%Y%m%d_%H%M%S)_$$"
}

# launch PROGRAM [DEVICE_ID] [options]: becomes the program, so that its exit status and signals are the script's.
# It stays in the caller's folder, to which the user's paths are relative.
launch() {
    local program=$root/$1 device=0 python
    shift
    python=$(choose_python)
    offer_help "${1:-}" "$python" "$program" --help
    if (($#)) && [[ $1 != -* ]]; then
        [[ $1 =~ ^[0-9]+$ ]] || fail "DEVICE_ID '$1': give a non-negative integer (options begin with --)"
        device=$1
        shift
    fi
    log_to "$root/logs/$(basename -- "$0" .sh)_$(time_stamp).log"
    exec "$python" "$program" --device_id "$device" "$@"
}
