"""Weights among what a training step saves."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from src.common.errors import InputError
from src.loss import JointsMSELoss, NetWithLoss
from src.model import LiteHRNet
from src.weights.checkpoint import load_network, network_state, read_state
from src.weights.ckpt import weights_among
from tests.networks import randomise, tiny


class LossCell(nn.Cell):
    """A user's own, whose attribute's name stands before those of the network."""

    def __init__(self, network: nn.Cell, attribute: str) -> None:
        super().__init__()
        setattr(self, attribute, network)


def with_loss_scale(cell: nn.Cell, optimizer: nn.Optimizer) -> nn.Cell:
    return nn.TrainOneStepWithLossScaleCell(cell, optimizer, nn.DynamicLossScaleUpdateCell(2.0 ** 16, 2, 1000))


@pytest.fixture(scope='module')
def trained() -> tuple[LiteHRNet, dict[str, np.ndarray]]:
    network = tiny()
    randomise(network)
    return network, network_state(network)


@pytest.mark.parametrize(('wrap', 'prefix'), [
    (lambda network: NetWithLoss(network, JointsMSELoss()), ''),
    (lambda network: LossCell(network, 'network'), 'network.'),
    (lambda network: LossCell(LossCell(network, 'network'), 'backbone'), 'backbone.network.')])
@pytest.mark.parametrize(('optimizer', 'step', 'ignored'), [
    (nn.Adam, with_loss_scale, ['moment1.', 'moment2.', 'beta1_power', 'beta2_power', 'global_step', 'learning_rate',
                                'scale_sense', 'current_iterator_step', 'last_overflow_iterator_step']),
    (nn.AdamWeightDecay, nn.TrainOneStepCell, ['adam_m.', 'adam_v.', 'global_step', 'learning_rate'])])
def test_checkpoints_of_whole_training_steps(
        wrap: Callable, prefix: str, optimizer: type[nn.Optimizer], step: Callable, ignored: list[str], tmp_path: Path,
        caplog: pytest.LogCaptureFixture) -> None:
    """As mindspore.ModelCheckpoint saves them."""
    network = tiny()
    randomise(network)
    expected = network_state(network)
    cell = step(wrap(network), optimizer(network.trainable_params(), [0.1, 0.2, 0.3]))
    ms.save_checkpoint(cell, str(tmp_path / 'a.ckpt'))
    assert f'{prefix}backbone.stem.conv1.conv.weight' in ms.load_checkpoint(str(tmp_path / 'a.ckpt'))
    empty = tiny()
    load_network(empty, tmp_path / 'a.ckpt')
    found = network_state(empty)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], value) for name, value in expected.items())
    line, = caplog.messages
    count = len(network.trainable_params())
    listed = {*line.partition('ignored: ')[2].split(', ')} - {f'vhat.* ({count})'}  # of MindSpore 1.10's Adam alone
    assert sorted(listed) == sorted(f'{name}* ({count})' if name.endswith('.') else name for name in ignored)
    assert (f'({prefix}*)' in line) is bool(prefix)


def test_weights_alone_are_no_news(trained: tuple, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network, expected = trained
    for prefix in ('', 'net.'):
        ms.save_checkpoint([{'name': prefix + name, 'data': value} for name, value in network.parameters_and_names()],
                           str(tmp_path / 'a.ckpt'))
        assert read_state(tmp_path / 'a.ckpt').keys() == expected.keys()
    assert not caplog.messages


@pytest.mark.parametrize(('entries', 'fault'), [
    ({'backbone.extra.weight': np.zeros(3)}, '1 unknown: backbone.extra.weight'),
    ({'decoder.weight': np.zeros(3), 'lr': np.zeros(())}, '1 unknown: decoder.weight'),
    ({'moment1.backbone.gone.weight': np.zeros(3)}, '1 unknown: moment1.backbone.gone.weight'),
    ({'keypoint_head.final_layer.bias': None, 'moment1.keypoint_head.final_layer.bias': np.zeros(3)},
     'missing keypoint_head.final_layer.bias')])
def test_what_nothing_explains_is_refused(entries: dict, fault: str, trained: tuple, tmp_path: Path) -> None:
    network, state = trained
    values = {name: value for name, value in {**state, **entries}.items() if value is not None}
    ms.save_checkpoint([{'name': name, 'data': ms.Tensor(value)} for name, value in values.items()],
                       str(tmp_path / 'a.ckpt'))
    with pytest.raises(InputError, match=f'{tmp_path}/a.ckpt: .*{fault}'):
        load_network(network, tmp_path / 'a.ckpt')


def test_a_weight_with_and_without_prefix(trained: tuple) -> None:
    _, state = trained
    name = 'keypoint_head.final_layer.bias'
    with pytest.raises(InputError, match=f'a.ckpt: duplicate entry {name} .as net.{name} and as {name}'):
        weights_among({**{f'net.{key}': value for key, value in state.items()}, name: state[name]}, Path('a.ckpt'))
