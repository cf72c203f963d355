"""Clipping, accumulation, moving averages, frozen parts, precision: each against NumPy or the plain step."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from src.common.errors import InputError
from src.loss import JointsMSELoss, NetWithLoss
from src.training.train_step import TrainStep
from src.utils import freeze, make_optimizer, set_precision
from tests.networks import mode, randomise, tiny, values
from tests.training.test_train_step import RATES, Small, batch, gradients


class Plain(nn.Cell):
    """No BN: the gradient of a batch is the mean of its halves'."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 4, pad_mode='pad', padding=1)
        self.last = nn.Conv2d(4, 2, 1, has_bias=True)

    def construct(self, x):
        return self.last(self.first(x))


@pytest.fixture(autouse=True)
def graph():
    with mode(ms.GRAPH_MODE):
        yield


def make_step(kind: type = Small, optimizer: str = 'SGD', with_ema: bool = False, rates: np.ndarray = RATES,
              **options) -> TrainStep:
    network, average = kind(), kind()
    randomise(network)
    randomise(average)
    if with_ema:
        options['ema'] = average
    return TrainStep(NetWithLoss(network, JointsMSELoss()), make_optimizer(optimizer, network, rates, 0.0), 4.0,
                     **options).set_train()


def network_values(step: TrainStep) -> dict[str, np.ndarray]:
    return values(step.network)


@pytest.mark.parametrize('clip', [1e9, 0.05])
def test_gradients_are_clipped_to_their_common_norm(clip: float) -> None:
    step = make_step(clip_norm=clip, rates=np.float32([0.5]))
    before = network_values(step)
    grads = gradients(step.network.network, batch())
    step = make_step(clip_norm=clip, rates=np.float32([0.5]))
    step(*batch())
    norm = np.sqrt(sum((g ** 2).sum() for g in grads.values()))
    assert 0.1 < norm < 1e8
    for name, g in grads.items():
        expected = before[name] - 0.5 * g * min(1, clip / norm)
        np.testing.assert_allclose(network_values(step)[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('optimizer', ['SGD', 'Adam', 'AdamWeightDecay'])
def test_two_halves_accumulated_are_one_whole(optimizer: str) -> None:
    whole, halves = make_step(Plain, optimizer), make_step(Plain, optimizer, accumulate_steps=2)
    before = network_values(whole)
    for i in range(3):
        inputs = batch(i)
        whole(*inputs)
        for part in (slice(0, 2), slice(2, 4)):
            states = network_values(halves)
            halves(*(x[part] for x in inputs))
            changed = any(not np.array_equal(v, states[k]) for k, v in network_values(halves).items())
            assert changed == (part.start == 2)
    for name, value in network_values(whole).items():
        assert not np.array_equal(value, before[name])
        np.testing.assert_allclose(network_values(halves)[name], value, rtol=2e-5, atol=2e-6, err_msg=name)
    assert int(halves.waiting.asnumpy()) == 0 and not any(p.asnumpy().any() for p in halves.totals)


def test_a_skipped_step_is_not_counted_among_the_accumulated() -> None:
    step = make_step(Plain, accumulate_steps=2)
    x, target, weight = batch()
    before = network_values(step)
    _, finite = step(x, target * np.float32(np.inf), weight)
    assert not bool(finite) and int(step.waiting.asnumpy()) == 0
    step(x, target, weight)
    assert int(step.waiting.asnumpy()) == 1
    assert all(np.array_equal(v, before[k]) for k, v in network_values(step).items())
    step(x, target, weight)
    assert not any(np.array_equal(v, before[k]) for k, v in network_values(step).items())


def test_clipping_sees_the_accumulated_gradient() -> None:
    """Opposite halves cancel: only the mean may be clipped."""
    step, reference = (make_step(Plain, clip_norm=0.05, accumulate_steps=n, rates=np.float32([0.5])) for n in (2, 1))
    inputs = batch()
    for part in (slice(0, 2), slice(2, 4)):
        step(*(x[part] for x in inputs))
    reference(*inputs)
    for name, value in network_values(reference).items():
        np.testing.assert_allclose(network_values(step)[name], value, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize(('decay', 'accumulate'), [(0.9998, 1), (0.15, 1), (0.9998, 2)])
def test_moving_averages_of_weights_and_statistics(decay: float, accumulate: int) -> None:
    step = make_step(with_ema=True, ema_decay=decay, accumulate_steps=accumulate)
    expected = network_values(step)
    for i in range(3 * accumulate):
        step(*batch(i))
        if (i + 1) % accumulate == 0:
            n = (i + 1) // accumulate
            share = 1 - min(decay, (1 + n) / (10 + n))
            for name, value in network_values(step).items():
                expected[name] = expected[name] + (value - expected[name]) * share
        found = {p.name: p.asnumpy() for p in step.averages}
        assert set(found) == {f'ema.{name}' for name in expected}
        for name, value in expected.items():
            np.testing.assert_allclose(found[f'ema.{name}'], value, rtol=1e-5, atol=1e-6, err_msg=f'{i} {name}')


def test_all_that_counts_is_a_parameter_of_the_step() -> None:
    """Put into a fresh step, the parameters of another go on bit for bit as that one: what resuming relies on."""
    options = dict(optimizer='Adam', with_ema=True, ema_decay=0.9, accumulate_steps=2, clip_norm=0.1)
    whole, second = make_step(**options), make_step(**options)
    for i in range(3):
        whole(*batch(i))
    saved = values(whole)
    assert {'accumulated.steps', 'accumulated.first.weight', 'ema.updates', 'ema.bn.moving_mean'} <= set(saved)
    for parameter in second.get_parameters():
        parameter.set_data(ms.Tensor(saved[parameter.name]))
    for i in range(3, 6):
        whole(*batch(i))
        second(*batch(i))
    for name, value in values(whole).items():
        np.testing.assert_array_equal(values(second)[name], value, err_msg=name)


def test_without_options_nothing_is_added() -> None:
    assert not [name for name in values(make_step()) if name.startswith(('accumulated', 'ema'))]


@pytest.mark.slow
@pytest.mark.needs_mindspore('2.1', 'on the CPU 1.10 and 2.0 move the running statistics of some frozen BN layers')
def test_frozen_parts_stay_bit_for_bit() -> None:
    network = tiny()
    randomise(network)
    freeze(network, 'stem, stage0.0,backbone.head_layer')
    step = TrainStep(NetWithLoss(network, JointsMSELoss()), make_optimizer('Adam', network, RATES, 0.1)).set_train()
    before = values(network)
    rng = np.random.default_rng(0)
    inputs = [ms.Tensor(rng.standard_normal(shape).astype(np.float32)) for shape in (
        (2, 3, 64, 64), (2, 3, 16, 16), (2, 3, 1))]
    for _ in range(2):
        assert bool(step(*inputs)[1])
    frozen = ('backbone.stem.', 'backbone.stage0.0.', 'backbone.head_layer.')
    for name, value in values(network).items():
        if name.startswith(frozen):
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    changed = [name for name, value in values(network).items() if not np.array_equal(value, before[name])]
    assert any('stage1' in n and n.endswith('moving_mean') for n in changed)
    assert {'keypoint_head.final_layer.weight', 'keypoint_head.final_layer.bias'} <= set(changed)


@pytest.mark.slow
def test_float16_trains_like_float32() -> None:
    """Losses and the way that the parameters went agree to float16's digits; parameters stay float32."""
    losses, kinds, ways = [], [], []
    for level in ('O0', 'O2', 'O3'):
        network = tiny()
        randomise(network)
        set_precision(network, level)
        step = TrainStep(NetWithLoss(network, JointsMSELoss()), make_optimizer('SGD', network, RATES, 0.0),
                         1024.0).set_train()
        before, rng = values(network), np.random.default_rng(0)
        inputs = [ms.Tensor(rng.standard_normal(shape).astype(np.float32)) for shape in (
            (2, 3, 64, 64), (2, 3, 16, 16), (2, 3, 1))]
        results = [step(*inputs) for _ in RATES]
        assert all(bool(finite) for _, finite in results) and {p.dtype for p in step.weights} == {ms.float32}
        losses.append([float(loss.asnumpy()) for loss, _ in results])
        ways.append(np.concatenate([(value - before[name]).ravel() for name, value in values(network).items()]))
        kinds.append(network.set_train(False)(inputs[0]).dtype)
    assert kinds == [ms.float32, ms.float16, ms.float16]
    for number in (1, 2):
        np.testing.assert_allclose(losses[number], losses[0], rtol=2e-3)
        assert np.linalg.norm(ways[number] - ways[0]) < 0.05 * np.linalg.norm(ways[0])
        assert losses[0] != losses[number]


def test_of_o2_and_o3_the_one_keeps_batch_normalisation_in_float32() -> None:
    for level, kept in (('O2', True), ('O3', False)):
        network = tiny()
        set_precision(network, level)
        unit, x = network.backbone.stem.conv1, ms.Tensor(np.ones((1, 3, 8, 8), np.float32))
        x = unit.conv(x)
        assert x.dtype == ms.float16
        assert unit.bn(ms.ops.cast(x, ms.float32)).dtype == (ms.float32 if kept else ms.float16)


def test_all_but_the_last_layer_frozen() -> None:
    network = tiny()
    freeze(network, 'backbone')
    assert [p.name for p in make_optimizer('SGD', network, RATES, 0.1).parameters] == [
        'keypoint_head.final_layer.weight', 'keypoint_head.final_layer.bias']


@pytest.mark.parametrize(('names', 'words'), [
    ('stam', r"freeze 'stam': no part .* parts are backbone, head_layer, keypoint_head, stage0, stage1, stem"),
    ('stage', r"freeze 'stage': no part"), ('', r"freeze '': no part"),
    ('backbone,keypoint_head', r'nothing is left to train')])
def test_names_that_cannot_be_frozen(names: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        freeze(tiny(), names)
