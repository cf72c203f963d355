"""BN folded into the convolution before it: the same outputs from half the operators, for inference alone."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn

from src.layers import Identity


def folded(conv: nn.Conv2d, after: nn.Cell | None) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias, float64, of a convolution together with the BN after it, if one is."""
    weight = conv.weight.asnumpy().astype(np.float64)
    bias = conv.bias.asnumpy().astype(np.float64) if conv.has_bias else np.zeros(len(weight))
    if not isinstance(after, nn.BatchNorm2d):
        return weight, bias
    gamma, beta, mean, variance = (p.asnumpy().astype(np.float64) for p in (
        after.gamma, after.beta, after.moving_mean, after.moving_variance))
    factor = gamma / np.sqrt(variance + after.eps)
    return weight * factor[:, None, None, None], beta + (bias - mean) * factor


def _fold(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    weight, bias = (ms.Tensor(value.astype(np.float32)) for value in folded(conv, bn))
    return nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, pad_mode='pad',
                     padding=conv.padding, group=conv.group, has_bias=True, weight_init=weight, bias_init=bias)


def conv_bn_pairs(network: nn.Cell) -> list[tuple[nn.Cell, str, str]]:
    """Return (parent, name of the convolution, name of the BN) of all convolutions directly followed by a BN.

    A cell's children are taken in their order, which in this network is the order they run in.
    """
    pairs = []
    for _, parent in network.cells_and_names():
        children = list(parent.name_cells().items())
        pairs += [(parent, name, bn_name) for (name, conv), (bn_name, bn) in zip(children[:-1], children[1:])
                  if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d)]
    return pairs


def replace_cell(parent: nn.Cell, name: str, cell: nn.Cell) -> None:
    """Put a cell in the place of a child, in place."""
    parent._cells[name] = cell
    if isinstance(parent, nn.SequentialCell):
        parent.cell_list = list(parent._cells.values())


def fold_batch_norm(network: nn.Cell) -> None:
    """Replace, in place, each convolution directly followed by a BN by one convolution with bias.

    The trained parameters are gone afterwards: load the checkpoint first, and don't save.
    """
    for parent, name, bn_name in conv_bn_pairs(network):
        conv = parent._cells[name]
        folded = _fold(conv, parent._cells[bn_name])
        folded.update_parameters_name(conv.weight.name.rsplit('weight', 1)[0])
        replace_cell(parent, name, folded)
        replace_cell(parent, bn_name, Identity())
    network.set_train(False)
