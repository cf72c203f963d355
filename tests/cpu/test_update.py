"""The fused update against MindSpore's optimizers, through the training step."""
from __future__ import annotations

from collections.abc import Iterator

import mindspore as ms
import numpy as np
import pytest

from src.cpu.kernels import build_library
from src.cpu.update import fuse_update
from src.loss import JointsMSELoss, NetWithLoss
from src.training.train_step import TrainStep
from src.utils import make_optimizer
from tests.networks import mode, randomise, values
from tests.training.test_train_step import RATES, Small, batch

pytestmark = pytest.mark.skipif(build_library() is None, reason='no C++ compiler on this machine')


@pytest.fixture(autouse=True)
def graph_mode() -> Iterator[None]:
    with mode(ms.GRAPH_MODE):
        yield


def make_step(name: str, fused: bool, decay: float = 0.1, scale: float = 1024.0) -> TrainStep:
    network = Small()
    randomise(network)
    optimizer = make_optimizer(name, network, RATES, decay)
    return TrainStep(NetWithLoss(network, JointsMSELoss()), optimizer, scale,
                     fused_update=fuse_update(optimizer, decay, scale) if fused else None).set_train()


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-7, err_msg=name)


@pytest.mark.parametrize('name', ['Adam', 'AdamWeightDecay'])
def test_steps_are_those_of_mindspore(name: str) -> None:
    """Weights, moments and counters; and each goes on from the other's state."""
    fused, plain = make_step(name, True), make_step(name, False)
    before = values(fused)
    for i in range(len(RATES) - 1):
        for step in (fused, plain):
            assert bool(step(*batch(i))[1].asnumpy())
        assert_equal(values(fused), values(plain))
    assert not any(np.array_equal(values(fused)[p.name], before[p.name]) for p in fused.weights)
    others = make_step(name, False), make_step(name, True)
    for step, other in zip((fused, plain), others):
        for parameter in other.get_parameters():
            parameter.set_data(ms.Tensor(values(step)[parameter.name]))
        for one in (step, other):
            one(*batch(7))
        assert_equal(values(step), values(other))
        assert values(step)['global_step'] == len(RATES)


@pytest.mark.parametrize('name', ['Adam', 'AdamWeightDecay'])
@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_nothing_moves_where_a_gradient_is_not_finite(name: str, bad: float) -> None:
    step = make_step(name, True)
    step(*batch())
    before = values(step)
    x, target, weight = batch(1)
    broken = target.asnumpy().copy()
    broken[3, 1, 3, 3] = bad
    _, finite = step(x, ms.Tensor(broken), ms.Tensor(np.ones_like(weight.asnumpy())))
    assert not bool(finite.asnumpy())
    for key, value in values(step).items():
        if 'moving' not in key:  # those belong to the forward pass; `fit` puts them back
            np.testing.assert_array_equal(value, before[key], err_msg=key)
    assert bool(step(x, target, weight)[1].asnumpy())


def test_a_step_without_a_learning_rate_is_an_error() -> None:
    step = make_step('Adam', True)
    step(*batch())
    step.optimizer.global_step.set_data(ms.Tensor([len(RATES)], ms.int32))
    with pytest.raises(RuntimeError):
        step(*batch())[0].asnumpy()


def test_other_optimizers_stay_mindspores() -> None:
    network = Small()
    assert fuse_update(make_optimizer('SGD', network, RATES, 0.0), 0.0, 1.0) is None
