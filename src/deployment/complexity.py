"""Parameters, multiply-adds and activations of a network, part by part.

The network runs once on an empty image, and its cells are asked what came out of them. For one image each:

    parameters     trainable numbers
    multiply-adds  of convolutions, as this network runs them
    reference      the same in the official code, which runs fusion paths from branch 0 twice
    paper          the total of the authors' tool (torchstat): convolutions, BN, ReLU, pooling, upsampling; a module
                   that runs several times counts once, as it ran last; the paper divides it by 2**20 and writes M
    activations    elements that convolutions give out
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from math import prod
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from src.model import LiteHRNet, SpatialWeighting, StageModule

PARTS = {r'backbone\.stem\.': 'stem', r'backbone\.(transition|stage)(\d+)\b': r'\1 \2',
         r'backbone\.head_layer\.': 'head', r'keypoint_head\.': 'final layer'}


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


def _count(name: str, cell: nn.Cell, output: Any) -> Counts:
    parameters = sum(parameter.size for parameter in cell.trainable_params())
    if isinstance(cell, nn.Conv2d):
        multiply_adds = output.size * prod(cell.weight.shape[1:])
        runs = 2 if re.search(r'\.fuse_layers\.[1-9]\.0\.', name) else 1
        return Counts(parameters, multiply_adds, runs * multiply_adds, multiply_adds + output.size * cell.has_bias,
                      output.size)
    if isinstance(cell, nn.BatchNorm2d):
        return Counts(parameters, paper=2 * output.size)
    if isinstance(cell, nn.ReLU):
        return Counts(paper=output.size)
    if isinstance(cell, SpatialWeighting):  # torchstat's idea of pooling to one pixel
        _, channels, height, width = output.shape
        return Counts(paper=channels * (height + 1) * (width + 1))
    # A stage module: torchstat forgets the channels of what is upsampled to a branch from those below it.
    return Counts(paper=sum(below * prod(branch.shape[2:]) for below, branch in enumerate(reversed(output))))


def analyze(network: LiteHRNet, image_size: tuple[int, int]) -> dict[str, Counts]:
    """Return the counts of each part of the network, in the order in which they run, then 'total'.

    Args:
        network: for images of `image_size`.
        image_size: (width, height) in pixels.
    """
    by_cell: dict[str, Counts] = {}

    def count(name: str, cell: nn.Cell) -> Callable[..., None]:
        def hook(_: Any, inputs: Any, output: Any) -> None:
            by_cell[name] = _count(name, cell, output)
        return hook

    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, SpatialWeighting, StageModule)
    mode = ms.get_context('mode')
    ms.set_context(mode=ms.PYNATIVE_MODE)  # MindSpore 1.10 takes hooks in this mode alone
    hooks = [cell.register_forward_hook(count(name, cell)) for name, cell in network.cells_and_names()
             if isinstance(cell, kinds)]
    try:
        network.set_train(False)(ms.Tensor(np.zeros((1, 3, *image_size[::-1]), np.float32)))
    finally:
        for hook in hooks:
            hook.remove()
        ms.set_context(mode=mode)
    rows: dict[str, Counts] = {}
    for name, counts in by_cell.items():
        part = next(match.expand(row) for pattern, row in PARTS.items() if (match := re.match(pattern, name)))
        rows[part] = rows.get(part, Counts()) + counts
    return {**rows, 'total': sum(rows.values(), Counts())}


def table(rows: dict[str, Counts]) -> str:
    """Return `rows` as text with right-aligned columns."""
    names = [field.name.replace('multiply_adds', 'multiply-adds') for field in fields(Counts)]
    lines = [('', *names)] + [(name, *(f'{n:,}' for n in astuple(counts))) for name, counts in rows.items()]
    return '\n'.join(f'{name:14}' + ''.join(f'{entry:>16}' for entry in entries) for name, *entries in lines)
