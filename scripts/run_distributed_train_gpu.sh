#!/usr/bin/env bash
# usage: bash scripts/run_distributed_train_gpu.sh [RANK_SIZE] [DEVICE_START] [options of train.py]
#
# Trains data-parallel on RANK_SIZE (default 8) devices, the first of which is number DEVICE_START (default 0).
# On GPU through Open MPI's mpirun. With --device CPU among the options through MindSpore's msrun, without mpirun.
# The output also goes to logs/distributed_<time>/ in the checkout, with one file for each rank.
# Relative paths among the options start at the current folder. PYTHON=... names another interpreter than .venv's.
#
# examples: bash scripts/run_distributed_train_gpu.sh 8 0
#           bash scripts/run_distributed_train_gpu.sh 2 --device CPU --data_root data/coco
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# Prints the value of the last --device among the arguments.
device_option() {
    local device=GPU previous=''
    for argument; do
        [[ $previous != --device ]] || device=$argument
        [[ $argument != --device=* ]] || device=${argument#*=}
        previous=$argument
    done
    echo "$device"
}

run_mpirun() {
    command -v mpirun >/dev/null || fail "mpirun not found: install Open MPI 4.0, or pass --device CPU"
    CUDA_VISIBLE_DEVICES=$(seq -s, "$device_start" $((device_start + rank_size - 1)))
    export CUDA_VISIBLE_DEVICES
    log_to "$log_dir/all.log"
    exec mpirun -n "$rank_size" --allow-run-as-root --output-filename "$log_dir" --merge-stderr-to-stdout \
        "$python" "$root/train.py" --distributed --device GPU "$@"
}

run_msrun() {
    local port status=0
    [[ -x $(dirname -- "$python")/python ]] || fail "msrun needs a program named python beside $python"
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # Without these the others notice the death of a rank only after half a minute.
    export MS_NODE_TIMEOUT=${MS_NODE_TIMEOUT:-6} MS_RECEIVE_MSG_TIMEOUT=${MS_RECEIVE_MSG_TIMEOUT:-10}
    # msrun starts the ranks with the first `python` on PATH.
    PATH=$(dirname -- "$python"):$PATH
    log_to "$log_dir/all.log"
    "$python" -m mindspore.parallel.cluster.run --worker_num="$rank_size" --local_worker_num="$rank_size" \
        --master_addr=127.0.0.1 --master_port="$port" --log_dir="$log_dir" --join=True --tail_worker_log=0 \
        "$root/train.py" --distributed "$@" &
    # Ended by anything but SIGINT, msrun leaves the ranks behind; it says 0 when interrupted.
    trap "kill -INT $!; wait $! || true; exit 130" INT TERM
    wait $! || status=$?
    ((status == 0)) || grep -hs '^error:' "$log_dir"/worker_*.log | sort -u || true
    exit "$status"
}

python=$(choose_python)
if wants_help "$@"; then
    usage
    exec "$python" "$root/train.py" --help
fi
rank_size=8
device_start=0
if (($#)) && [[ $1 != -* ]]; then
    [[ $1 =~ ^[1-9][0-9]*$ ]] || fail "RANK_SIZE must be a positive integer, not '$1' (options begin with --)"
    rank_size=$1
    shift
    if (($#)) && [[ $1 != -* ]]; then
        [[ $1 =~ ^(0|[1-9][0-9]*)$ ]] || fail "DEVICE_START must be a non-negative integer, not '$1'"
        device_start=$1
        shift
    fi
fi
log_dir=$root/logs/distributed_$(time_stamp)
if [[ $(device_option "$@") == CPU ]]; then
    run_msrun "$@"
else
    run_mpirun "$@"
fi
