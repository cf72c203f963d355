"""Heatmaps, loss and gradients of a network with seeded weights, computed on one device and written to a file.

    python -m src.gpu_check.numbers DEVICE FILE [options of train.py]

Run once for each device, because MindSpore keeps to the first one that it is told; the weights come from NumPy.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import ops

from src.common.errors import run
from src.config import parse
from src.loss import JointsMSELoss, NetWithLoss
from src.settings.build import build_network
from src.utils import set_device

IMAGES = 4


def fill(network: ms.nn.Cell, rng: np.random.Generator) -> None:
    """Give a network weights that keep the size of the signal, unlike those that a training starts from."""
    for parameter in network.get_parameters():
        values = rng.standard_normal(parameter.shape)
        if parameter.ndim == 4:
            values *= np.sqrt(2 / np.prod(parameter.shape[1:]))
        elif parameter.name.endswith('moving_variance'):
            values = np.exp(values / 4)
        else:
            values = values / 10 + parameter.name.endswith('gamma')
        parameter.set_data(ms.Tensor(values.astype(np.float32)))


def main(argv: list[str] | None = None) -> int:
    device, output, *options = sys.argv[1:] if argv is None else argv
    _, _, config = parse(argparse.ArgumentParser(allow_abbrev=False), ['--device', device, *options])
    set_device(device, 0)
    rng, network = np.random.default_rng(0), build_network(config)
    fill(network, rng)
    width, height = config['data']['image_size']
    images = ms.Tensor(rng.standard_normal((IMAGES, 3, height, width)).astype(np.float32))
    heatmaps = network.set_train(False)(images).asnumpy()
    targets = ms.Tensor(rng.uniform(0, 1, heatmaps.shape).astype(np.float32))
    weights = ms.Tensor(np.ones((*heatmaps.shape[:2], 1), np.float32))
    step = NetWithLoss(network, JointsMSELoss()).set_train()
    step.set_grad()
    differentiate = ops.GradOperation(get_by_list=True)
    gradients = differentiate(step, ms.ParameterTuple(network.trainable_params()))(images, targets, weights)
    np.savez(Path(output), heatmaps=heatmaps, gradients=np.concatenate([g.asnumpy().ravel() for g in gradients]))
    return 0


if __name__ == '__main__':
    run(main)
