#!/usr/bin/env bash
# usage: bash scripts/run_distributed_train_gpu.sh [RANK_SIZE] [DEVICE_START] [options of train.py]
#
# Trains data-parallel on RANK_SIZE (default 8) devices, the first of which is number DEVICE_START (default 0), counted
# within CUDA_VISIBLE_DEVICES where that is set.
# On GPU through Open MPI's mpirun. With --device CPU among the options through MindSpore's msrun, without mpirun.
# Several machines: HOSTFILE=FILE names Open MPI's list of them ("machine1 slots=8" per line); RANK_SIZE counts the
# devices of all. Checkout, interpreter, data and --output_root must be at the same paths, the last one shared.
# SIGTERM or Ctrl-C: rank 0 finishes its step and saves; --resume continues from there. A rank that dies or hangs is
# named and ends the others.
# The output also goes to logs/distributed_<time>/ in the checkout, with one file for each rank.
# Relative paths in options are relative to the current folder. PYTHON=... names another interpreter than .venv's.
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

# Prints the devices of the ranks. Of several machines, which share the list, none need have all of them.
visible_devices() {
    local inherited=${CUDA_VISIBLE_DEVICES-$(seq -s, 0 $((device_start + rank_size - 1)))} devices
    IFS=, read -ra devices <<<"${inherited// /}"
    devices=("${devices[@]:device_start:rank_size}")
    ((${#devices[@]} >= (${#HOSTFILE} ? 1 : rank_size))) ||
        fail "CUDA_VISIBLE_DEVICES='$inherited': too few devices for RANK_SIZE $rank_size from DEVICE_START $device_start"
    (IFS=,; echo "${devices[*]}")
}

run_mpirun() {
    command -v mpirun >/dev/null || fail "mpirun: not found; install Open MPI 4.0, or pass --device CPU"
    CUDA_VISIBLE_DEVICES=$(visible_devices)
    export CUDA_VISIBLE_DEVICES
    log_to "$log_dir/all.log"
    local hosts=(--oversubscribe)  # or it refuses more ranks than the machine has cores
    [[ -z $HOSTFILE ]] || hosts=(--hostfile "$HOSTFILE" -x PATH -x LD_LIBRARY_PATH -x PYTHONUNBUFFERED
                                 -x CUDA_VISIBLE_DEVICES)
    # Open MPI binds each of two ranks to a single core unless told otherwise, and ends all ranks within a second of
    # SIGTERM or Ctrl-C: it gets neither, being in a session of its own, but SIGUSR1, which it hands on to the ranks.
    setsid mpirun -n "$rank_size" --bind-to none "${hosts[@]}" --allow-run-as-root --output-filename "$log_dir" \
        --merge-stderr-to-stdout "$python" "$root/train.py" --distributed --device GPU "$@" &
    wait_for $! 'kill -USR1' TERM
}

run_msrun() {
    local port
    ((device_start == 0)) || fail "DEVICE_START $device_start: is for GPUs; omit it with --device CPU"
    [[ -z $HOSTFILE ]] || fail "HOSTFILE=$HOSTFILE: is for GPUs; unset it with --device CPU"
    [[ -x $(dirname -- "$python")/python ]] ||
        fail "$python: msrun needs a program named python beside it; set PYTHON to that of a virtual environment"
    [[ -x $(dirname -- "$python")/msrun ]] ||
        fail "$python: no msrun beside it; several processes on the CPU need MindSpore 2.3 or newer"
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # Seconds that MindSpore waits for a rank's heartbeat: more than src/training/heartbeat.py, which names the rank,
    # since a busy machine is late with them; few enough to end within a minute.
    export MS_NODE_TIMEOUT=${MS_NODE_TIMEOUT:-20} MS_RECEIVE_MSG_TIMEOUT=${MS_RECEIVE_MSG_TIMEOUT:-30}
    # msrun starts the ranks with the first `python` on PATH.
    PATH=$(dirname -- "$python"):$PATH
    log_to "$log_dir/all.log"
    "$python" -m mindspore.parallel.cluster.run --worker_num="$rank_size" --local_worker_num="$rank_size" \
        --master_addr=127.0.0.1 --master_port="$port" --log_dir="$log_dir" --join=True --tail_worker_log=0 \
        "$root/train.py" --distributed "$@" &
    wait_for $! stop_rank_0 INT  # any other signal makes msrun leave the ranks behind
}

# stop_rank_0 PID: asks the rank 0 that this msrun started to save and end.
stop_rank_0() {
    local child
    for child in $(cat "/proc/$1/task/$1/children"); do
        if grep -qzx 'MS_NODE_ID=0' "/proc/$child/environ" && grep -qz 'train\.py$' "/proc/$child/cmdline"; then
            kill "$child"
        fi
    done
}

# wait_for PID ASK SIGNAL: waits for a launcher and exits with its status. On SIGTERM or Ctrl-C runs ASK PID, so that
# rank 0 saves and ends, at which the launcher ends the others; after 70 s sends the launcher SIGNAL.
wait_for() {
    local status=0
    trap "stop_launcher $1 '$2' $3 130" INT
    trap "stop_launcher $1 '$2' $3 143" TERM
    wait "$1" || status=$?
    ((status == 0)) || grep -rhs '^error:' --include='worker_*.log' --include=stdout "$log_dir" | sort -u || true
    exit "$status"
}

stop_launcher() {
    trap '' INT TERM
    $2 "$1"
    for ((tenth = 0; tenth < 700; tenth++)); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    kill -"$3" "$1" 2>/dev/null || true
    wait "$1" || true
    grep -hs ' after step .* pass --resume to continue$' "$log_dir/all.log" | tail -1 || true  # launchers call it a fault
    exit "$4"
}

python=$(choose_python)
offer_help "${1:-}" "$python" "$root/train.py" --help
rank_size=8
device_start=0
HOSTFILE=${HOSTFILE:-}
if (($#)) && [[ $1 != -* ]]; then
    [[ $1 =~ ^[1-9][0-9]*$ ]] || fail "RANK_SIZE '$1': give a positive integer (options begin with --)"
    rank_size=$1
    shift
    if (($#)) && [[ $1 != -* ]]; then
        [[ $1 =~ ^(0|[1-9][0-9]*)$ ]] || fail "DEVICE_START '$1': give a non-negative integer"
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
