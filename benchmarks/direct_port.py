"""The network as PyTorch code is usually ported: the same values from more and slower operators.

Channel shuffle by concatenation and transposition, upsampling by resizing operators, every path of a fusion upsampled
and added by itself, the doubled path run twice. The operators of src/model.py are measured against it.
"""
from __future__ import annotations

from typing import Any

from mindspore import Tensor, ops

from src import model
from src.settings.build import build_network


def nearest(x: Tensor, height: int, width: int) -> Tensor:
    """Return `x` upsampled by the operator for nearest neighbours."""
    return ops.ResizeNearestNeighbor((height, width))(x)


class Shuffle(model.Shuffle):
    """Concatenate, then shuffle the channels in two groups."""

    def construct(self, a, b):
        n, c, h, w = a.shape
        x = ops.reshape(ops.concat((a, b), 1), (n, 2, c, h, w))
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3, 4)), (n, 2 * c, h, w))


class Upsample(model.Upsample):
    """Upsample, then combine."""

    def construct(self, high, low):
        return self.combine(high, nearest(low, self.shape[2], self.shape[3]))


class StageModule(model.StageModule):
    """Fuse path by path; the later outputs read the accumulator of output 0."""

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
    """Upsample by the operator for bilinear interpolation."""

    def construct(self, xs):
        last = len(xs) - 1
        x = self.projects[0](xs[last])
        for b in range(last - 1, -1, -1):
            x = ops.interpolate(x, size=xs[b].shape[2:], mode='bilinear', align_corners=True)
            x = self.projects[last - b](xs[b] + x)
        return x


REPLACEMENTS = {getattr(model, kind.__name__): kind for kind in (Shuffle, Upsample, StageModule, IterativeHead)}


def direct_port(config: dict[str, Any]) -> model.LiteHRNet:
    """Return the network of a configuration with its cells replaced; parameters keep their names.

    For values of the forward pass and counts: BN statistics of the path that runs twice differ from a real port's.
    """
    network = build_network(config)
    for _, cell in network.cells_and_names():
        cell.__class__ = REPLACEMENTS.get(type(cell), type(cell))
    return network
