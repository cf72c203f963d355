"""Folding BN changes nothing but the number of cells."""
from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from src.deployment.fold import fold_batch_norm
from src.model import LiteHRNet
from src.weights.checkpoint import load_network
from tests.networks import mode, randomise, tiny


def count(network: nn.Cell, kind: type) -> int:
    return sum(isinstance(cell, kind) for _, cell in network.cells_and_names())


@pytest.mark.parametrize('module', ['LITE', 'NAIVE'])
def test_same_heatmaps_without_batch_norm(module: str) -> None:
    network = tiny(module)
    randomise(network)
    network.set_train(False)
    x = ms.Tensor(np.random.default_rng(1).standard_normal((2, 3, 64, 64), np.float32))
    convolutions = count(network, nn.Conv2d)
    with mode(ms.PYNATIVE_MODE):
        before = network(x).asnumpy()
        fold_batch_norm(network)
        after = network(x).asnumpy()
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())
    assert count(network, nn.BatchNorm2d) == 0 and count(network, nn.Conv2d) == convolutions
    assert not [p.name for p in network.get_parameters() if p.ndim != 4 and not p.name.endswith('.bias')]
    names = [p.name for p in network.get_parameters()]
    assert len(set(names)) == len(names) == 2 * convolutions


def test_folding_is_not_idle() -> None:
    """The test above would also pass on statistics that a fold may ignore."""
    network = tiny()
    randomise(network)
    conv, bn = network.backbone.stem.conv1.conv, network.backbone.stem.conv1.bn
    factor = bn.gamma.asnumpy() / np.sqrt(bn.moving_variance.asnumpy() + 1e-5)
    weight, shift = conv.weight.asnumpy() * factor.reshape(-1, 1, 1, 1), bn.moving_mean.asnumpy() * factor
    bias = bn.beta.asnumpy() - shift
    assert np.abs(bias).max() > 0.01 and np.abs(factor - 1).max() > 0.1
    fold_batch_norm(network)
    folded = network.backbone.stem.conv1.conv
    np.testing.assert_allclose(folded.weight.asnumpy(), weight, rtol=1e-5)
    np.testing.assert_allclose(folded.bias.asnumpy(), bias, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_folded_network_gives_the_references_heatmaps(goldens: Path) -> None:
    network = LiteHRNet()
    load_network(network, goldens / 'litehrnet_18_coco_256x192.pth')
    fold_batch_norm(network)
    x = np.random.RandomState(0).randn(2, 3, 256, 192).astype(np.float32)
    with mode(ms.PYNATIVE_MODE):
        heatmaps = network(ms.Tensor(x)).asnumpy()
    worst = float(np.abs(heatmaps - np.load(goldens / 'model_litehrnet_18_256x192.npz')['heatmaps']).max())
    print(f'largest deviation: {worst}')
    assert worst < 1e-3
