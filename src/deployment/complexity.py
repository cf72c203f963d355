"""Parameters, multiply-adds and activations of a network, part by part.

Nothing is computed: cells are walked with the shapes that their inputs have. For one image each:

    parameters     trainable numbers
    multiply-adds  of convolutions, as this network runs them
    reference      the same in the official code, which runs fusion paths from branch 0 twice
    paper          the total of the authors' tool (torchstat): convolutions, BN, ReLU, pooling, upsampling; a module
                   that runs several times counts once, as it ran last; the paper divides it by 2**20 and writes M
    activations    elements that convolutions give out
"""
from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from math import ceil, prod
from typing import Any

from mindspore import nn

from src import model


@dataclass
class Counts:
    """The five counts that the module's docstring explains."""

    parameters: int = 0
    multiply_adds: int = 0
    reference: int = 0
    paper: int = 0
    activations: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Return the sum, entry by entry."""
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other))))


class Walk:
    """Follow shapes (channels, height, width) through cells and add up in `counts` what they meet.

    `walk(cell, shape)` returns the shape that comes out; cells of several branches take and give a list of shapes.
    A cell without a rule of its own is the chain of its children.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self.reference_runs = 1
        self.rules = {
            nn.Conv2d: self._conv, nn.BatchNorm2d: self._norm, nn.ReLU: self._relu, model.Stem: self._stem,
            model.SpatialWeighting: self._spatial_weighting, model.ShuffleUnit: self._shuffle_unit,
            model.CrossResolutionWeighting: self._cross_resolution_weighting,
            model.WeightingBlock: self._weighting_block, model.StageModule: self._stage_module,
            model.IterativeHead: self._head}

    def __call__(self, cell: nn.Cell, x: Any) -> Any:
        """Count `cell` for an input of shape `x` and return the shape of its output."""
        return self.rules.get(type(cell), self._chain)(cell, x)

    def _chain(self, cell, x):
        for child in cell.cells():
            x = self(child, x)
        return x

    def _conv(self, cell, x):
        channels, *window = cell.weight.shape
        out = (channels, ceil(x[1] / cell.stride[0]), ceil(x[2] / cell.stride[1]))
        multiply_adds, bias = prod(out) * prod(window), prod(out) * cell.has_bias
        self.counts += Counts(sum(p.size for p in cell.trainable_params()), multiply_adds,
                              multiply_adds * self.reference_runs, multiply_adds + bias, prod(out))
        return out

    def _norm(self, cell, x):
        self.counts += Counts(parameters=sum(p.size for p in cell.trainable_params()), paper=2 * prod(x))
        return x

    def _relu(self, cell, x):
        self.counts.paper += prod(x)
        return x

    def _stem(self, cell, x):
        channels, *size = self(cell.conv1, x)
        half = (channels // 2, *size)
        self(cell.branch1, half)
        channels, *size = self(cell.linear_conv, self(cell.depthwise_conv, self(cell.expand_conv, half)))
        return (2 * channels, *size)

    def _spatial_weighting(self, cell, x):
        channels, height, width = x
        self.counts.paper += channels * (height + 1) * (width + 1)  # torchstat's idea of pooling to one pixel
        self._chain(cell, (channels, 1, 1))
        return x

    def _cross_resolution_weighting(self, cell, xs):
        self(cell.conv2, self(cell.conv1, (sum(x[0] for x in xs), *xs[-1][1:])))
        return xs

    def _weighting_block(self, cell, xs):
        halves = [(x[0] // 2, *x[1:]) for x in xs]
        self(cell.cross_resolution_weighting, halves)
        for filter_, weighting, half in zip(cell.depthwise_convs, cell.spatial_weighting, halves):
            self(weighting, self(filter_, half))
        return xs

    def _shuffle_unit(self, cell, x):
        self(cell.branch2, (x[0] // 2, *x[1:]))
        return x

    def _stage_module(self, cell, xs):
        if cell.naive:
            for layer, x in zip(cell.layers, xs):
                self(layer, x)
        else:
            self._chain(cell.layers, xs)
        for i, paths in enumerate(cell.fuse_layers):
            for j, path in enumerate(paths):
                self.reference_runs = 2 if j == 0 < i else 1
                self(path, xs[j])
                if j > i:
                    self.counts.paper += prod(xs[i][1:])  # torchstat forgets the channels when upsampling
        self.reference_runs = 1
        self(cell.relu, xs[-1])  # runs on every branch, on the lowest last
        return xs

    def _head(self, cell, xs):
        for project, x in zip(cell.projects, reversed(xs)):
            out = self(project, x)
        return out


def analyze(network: model.LiteHRNet, image_size: tuple[int, int]) -> dict[str, Counts]:
    """Return the counts of each part of the network, in the order in which they run, then 'total'.

    Args:
        network: for images of `image_size`.
        image_size: (width, height) in pixels.
    """
    rows: dict[str, Counts] = {}

    def part(name: str, cell: nn.Cell, x: Any) -> Any:
        walk = Walk()
        x = walk(cell, x)
        rows[name] = rows.get(name, Counts()) + walk.counts
        return x

    width, height = image_size
    backbone = network.backbone
    xs = [part('stem', backbone.stem, (3, height, width))]
    for s, (transition, modules) in enumerate(backbone.stages):
        xs = [part(f'transition {s}', cell, xs[min(b, len(xs) - 1)]) for b, cell in enumerate(transition)]
        xs = part(f'stage {s}', modules, xs)
    part('final layer', network.keypoint_head, part('head', backbone.head_layer, xs))
    return {**rows, 'total': sum(rows.values(), Counts())}


def table(rows: dict[str, Counts]) -> str:
    """Return `rows` as text with right-aligned columns."""
    names = [field.name.replace('multiply_adds', 'multiply-adds') for field in fields(Counts)]
    lines = [('', *names)] + [(name, *(f'{n:,}' for n in astuple(counts))) for name, counts in rows.items()]
    return '\n'.join(f'{name:14}' + ''.join(f'{entry:>16}' for entry in entries) for name, *entries in lines)
