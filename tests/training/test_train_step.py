"""One step: the update by hand, loss scale, gradients that are not finite."""
from __future__ import annotations

import functools
import logging

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.train.callback import Callback, RunContext

from src.common.compat import RUNNING_VARIANCE_DDOF
from src.common.errors import InputError
from src.loss import JointsMSELoss, NetWithLoss
from src.training import train_step
from src.training.train_step import TrainStep, fit
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


def make_step(optimizer: str, loss_scale: float = 1.0) -> TrainStep:
    network = Small()
    randomise(network)
    step = TrainStep(NetWithLoss(network, JointsMSELoss()), make_optimizer(optimizer, network, RATES, DECAY),
                     loss_scale)
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


@pytest.mark.parametrize('optimizer', ['SGD', 'Adam', 'AdamWeightDecay'])
def test_updates_are_those_by_hand(optimizer: str) -> None:
    expected = updates_by_hand(optimizer)
    _, found = train(optimizer)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-6, err_msg=name)


@pytest.mark.parametrize('optimizer', ['SGD', 'Adam', 'AdamWeightDecay'])
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


@pytest.mark.parametrize('optimizer', ['SGD', 'Adam', 'AdamWeightDecay'])
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
def test_one_bad_pixel_is_found(bad: float) -> None:
    step = make_step('AdamWeightDecay')
    before = values(step)
    x, target, weight = batch()
    target = target.asnumpy()
    target[1, 1, 2, 3] = bad
    weight = np.ones_like(weight.asnumpy())
    _, finite = step(x, ms.Tensor(target), ms.Tensor(weight))
    assert not bool(finite)
    after = values(step)
    assert all(np.array_equal(after[p.name], before[p.name]) for p in step.weights)


class Watcher(Callback):
    """Counts the steps; `stop_at` raises there."""

    def __init__(self, stop_at: int = 0) -> None:
        self.steps, self.closed, self.stop_at = 0, 0, stop_at

    def on_train_step_end(self, run_context) -> None:
        self.steps += 1
        assert len(run_context.original_args().net_outputs) == 2
        if self.steps == self.stop_at:
            raise InputError('enough')

    def close(self) -> None:
        self.closed += 1


def loader(samples: int) -> ds.Dataset:
    arrays = [np.concatenate([batch(i)[k].asnumpy() for i in range(samples // 4)]) for k in range(3)]
    return ds.NumpySlicesDataset(tuple(arrays), ['img', 'target', 'target_weight'], shuffle=False).batch(4)


def test_fit_runs_all_steps_of_all_epochs_and_closes() -> None:
    step, watcher = make_step('SGD'), Watcher()
    before = values(step)
    fit(step, loader(12), 1, [watcher])
    assert (watcher.steps, watcher.closed) == (3, 1)
    _, expected = train('SGD')
    after = values(step)
    for name in before:
        np.testing.assert_allclose(after[name], expected[name], rtol=1e-6, err_msg=name)
    assert not np.array_equal(after['last.weight'], before['last.weight'])


def test_fit_closes_when_a_callback_refuses(caplog: pytest.LogCaptureFixture) -> None:
    watcher = Watcher(stop_at=2)
    with caplog.at_level(logging.CRITICAL), pytest.raises(InputError, match='enough'):
        fit(make_step('SGD'), loader(12), 2, [watcher])
    assert (watcher.steps, watcher.closed) == (2, 1)


def test_a_bad_step_leaves_every_parameter_as_it_was() -> None:
    arrays = [np.concatenate([batch(i)[k].asnumpy() for i in range(3)]) for k in range(3)]
    arrays[0][5, 0, 3, 3] = np.nan  # in the second step
    loaded = ds.NumpySlicesDataset(tuple(arrays), ['img', 'target', 'target_weight'], shuffle=False).batch(4)
    step, seen = make_step('AdamWeightDecay'), []

    class Record(Watcher):
        def on_train_step_end(self, run_context) -> None:
            seen.append((bool(run_context.original_args().net_outputs[1].asnumpy()), values(step)))

    fit(step, loaded, 1, [Record()])
    assert [finite for finite, _ in seen] == [True, False, True]
    before, bad, after = (found for _, found in seen)
    assert all(np.isfinite(value).all() for value in after.values())
    for name, value in before.items():
        np.testing.assert_array_equal(bad[name], value, err_msg=name)
    assert not np.array_equal(after['bn.moving_mean'], before['bn.moving_mean'])


def test_the_rest_of_an_epoch_comes_first_and_begin_and_end_once() -> None:
    told = []

    class Events(Watcher):
        def on_train_begin(self, run_context) -> None:
            told.append('begin')

        def on_train_epoch_end(self, run_context) -> None:
            told.append(self.steps)

        def on_train_end(self, run_context) -> None:
            told.append('end')

    fit(make_step('SGD'), loader(4), 1, [Events()], loader(8))
    assert told == ['begin', 2, 3, 'end']
    told.clear()
    fit(make_step('SGD'), loader(12), 0, [Events()], loader(8))
    assert told == ['begin', 2, 'end']


class Arguments(dict):
    """What callbacks are told of, by attributes."""


class SinkModel:
    """Calls back as MindSpore's Model does in sink mode of one step, which a CPU does not have: each step an epoch."""

    def __init__(self, network: nn.Cell) -> None:
        self.network = network

    def train(self, epoch: int, data: ds.Dataset, callbacks: list[Callback], dataset_sink_mode: bool,
              sink_size: int) -> None:
        assert dataset_sink_mode and sink_size == 1
        [callback], outputs = callbacks, Arguments()
        context = RunContext(outputs)
        batches = data.create_tuple_iterator(num_epochs=-1)
        callback.on_train_begin(context)
        rows = iter(batches)
        for _ in range(epoch):
            callback.on_train_epoch_begin(context)
            inputs = next(rows, None)
            if inputs is None:
                rows = iter(batches)
                inputs = next(rows)
            callback.on_train_step_begin(context)
            outputs.net_outputs = self.network(*inputs)
            callback.on_train_step_end(context)
            callback.on_train_epoch_end(context)
            if context.get_stop_requested():
                break
        callback.on_train_end(context)


@pytest.mark.parametrize('stop', [0, 3])
def test_in_sink_mode_callbacks_hear_the_same(stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Events(Watcher):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[str] = []

        def on_train_epoch_begin(self, run_context) -> None:
            self.told.append('epoch')

        def on_train_step_end(self, run_context) -> None:
            super().on_train_step_end(run_context)
            self.told.append(f'{float(run_context.original_args().net_outputs[0].asnumpy()):.4g}')
            if self.steps == stop:
                run_context.request_stop()

        def on_train_epoch_end(self, run_context) -> None:
            self.told.append('end of epoch')

    told = []
    for sink in (False, True):
        with monkeypatch.context() as patch:
            if sink:
                patch.setattr(train_step, 'Model', SinkModel)
            events = Events()
            fit(make_step('SGD'), loader(8), 1, [events], loader(4), sink)
            told.append(events.told)
    assert told[0] == told[1] and told[0].count('epoch') == told[0].count('end of epoch') == 2
    assert len(told[0]) == 7
