"""The network spelled as PyTorch code is usually carried over: the same values from more and slower operators.

Channel shuffle by concatenation and transposition, upsampling by resizing operators, every path of a fusion upsampled
and added by itself, the doubled path run twice. It is what the cheap spellings of src/model.py are measured against.
"""
from __future__ import annotations

from typing import Any

from mindspore import ops

from src import model
from src.settings.build import build_network


def nearest(x, height: int, width: int):
    """Nearest upsampling by its operator."""
    return ops.ResizeNearestNeighbor((height, width))(x)


class Shuffle(model.Shuffle):
    """Concatenation, then the channel shuffle with two groups."""

    def construct(self, a, b):
        n, c, h, w = a.shape
        x = ops.reshape(ops.concat((a, b), 1), (n, 2, c, h, w))
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3, 4)), (n, 2 * c, h, w))


class Upsample(model.Upsample):
    """Upsampling, then the combination."""

    def construct(self, high, low):
        return self.combine(high, nearest(low, self.shape[2], self.shape[3]))


class StageModule(model.StageModule):
    """Fusion path by path, with the accumulator of output 0 read by the later outputs."""

    def construct(self, xs):
        xs = self.run_blocks(xs)
        first, out = xs[0], ()
        for i in range(len(xs)):
            total = first if i == 0 else self.fuse_layers[i][0](first)
            for j in range(len(xs)):
                source = first if j == 0 else xs[j]
                path = self.fuse_layers[i][j](source)
                if j > i:
                    path = nearest(path, xs[i].shape[2], xs[i].shape[3])
                total = total + path
            if i == 0:
                first = total
            out += (ops.relu(total),)
        return out


class IterativeHead(model.IterativeHead):
    """Bilinear upsampling by its operator."""

    def construct(self, xs):
        last = len(xs) - 1
        x = self.projects[0](xs[last])
        for b in range(last - 1, -1, -1):
            x = ops.interpolate(x, size=xs[b].shape[2:], mode='bilinear', align_corners=True)
            x = self.projects[last - b](xs[b] + x)
        return x


PLAIN = {getattr(model, kind.__name__): kind for kind in (Shuffle, Upsample, StageModule, IterativeHead)}


def plain_network(config: dict[str, Any]) -> model.LiteHRNet:
    """The network of a configuration, with its cells replaced by the plain ones; parameters are named the same.

    For forward values and counts: BN statistics of the path that runs twice are those of the cheap spelling.
    """
    network = build_network(config)
    for _, cell in network.cells_and_names():
        cell.__class__ = PLAIN.get(type(cell), type(cell))
    return network
