"""Training goes on from weights in which BN was folded into the convolutions."""
from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import train
from src.common.errors import InputError
from src.config import resolve
from src.deployment.fold import conv_bn_pairs, folded
from src.model import LiteHRNet
from src.settings.build import build_network
from src.training.unfold import images_of, is_folded, unfold_batch_norm
from src.weights.checkpoint import save_network
from tests.networks import mode, randomise, values

SETTINGS = {'model.stage_modules': '1,1', 'model.stage_channels': '8,16,32', 'data.image_size': '64,64'}


def fold_as_ncnn(network: LiteHRNet) -> None:
    """Leave each BN as an identity with a bias, in place."""
    for parent, name, bn_name in conv_bn_pairs(network):
        conv, bn = parent.name_cells()[name], parent.name_cells()[bn_name]
        weight, bias = folded(conv, bn)
        ones = np.ones(len(bias))
        for parameter, value in ((conv.weight, weight), (bn.beta, bias), (bn.moving_mean, 0 * ones),
                                 (bn.moving_variance, ones), (bn.gamma, ones * np.sqrt(1 + bn.eps))):
            parameter.set_data(ms.Tensor(value.astype(np.float32)))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 64, 64)).astype(np.float32)


class Samples(list):
    """What `images_of` takes of a data set; None is an image that can't be read."""

    def sample(self, index: int) -> dict[str, np.ndarray]:
        if self[index] is None:
            raise InputError('broken.jpg: no image')
        return {'img': self[index]}


@pytest.mark.parametrize('module', ['LITE', 'NAIVE'])
@pytest.mark.parametrize('graph', [ms.PYNATIVE_MODE, pytest.param(ms.GRAPH_MODE, marks=pytest.mark.slow)])
def test_inference_stays_and_training_agrees_with_it(module: str, graph: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = resolve({'device': 'CPU'}, {**SETTINGS, 'model.module': module})[1]
    network = build_network(config)
    randomise(network)
    fold_as_ncnn(network)
    batch = images(32)

    def heatmaps(train: bool) -> np.ndarray:
        return network.set_train(train)(ms.Tensor(batch)).asnumpy()

    with mode(graph):
        before = heatmaps(False)
        scale = np.abs(before).max()
        kept = values(network)
        assert np.abs(heatmaps(True) - before).max() > scale / 10  # what training began with
        for name, parameter in network.parameters_and_names():
            parameter.set_data(ms.Tensor(kept[name]))
        unfold_batch_norm(network, config, Samples(batch), logging.getLogger('test'))
        assert caplog.messages[-1].endswith('take statistics of 32 training samples')
        np.testing.assert_allclose(heatmaps(False), before, atol=1e-4 * scale)
        np.testing.assert_allclose(heatmaps(True), before, atol=1e-3 * scale)
    assert not any(is_folded(cell) for _, cell in network.cells_and_names() if isinstance(cell, nn.BatchNorm2d))


@pytest.mark.parametrize('trained', [False, True])
def test_other_weights_stay_as_they_are(trained: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = resolve({'device': 'CPU'}, SETTINGS)[1]
    network = build_network(config)
    if trained:
        randomise(network)
    before = values(network)
    unfold_batch_norm(network, config, SimpleNamespace(), logging.getLogger('test'))
    assert not caplog.messages
    assert all(np.array_equal(value, before[name]) for name, value in values(network).items())


def test_samples_come_from_the_whole_set_but_for_those_that_cannot_be_read() -> None:
    samples = Samples(np.full((1,), i, np.float32) for i in range(1000))
    batches = images_of(samples)
    assert [batch.shape for batch in batches] == [(32, 1)] * 8
    assert batches[0][0] == 0 and batches[-1][-1] == 999
    samples[0] = samples[999] = None
    assert np.concatenate(images_of(samples)).shape == (7 * 32, 1)
    assert [batch.shape for batch in images_of(Samples(samples[1:6]))] == [(5, 1)]
    assert images_of(Samples([None, None])) == []


def test_train_says_so(synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    network = build_network(resolve({'device': 'CPU'}, SETTINGS)[1])
    randomise(network)
    fold_as_ncnn(network)
    save_network(network, tmp_path / 'folded.ckpt')
    assert train.main(['--device', 'CPU', '--data_root', str(synthetic),
                       '--output_root', str(tmp_path), '--experiment_tag', 'x', '--max_steps', '1', '--workers', '0',
                       '--checkpoint_path', str(tmp_path / 'folded.ckpt'), '--train.batch_size', '4',
                       *(word for key, value in SETTINGS.items() for word in (f'--{key}', value))]) == 0
    assert 'BN layers were folded into convolutions' in capsys.readouterr().out
