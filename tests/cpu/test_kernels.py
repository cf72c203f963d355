"""Our compiled depthwise convolution against MindSpore's, and what happens without a compiler."""
from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from src.cpu import kernels
from src.model import DepthwiseConv, LiteHRNet


@pytest.fixture(scope='module')
def library() -> Path:
    path = kernels.build_library()
    if path is None:
        pytest.skip('no C++ compiler on this machine')
    return path


class Gradients(nn.Cell):
    """Gradients of input and weight."""

    def __init__(self, operator: ops.Primitive) -> None:
        super().__init__()
        self.operator = operator
        self.grad = ops.GradOperation(get_all=True, sens_param=True)

    def construct(self, x, weight, dy):
        return self.grad(self.operator)(x, weight, dy)


class Run(nn.Cell):
    """An operator as a network."""

    def __init__(self, operator: ops.Primitive) -> None:
        super().__init__()
        self.operator = operator

    def construct(self, x, weight):
        return self.operator(x, weight)


@pytest.mark.parametrize(('shape', 'stride'), [((2, 3, 8, 6), 1), ((3, 5, 4, 3), 1), ((1, 2, 2, 2), 1),
                                               ((2, 4, 12, 18), 2), ((2, 3, 2, 2), 2), ((1, 2, 64, 48), 2)])
def test_equals_mindspores_own(library: Path, shape: tuple[int, ...], stride: int) -> None:
    rng = np.random.default_rng(0)
    x, weight = (ms.Tensor(rng.standard_normal(s, np.float32)) for s in (shape, (shape[1], 1, 3, 3)))
    ours = kernels.depthwise(library, stride)
    theirs = ops.Conv2D(shape[1], 3, pad_mode='pad', pad=1, stride=stride, group=shape[1])
    got, expected = Run(Run(ours))(x, weight), Run(Run(theirs))(x, weight)
    np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), atol=2e-6)
    dy = ms.Tensor(rng.standard_normal(got.shape, np.float32))
    for ours_, theirs_, scale in zip(Gradients(Run(ours))(x, weight, dy), Gradients(Run(theirs))(x, weight, dy),
                                     (1, np.prod(shape) / shape[1])):
        np.testing.assert_allclose(ours_.asnumpy(), theirs_.asnumpy(), atol=2e-6 * max(1, scale ** 0.5))


def test_a_network_says_the_same_with_and_without(library: Path) -> None:
    network = LiteHRNet((64, 64), stage_modules=(1,), stage_channels=(8, 16))
    for parameter in network.get_parameters():
        if parameter.name.endswith('weight'):
            fan_in = int(np.prod(parameter.shape[1:]))
            values = np.random.default_rng(parameter.size).standard_normal(parameter.shape, np.float32)
            parameter.set_data(ms.Tensor(values * (2 / fan_in) ** 0.5))
    network.set_train(False)
    images = ms.Tensor(np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32))
    expected = network(images).asnumpy()
    assert kernels.accelerate(network)
    assert all(cell.fast for _, cell in network.cells_and_names() if isinstance(cell, DepthwiseConv))
    network.compile_cache.clear()
    np.testing.assert_allclose(network(images).asnumpy(), expected, atol=1e-5 * np.abs(expected).max())


def test_not_a_number_passes_through(library: Path) -> None:
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 1] = np.nan
    y = Run(kernels.depthwise(library, 1))(ms.Tensor(x), ms.Tensor(np.ones((1, 1, 3, 3), np.float32))).asnumpy()
    assert np.isnan(y[0, 0, :3, :3]).all() and np.isfinite(y[0, 0, 3]).all()


@pytest.mark.parametrize('compiler', ['no-such-compiler', 'false'])
def test_without_a_working_compiler_nothing_changes(compiler: str, monkeypatch: pytest.MonkeyPatch,
                                                    tmp_path: Path) -> None:
    monkeypatch.setenv('CXX', compiler)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    network = LiteHRNet((64, 64), stage_modules=(1,), stage_channels=(8, 16))
    assert not kernels.accelerate(network)
    assert all(cell.fast is None for _, cell in network.cells_and_names() if isinstance(cell, DepthwiseConv))
    assert not list(tmp_path.rglob('*.so'))
