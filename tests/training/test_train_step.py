"""One step: the update by hand, loss scale, gradients that are not finite."""
from __future__ import annotations

import functools

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from src.common.compat import RUNNING_VARIANCE_DDOF
from src.cpu.kernels import build_library
from src.cpu.update import accelerate_update
from src.loss import JointsMSELoss, NetWithLoss
from src.training.train_step import TrainStep
from src.utils import make_optimizer
from tests.networks import mode, randomise, values

RATES = np.float32([0.01, 0.02, 0.005])
DECAY = 0.1


class Small(nn.Cell):
    """Two convolutions with a BN between: every kind of parameter, compiled in a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 4, pad_mode='pad', padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 2, 1, has_bias=True)

    def construct(self, x):
        return self.last(self.bn(self.first(x)))


@pytest.fixture(autouse=True)
def graph():
    with mode(ms.GRAPH_MODE):
        yield


def batch(seed: int = 0) -> list[ms.Tensor]:
    rng = np.random.default_rng(seed)
    return [ms.Tensor(x.astype(np.float32)) for x in (
        rng.standard_normal((4, 3, 16, 16)), rng.standard_normal((4, 2, 4, 4)), rng.random((4, 2, 1)) > 0.2)]


# Optimizers, and those whose update is one operator of ours.
OPTIMIZERS = ['SGD', 'Adam', 'AdamWeightDecay', *([] if build_library() is None else [
    'Adam, one operator', 'AdamWeightDecay, one operator'])]


def make_step(optimizer: str, loss_scale: float = 1.0) -> TrainStep:
    network = Small()
    randomise(network)
    name, _, ours = optimizer.partition(', ')
    step = TrainStep(NetWithLoss(network, JointsMSELoss()), make_optimizer(name, network, RATES, DECAY), loss_scale)
    assert not ours or accelerate_update(step, DECAY)
    return step.set_train()


@functools.cache
def train(optimizer: str, loss_scale: float = 1.0) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses of len(RATES) steps, and all parameters and optimizer states after them."""
    step, losses = make_step(optimizer, loss_scale), []
    for i in range(len(RATES)):
        loss, finite = step(*batch(i))
        assert bool(finite)
        losses.append(float(loss.asnumpy()))
    return losses, values(step)


def gradients(network: Small, inputs: list[ms.Tensor]) -> dict[str, np.ndarray]:
    weights = ms.ParameterTuple(network.trainable_params())
    with mode(ms.PYNATIVE_MODE):
        joined = NetWithLoss(network, JointsMSELoss()).set_train()
        grads = ops.GradOperation(get_by_list=True)(joined, weights)(*inputs)
    return {p.name: g.asnumpy().astype(np.float64) for p, g in zip(weights, grads)}


def updates_by_hand(optimizer: str) -> dict[str, np.ndarray]:
    """The parameters after len(RATES) steps, by the optimizers' papers and MindSpore's manual."""
    network = Small()
    randomise(network)
    mean, square = {}, {}
    for t, rate in enumerate(RATES.astype(np.float64), 1):
        grads = gradients(network, batch(t - 1))
        for p in network.trainable_params():
            w, g, decay = p.asnumpy().astype(np.float64), grads[p.name], DECAY * (p.ndim > 1)
            if optimizer != 'AdamWeightDecay':
                g = g + decay * w
            mean[p.name] = 0.9 * mean.get(p.name, 0) + 0.1 * g
            square[p.name] = 0.999 * square.get(p.name, 0) + 0.001 * g * g
            m, v = mean[p.name], square[p.name]
            if optimizer == 'SGD':
                step = g
            elif optimizer == 'Adam':
                step = m * np.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t) / (np.sqrt(v) + 1e-8)
            else:
                step = m / (np.sqrt(v) + 1e-6) + decay * w
            p.set_data(ms.Tensor((w - rate * step).astype(np.float32)))
    return values(network)


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_updates_are_those_by_hand(optimizer: str) -> None:
    expected = updates_by_hand(optimizer.partition(', ')[0])
    _, found = train(optimizer)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-6, err_msg=name)


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize(('scale', 'tolerance'), [(2.0 ** 16, 0), (1000.0, 1e-5)])
def test_loss_scale_changes_nothing(optimizer: str, scale: float, tolerance: float) -> None:
    losses, plain = train(optimizer)
    scaled_losses, scaled = train(optimizer, scale)
    assert scaled_losses == pytest.approx(losses, rel=tolerance, abs=0)
    assert plain.keys() == scaled.keys()
    for name, value in plain.items():
        np.testing.assert_allclose(scaled[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


def test_statistics_move_once_per_step() -> None:
    step = make_step('SGD')
    before = values(step)
    x, target, weight = batch()
    with mode(ms.PYNATIVE_MODE):
        features = step.network.network.first(x).asnumpy()
    step(x, target, weight)
    mean = 0.9 * before['bn.moving_mean'] + 0.1 * features.mean((0, 2, 3))
    variance = 0.9 * before['bn.moving_variance'] + 0.1 * features.var((0, 2, 3), ddof=RUNNING_VARIANCE_DDOF)
    np.testing.assert_allclose(step.network.network.bn.moving_mean.asnumpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(step.network.network.bn.moving_variance.asnumpy(), variance, rtol=1e-5)


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_a_step_with_overflow_is_skipped_and_told(optimizer: str) -> None:
    step = make_step(optimizer, 2.0 ** 100)
    step(*batch())
    before = values(step)
    assert any('moment' in name or 'global_step' in name for name in before)
    x, target, weight = batch(1)
    loss, finite = step(x, target * 1e16, weight)
    assert not bool(finite) and np.isfinite(loss.asnumpy())
    statistics = ('bn.moving_mean', 'bn.moving_variance')  # belong to the forward pass, which was sound
    for name, value in values(step).items():
        if name in statistics:
            assert np.isfinite(value).all()
        else:
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    _, finite = step(x, target, weight)
    assert bool(finite)
    changed = [name for name, value in values(step).items() if not np.array_equal(value, before[name])]
    assert {'first.weight', 'bn.gamma', 'bn.beta', 'last.weight', 'last.bias'} <= set(changed)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_one_bad_pixel_is_found(optimizer: str, bad: float) -> None:
    step = make_step(optimizer)
    before = values(step)
    x, target, weight = batch()
    target = target.asnumpy()
    target[1, 1, 2, 3] = bad
    weight = np.ones_like(weight.asnumpy())
    _, finite = step(x, ms.Tensor(target), ms.Tensor(weight))
    assert not bool(finite)
    after = values(step)
    assert all(np.array_equal(after[p.name], before[p.name]) for p in step.weights)
