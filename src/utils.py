"""Device set-up, seeds, parameter groups, optimizers, logging."""
from __future__ import annotations

import ctypes
import fcntl
import logging
import sys
from pathlib import Path
from typing import TextIO

import mindspore as ms
import numpy as np
from mindspore import nn
from mindspore.communication import get_group_size, get_rank, init

from src.common.compat import adam_weight_decay, built_for, plan_memory, sgd
from src.common.errors import InputError, first_line


def cuda_devices() -> int:
    """Return the number of CUDA devices the driver shows this process; 0 without a driver."""
    try:
        driver, count = ctypes.CDLL('libcuda.so.1'), ctypes.c_int()
        return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
    except OSError:
        return 0


def set_device(device: str, device_id: int, distributed: bool = False, cpu_threads: int = 0) -> tuple[int, int]:
    """Select device and graph mode; join the other processes if `distributed`.

    Returns:
        (rank, ranks): number of this process and of all processes; (0, 1) for a run of one.

    Raises:
        InputError: the machine or this MindSpore has no such device.
    """
    advice = "pass --device CPU (or set 'device' in src/config.py)"
    if not built_for(device):
        raise InputError(f'device {device!r}: this MindSpore {ms.__version__} is not built for it; {advice}')
    if device == 'GPU':
        count = cuda_devices()
        if not count:
            raise InputError(f"device 'GPU': this machine shows no CUDA device; {advice}")
        if device_id >= count and not distributed:
            raise InputError(f'device_id {device_id}: there are {count} GPUs, numbered 0 to {count - 1}')
    if device == 'CPU' and device_id and not distributed:
        raise InputError(f'device_id {device_id}: the CPU is device 0')
    try:
        if device == 'CPU':
            plan_memory()
        if cpu_threads:
            ms.set_context(runtime_num_threads=cpu_threads)
        if device == 'CPU' or distributed:
            ms.set_context(mode=ms.GRAPH_MODE, device_target=device)
        else:
            ms.set_context(mode=ms.GRAPH_MODE, device_target=device, device_id=device_id)
        if not distributed:
            # Kernels are chosen at first use; ask for one now rather than after minutes of preparation.
            ms.ops.Add()(ms.Tensor([1.0]), ms.Tensor([1.0]))
    except (RuntimeError, ValueError) as error:
        raise InputError(f'device {device!r}: MindSpore {ms.__version__} finds none it can use; {advice}') from error
    return join_ranks() if distributed else (0, 1)


def join_ranks() -> tuple[int, int]:
    """Join the other processes of a distributed training; return this one's rank and the number of ranks.

    It stands before the first operator, which would bind every rank to device 0.

    Raises:
        InputError: the other processes can't be reached.
    """
    try:
        init()
    except RuntimeError as error:
        raise InputError(f'distributed: no communication with the other ranks ({first_line(error)}); start with '
                         'scripts/run_distributed_train_gpu.sh') from error
    rank, ranks = get_rank(), get_group_size()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=ranks)
    return rank, ranks


def set_precision(network: nn.Cell, level: str) -> None:
    """Make a network compute in float16; its parameters, their gradients and the loss stay float32.

    Args:
        network: it is changed; it still takes float32 images, but returns float16 heatmaps.
        level: 'O0' changes nothing, 'O2' leaves BN in float32, 'O3' does not.
    """
    if level == 'O0':
        return
    network.to_float(ms.float16)
    for _, cell in network.cells_and_names():
        if level == 'O2' and isinstance(cell, nn.BatchNorm2d):
            cell.to_float(ms.float32)


def set_seed(seed: int | None) -> None:
    """Fix initial weights, and all else drawn from the global generators of NumPy and MindSpore."""
    if seed is not None:
        ms.set_seed(seed % 2 ** 32)  # the global generators take 32 bits, those of samples and order 64
        np.random.seed(seed % 2 ** 32)


def is_decayed(parameter: ms.Parameter) -> bool:
    """Return whether weight decay applies to a parameter: to convolution weights, not to biases and BN."""
    return parameter.ndim > 1


def parameter_groups(network: nn.Cell, weight_decay: float) -> list[dict]:
    """Return the trainable parameters in two groups: convolution weights with decay; biases and BN without."""
    decayed = [p for p in network.trainable_params() if is_decayed(p)]
    others = [p for p in network.trainable_params() if not is_decayed(p)]
    groups = [{'params': decayed, 'weight_decay': weight_decay}, {'params': others, 'weight_decay': 0.0}]
    return [*(group for group in groups if group['params']), {'order_params': network.trainable_params()}]


def freeze(network: nn.Cell, names: str) -> None:
    """Exclude parts of a network from training; frozen BN layers use and keep their statistics.

    Args:
        network: it is changed.
        names: beginnings of parameter names, whole words up to a dot, with commas between; a leading `backbone.` may
            be omitted: 'backbone', 'stem,stage0', 'stage1.0', 'head_layer'.

    Raises:
        InputError: a name fits no parameter, or nothing is left to train.
    """
    parameters = dict(network.parameters_and_names())
    for part in (word.strip() for word in names.split(',')):
        frozen = [name for name in parameters if name.startswith((f'{part}.', f'backbone.{part}.'))]
        if not frozen:
            parts = sorted({name.replace('backbone.', '', 1).split('.')[0] for name in parameters})
            raise InputError(f'freeze {part!r}: no part of the network; parts are backbone, {", ".join(parts)}')
        for name in frozen:
            parameters[name].requires_grad = False
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d) and not cell.gamma.requires_grad:
            cell.use_batch_statistics = False
    if not network.trainable_params():
        raise InputError(f'freeze {names!r}: nothing is left to train; omit a part')


def make_optimizer(name: str, network: nn.Cell, learning_rate: np.ndarray, weight_decay: float) -> nn.Optimizer:
    """Return an optimizer over `parameter_groups`.

    Args:
        name: 'AdamWeightDecay' (decoupled decay, no bias correction, eps 1e-6), 'Adam' or 'SGD' (no momentum).
        network: the network to train.
        learning_rate: float32 (updates,), one per update.
        weight_decay: of convolution weights; for Adam and SGD it is added to the gradient.
    """
    make = {'AdamWeightDecay': adam_weight_decay, 'Adam': nn.Adam, 'SGD': sgd}[name]
    return make(parameter_groups(network, weight_decay), ms.Tensor(learning_rate))


def _claim(file: TextIO) -> bool:
    """Lock a file for this process until it is closed; return whether no other has. Some file systems can't tell."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True


def get_logger(file: Path | None = None, quiet: bool = False) -> logging.Logger:
    """Return the project's logger: plain lines on stdout and, dated, in `file`; only warnings if `quiet`.

    Raises:
        InputError: the file can't be written.
    """
    logger = logging.getLogger('litehrnet')
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    screen = logging.StreamHandler(sys.stdout)
    screen.setFormatter(logging.Formatter('%(message)s'))
    logger.addHandler(screen)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(file)
        except OSError as error:
            raise InputError(f'{file}: cannot be written ({error.strerror}); choose another --output_root') from error
        if not _claim(handler.stream):
            handler.close()
            raise InputError(f'{file.parent}: another training writes there; wait for its end, or choose another '
                             '--experiment_tag')
        handler.handleError = lambda record: None  # the disk is full: the lines still come to the screen
        handler.setFormatter(logging.Formatter('%(asctime)s %(message)s', '%Y-%m-%d %H:%M:%S'))
        logger.addHandler(handler)
    return logger
