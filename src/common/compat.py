"""Differences between the MindSpore releases that this code runs on, each with the release it is for.

The rest of the code asks for no version. Run on 1.10.0, 2.0.0 and 2.8.0; a bound between two of them is a guess.
"""
from __future__ import annotations

import re
from pathlib import Path

import mindspore as ms
from mindspore import nn, ops

VERSION: tuple[int, ...] = tuple(int(n) for n in re.findall(r'\d+', ms.__version__)[:3])

# These bring oneDNN 3.10, whose convolutions of plain layout fall to a reference kernel.
SLOW_ON_CPU = ((2, 9, 0), (2, 10, 0))

# Batch normalisation on the CPU moves its running variance towards the variance over n - 1 from 2.1 on, over n before.
RUNNING_VARIANCE_DDOF = 1 if VERSION >= (2, 1) else 0

# Formats that MindSpore can write for any number of images: 2.0 fails on the slices of a MINDIR.
FREE_BATCH = () if (2,) <= VERSION < (2, 1) else ('MINDIR',)


def built_for(device: str) -> bool:
    """Return whether this build of MindSpore has the device ('CPU', 'GPU', 'Ascend'); the machine may have none."""
    return device == 'CPU' or any((Path(ms.__file__).parent / 'lib/plugin').glob(f'libmindspore_{device.lower()}*'))


def plan_memory() -> None:
    """Let MindSpore plan, on the CPU, where each result goes before a graph runs: less memory, no slower."""
    if VERSION >= (2, 1):
        ms.set_context(memory_optimize_level='O1')


def describe(device: str) -> str:
    """Return a line for the start of a program: release, what it is built for, device; advice where that is slow."""
    devices = ', '.join(d for d in ('CPU', 'GPU', 'Ascend') if built_for(d))
    line = f'MindSpore {ms.__version__} (built for {devices}) on {device}'
    if device == 'CPU' and VERSION in SLOW_ON_CPU:
        line += '; convolutions of this release are 10 to 80 times slower on a CPU: pip install mindspore==2.8.0'
    return line


class RootCell(nn.Cell):
    """A cell that programs call.

    At each call 2.8 names the compiled graph to every cell inside, and 1.10 asks each for hooks, in Python: 12 ms with
    2.8 for Lite-HRNet-18's 2,200. Here a name is passed on when it changes, and there are no hooks.
    """

    @property
    def compile_phase(self) -> str | None:
        """Return the name of the compiled graph."""
        return self._compile_phase

    @compile_phase.setter
    def compile_phase(self, value: str) -> None:
        """Set it."""
        if value != self._compile_phase:
            nn.Cell.compile_phase.fset(self, value)

    def _hook_fn_registered(self) -> bool:
        return False


def _resample(rows: ms.Tensor, x: ms.Tensor, columns: ms.Tensor) -> ms.Tensor:
    return ops.matmul(ops.matmul(rows, x), columns)


def _resample_1_10(rows: ms.Tensor, x: ms.Tensor, columns: ms.Tensor) -> ms.Tensor:
    _, channels, height, width = x.shape
    new_height, new_width = rows.shape[0], columns.shape[1]
    x = ops.MatMul()(ops.reshape(x, (-1, width)), columns)
    x = ops.transpose(ops.reshape(x, (-1, channels, height, new_width)), (0, 1, 3, 2))
    x = ops.MatMul(transpose_b=True)(ops.reshape(x, (-1, height)), rows)
    return ops.transpose(ops.reshape(x, (-1, channels, new_width, new_height)), (0, 1, 3, 2))


def _channels_of(x: ms.Tensor, start: int, stop: int) -> ms.Tensor:
    return x[:, start:stop]


def _channels_of_1_10(x: ms.Tensor, start: int, stop: int) -> ms.Tensor:
    number, _, height, width = x.shape  # -1 where the number of images is free
    return ops.Slice()(x, (0, start, 0, 0), (number, stop - start, height, width))


def _halves_1_10(x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
    middle = x.shape[1] // 2
    return channels_of(x, 0, middle), channels_of(x, middle, 2 * middle)


# (H, h) x (N, C, h, w) x (w, W) -> (N, C, H, W), a range of channels of (N, C, H, W), and both halves of them. With the
# plain spellings 1.10 can't export for any number of images: its matmul refuses that, its loader fails on the slice.
# 1.10's Split on a GPU takes wrong channels in float16, silently: made to split the last axis of NHWC, it reads the
# size of that axis from NCHW. What 2.0 does is not known.
resample = _resample if VERSION >= (2,) else _resample_1_10
channels_of = _channels_of if VERSION >= (2,) else _channels_of_1_10
halves = ops.Split(1, 2) if VERSION >= (2, 1) else _halves_1_10


def adam_weight_decay(groups: list[dict], learning_rate: ms.Tensor) -> nn.Optimizer:
    """Return AdamWeightDecay with one operator for each parameter. (1.10 has it for the GPU, but takes 14 smaller.)"""
    optimizer = nn.AdamWeightDecay(groups, learning_rate)
    optimizer.use_fused_opt |= VERSION < (2,)
    return optimizer


def sgd(groups: list[dict], learning_rate: ms.Tensor) -> nn.Optimizer:
    """Return gradient descent without momentum. (nn.SGD of 1.10 does not see the weight decay of parameter groups.)"""
    return nn.SGD(groups, learning_rate) if VERSION >= (2,) else nn.Momentum(groups, learning_rate, momentum=0.0)
