"""The loss against a joint-by-joint loop."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from src.loss import JointsMSELoss, NetWithLoss
from tests.networks import mode


@pytest.fixture(autouse=True)
def pynative():
    with mode(ms.PYNATIVE_MODE):
        yield


def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    heatmaps, target = rng.standard_normal((2, 3, 5, 8, 6)).astype(np.float32)
    return heatmaps, target, np.float32([[1, 0, 1, 0.5, 1], [0, 0, 1, 1, 2], [1, 0, 0, 1, 1]])[..., None]


def by_joint(heatmaps: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    losses = []
    for k in range(heatmaps.shape[1]):
        w = weight[:, k].astype(np.float64)
        predicted, wanted = (x[:, k].reshape(len(x), -1) * w for x in (heatmaps, target))
        losses.append(((predicted - wanted) ** 2).mean())
    return np.mean(losses)


def test_value() -> None:
    loss = JointsMSELoss()(*map(ms.Tensor, batch()))
    assert loss.shape == () and loss.dtype == ms.float32
    assert float(loss.asnumpy()) == pytest.approx(by_joint(*batch()), rel=1e-6)


def test_gradient_is_zero_where_the_weight_is() -> None:
    heatmaps, target, weight = batch()
    gradient = ops.GradOperation()(JointsMSELoss())(*map(ms.Tensor, (heatmaps, target, weight))).asnumpy()
    expected = 2 * (heatmaps - target) * weight[..., None] ** 2 / heatmaps.size
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-9)
    assert (gradient[:, 1] == 0).all() and (gradient[0, 0] != 0).all()


def test_joined_to_a_network() -> None:
    heatmaps, target, weight = batch()
    network = nn.Conv2d(5, 5, 1, has_bias=True, weight_init='ones')
    joined = NetWithLoss(network, JointsMSELoss())
    loss = joined(ms.Tensor(heatmaps), ms.Tensor(target), ms.Tensor(weight)).asnumpy()
    assert float(loss) == pytest.approx(by_joint(network(ms.Tensor(heatmaps)).asnumpy(), target, weight), rel=1e-6)
    assert [p.name for p in joined.get_parameters()] == [p.name for p in network.get_parameters()]
