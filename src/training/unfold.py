"""BN statistics for weights in which BN was folded into the convolutions, as in files made for deployment.

Such a file has BN of mean 0 and variance 1 left, which does nothing but add a bias. In training BN would normalise by
the batch all the same and make another network of it: of TinyPose's weights from an ncnn file, trained from there on,
nothing was left.
"""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from logging import Logger
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.common.errors import InputError
from src.deployment.fold import replace_cell
from src.mmpose.coco import TopDownDataset
from src.model import LiteHRNet
from src.settings.build import build_network
from src.weights.checkpoint import fill_network, network_state

BATCH_SIZE = 32
SAMPLES = 256  # that the statistics are taken from


class Measured(nn.Cell):
    """A BN in inference mode that keeps mean and variance per channel of its last input (N, C, H, W)."""

    def __init__(self, bn: nn.BatchNorm2d) -> None:
        super().__init__()
        self.bn = bn
        self.mean = ms.Parameter(np.zeros(bn.num_features, np.float32), name='mean', requires_grad=False)
        self.variance = ms.Parameter(np.zeros(bn.num_features, np.float32), name='variance', requires_grad=False)
        self.reduce = ops.ReduceMean(keep_dims=True)
        self.assign, self.reshape, self.shape = ops.Assign(), ops.Reshape(), (bn.num_features,)

    def construct(self, x):
        mean = self.reduce(x, (0, 2, 3))
        variance = self.reduce(ops.Square()(x - mean), (0, 2, 3))
        self.assign(self.mean, self.reshape(mean, self.shape))
        self.assign(self.variance, self.reshape(variance, self.shape))
        return self.bn(x)


def is_folded(bn: nn.BatchNorm2d) -> bool:
    """Return whether a BN is what folding leaves: no statistics, but a bias (initial weights have none)."""
    return bool((bn.moving_mean.asnumpy() == 0).all() and (bn.moving_variance.asnumpy() == 1).all()
                and bn.beta.asnumpy().any())


def measure(network: LiteHRNet, batches: Sequence[np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and variance, float64 (C,), of what each BN gets, by the BN's name; the network is spoilt.

    Args:
        batches: normalised images float32 (N, 3, H, W), all of one shape.
    """
    measured = {}
    for parent_name, parent in list(network.cells_and_names()):
        for name, cell in list(parent.name_cells().items()):
            if isinstance(cell, nn.BatchNorm2d):
                path = f'{parent_name}.{name}'.lstrip('.')
                measured[path] = Measured(cell)
                measured[path].update_parameters_name(f'{path}.')
                replace_cell(parent, name, measured[path])
    network.set_train(False)
    sums = {path: np.zeros((2, *cell.shape)) for path, cell in measured.items()}
    for batch in batches:
        network(ms.Tensor(batch))
        for path, cell in measured.items():
            mean, variance = (p.asnumpy().astype(np.float64) for p in (cell.mean, cell.variance))
            sums[path] += mean, variance + mean ** 2
    means = {path: total / len(batches) for path, total in sums.items()}
    return {path: (mean, square - mean ** 2) for path, (mean, square) in means.items()}


def images_of(samples: TopDownDataset) -> list[np.ndarray]:
    """Return batches float32 (N, 3, H, W) of up to `SAMPLES` augmented samples, the same for each rank.

    Samples that can't be read are left out: training meets them again and says so.
    """
    images = []
    for index in np.unique(np.linspace(0, len(samples) - 1, SAMPLES).astype(int)):
        with suppress(InputError):
            images.append(samples.sample(int(index))['img'])
    size = min(BATCH_SIZE, len(images))
    return [np.stack(images[i:i + size]) for i in range(0, len(images) - size + 1, size)] if images else []


def unfold_batch_norm(network: LiteHRNet, config: dict[str, Any], samples: TopDownDataset,
                      logger: Logger) -> None:
    """Give BN that was folded the statistics of training samples, in place; in inference nothing changes.

    Args:
        config: the model configuration that the network was built from.
        samples: of the training.
        logger: told before it is done, as that takes a minute.
    """
    folded = {name: cell for name, cell in network.cells_and_names()
              if isinstance(cell, nn.BatchNorm2d) and is_folded(cell)}
    batches = images_of(samples) if folded else []
    if not batches:
        return
    logger.info(f'{len(folded)} BN layers were folded into convolutions: they take statistics of '
                f'{len(batches) * len(batches[0])} training samples')
    probe = build_network(config)
    fill_network(probe, network_state(network))
    statistics = measure(probe, batches)
    for name, bn in folded.items():
        mean, variance = statistics[name]
        gamma, beta = (p.asnumpy().astype(np.float64) for p in (bn.gamma, bn.beta))
        factor = gamma / np.sqrt(1 + bn.eps)
        for parameter, value in ((bn.moving_mean, mean), (bn.moving_variance, variance),
                                 (bn.gamma, factor * np.sqrt(variance + bn.eps)), (bn.beta, beta + factor * mean)):
            parameter.set_data(ms.Tensor(value.astype(np.float32)))
