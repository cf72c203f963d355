"""Convolutions with BN, channel shuffle and nearest upsampling, of which `src.model` is made.

Where a cell has `fast`, `src.cpu.cells` may put one of the same value there.
"""
from __future__ import annotations

from collections import OrderedDict

from mindspore import nn, ops
from mindspore.common.initializer import Normal


def conv(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *, depthwise: bool = False,
         bias: bool = False) -> nn.Conv2d:
    """Return a convolution with 'same' padding, initialised as in the official code (normal, std 0.001)."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, pad_mode='pad', padding=kernel // 2,
                     group=in_channels if depthwise else 1, has_bias=bias, weight_init=Normal(0.001),
                     bias_init='zeros')


def batch_norm(channels: int, updates: int = 1) -> nn.BatchNorm2d:
    """Return a BN whose running statistics move as if it had run `updates` times on each batch."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.9 ** updates)  # MindSpore's momentum: share of the old


class Identity(nn.Cell):
    """Return the input. (nn.Identity of MindSpore 1.10 can't be exported to ONNX.)"""

    def construct(self, x):
        return x


class ConvBN(nn.Cell):
    """Convolution, BN and, if given, an activation."""

    fast = None

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *,
                 depthwise: bool = False, act: nn.Cell | None = None) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, kernel, stride, depthwise=depthwise)
        self.bn = batch_norm(out_channels)
        self.act = act

    def construct(self, x):
        if self.fast is not None:
            return self.fast(x)
        x = self.bn(self.conv(x))
        return x if self.act is None else self.act(x)


class ConvSequence(nn.SequentialCell):
    """Convolutions with BN and ReLU, numbered in the checkpoint as in the official Sequential."""

    fast = None

    def construct(self, x):
        return super().construct(x) if self.fast is None else self.fast(x)


def separable_cells(in_channels: int, out_channels: int, stride: int, *, relu: bool = True,
                    updates: int = 1) -> list[nn.Cell]:
    """Return the cells of depthwise 3x3 + BN, 1x1 + BN (+ ReLU)."""
    cells = [conv(in_channels, in_channels, 3, stride, depthwise=True), batch_norm(in_channels, updates),
             conv(in_channels, out_channels), batch_norm(out_channels, updates)]
    return cells + [nn.ReLU()] if relu else cells


class Shuffle(nn.Cell):
    """Interleave the channels of two tensors (concatenation + channel shuffle with 2 groups)."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.shape = (-1, 2 * channels, height, width)
        self.stack = ops.Stack(2)
        self.reshape = ops.Reshape()

    def construct(self, a, b):
        return self.reshape(self.stack((a, b)), self.shape)


class Upsample(nn.Cell):
    """Return `combine(high, nearest-upsampled low)`; `combine` is an element-wise operator that broadcasts."""

    def __init__(self, combine: ops.Primitive, channels: int, height: int, width: int, factor: int) -> None:
        super().__init__()
        low_h, low_w = height // factor, width // factor
        self.combine = combine
        self.reshape = ops.Reshape()
        self.split_shape = (-1, channels, low_h, factor, low_w, factor)
        self.low_shape = (-1, channels, low_h, 1, low_w, 1)
        self.shape = (-1, channels, height, width)

    def construct(self, high, low):
        high = self.reshape(high, self.split_shape)
        return self.reshape(self.combine(high, self.reshape(low, self.low_shape)), self.shape)


def biased_conv(in_channels: int, out_channels: int, act: nn.Cell) -> nn.SequentialCell:
    """Return a 1x1 convolution with bias (no BN) and its activation."""
    return nn.SequentialCell(OrderedDict(conv=conv(in_channels, out_channels, bias=True), act=act))
