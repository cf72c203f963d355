"""Networks on our operators against the same networks on MindSpore's."""
from __future__ import annotations

from collections.abc import Iterator

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from src.common.compat import RUNNING_VARIANCE_DDOF
from src.cpu.cells import FastBlock, FastConvBN, accelerate, decelerate
from src.cpu.kernels import build_library
from src.deployment.fold import fold_batch_norm
from src.layers import ConvBN
from src.model import LiteHRNet, WeightingBlock
from src.utils import freeze
from tests.networks import mode, randomise, tiny

pytestmark = pytest.mark.skipif(build_library() is None, reason='no C++ compiler on this machine')


@pytest.fixture(autouse=True)
def graph_mode() -> Iterator[None]:
    with mode(ms.GRAPH_MODE):
        yield


class Gradients(nn.Cell):
    """(output, gradients of the input and of the trained parameters)."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.grad = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)
        self.weights = ms.ParameterTuple(network.trainable_params())

    def construct(self, x, dy):
        return self.network(x), self.grad(self.network, self.weights)(x, dy)


def everything(network: nn.Cell, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Output, gradients and BN statistics after one training pass, by name."""
    network.set_train()
    names = [p.name for p in network.trainable_params()]
    out, (of_input, of_weights) = Gradients(network)(ms.Tensor(x), ms.Tensor(dy))
    found = {'output': out, 'input': of_input[0], **dict(zip(names, of_weights))}
    found.update({p.name: p for p in network.get_parameters() if 'moving' in p.name})
    return {name: value.asnumpy().copy() for name, value in found.items()}


def compare(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    """Differences relative to the largest value of the same kind (BN's shift may have a gradient of all but 0)."""
    assert list(got) == list(expected)
    scale: dict[str, float] = {}
    for name, value in expected.items():
        kind = name.rsplit('.', 1)[-1]
        scale[kind] = max(scale.get(kind, 0.0), float(np.abs(value).max()))
    for name, value in expected.items():
        if name.endswith('moving_variance') and RUNNING_VARIANCE_DDOF == 0:
            continue  # ours is over n - 1, as PyTorch's is
        difference = float(np.abs(got[name] - value).max()) / scale[name.rsplit('.', 1)[-1]]
        assert difference < tolerance, (name, difference)


def random_input(network_size: tuple[int, int], channels: int = 3, batch: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, channels, *network_size), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize('module', ['LITE', 'NAIVE'])
def test_training_pass_of_a_network(module: str) -> None:
    # Four branches, sizes that fill no vector, channels that fill no tile.
    networks = [LiteHRNet((96, 64), stage_modules=(1, 1, 1), stage_channels=(8, 16, 24, 40), module=module)
                for _ in range(2)]
    for network in networks:
        randomise(network)
    assert accelerate(networks[1])
    kinds = [type(cell) for _, cell in networks[1].cells_and_names()]
    # The stem, three exchanges between branches, six weighting blocks.
    assert kinds.count(FastConvBN) > 10 and kinds.count(FastBlock) == (10 if module == 'LITE' else 4)
    dy = np.random.default_rng(1).standard_normal((3, 17, 16, 24), np.float32)
    expected, got = (everything(network, random_input((64, 96)), dy) for network in networks)
    compare(got, expected, 1e-4)


@pytest.mark.parametrize(('ins', 'outs', 'kernel', 'stride', 'act', 'size', 'batch'), [
    (5, 5, 3, 1, False, (8, 6), 3), (4, 4, 3, 2, False, (12, 36), 2), (3, 3, 3, 2, False, (2, 2), 5),
    (3, 3, 3, 2, False, (5, 7), 2), (20, 13, 1, 1, True, (8, 6), 3), (7, 70, 1, 1, False, (9, 31), 2),
    (2, 1, 1, 1, True, (4, 4), 1), (3, 6, 3, 2, True, (10, 8), 2)])
def test_convolution_and_bn(ins: int, outs: int, kernel: int, stride: int, act: bool, size: tuple[int, int],
                            batch: int) -> None:
    results = []
    for ours in (False, True):
        depthwise = kernel == 3 and not act
        unit = nn.SequentialCell([ConvBN(ins, outs, kernel, stride, depthwise=depthwise,
                                        act=nn.ReLU() if act else None)])
        randomise(unit)
        assert not ours or accelerate(unit)
        dy = np.random.default_rng(1).standard_normal((batch, outs, *(-(-n // stride) for n in size)), np.float32)
        results.append(everything(unit, random_input(size, ins, batch), dy))
    compare(results[1], results[0], 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize('batch', [1, 5])
def test_inference_with_bn_and_with_folded_bn(batch: int) -> None:
    """Threads share an image where there is one, else take one each."""
    x = ms.Tensor(random_input((64, 64), batch=batch))
    outputs = []
    for fold, ours in ((False, False), (False, True), (True, True)):
        network = tiny()
        randomise(network)
        network.set_train(False)
        if fold:
            fold_batch_norm(network)
        assert not ours or accelerate(network)
        outputs.append(network(x).asnumpy())
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], atol=2e-5 * np.abs(outputs[0]).max())


@pytest.mark.slow
def test_where_no_kernel_fits_mindspores_operators_stay() -> None:
    """Five branches have no operator of their own for the weighting, whose sigmoid none of the others knows."""
    x, outputs = ms.Tensor(random_input((64, 64))), []
    for ours in (False, True):
        network = LiteHRNet((64, 64), stage_modules=(1, 1, 1, 1), stage_channels=(8, 8, 8, 8, 16), num_joints=2)
        randomise(network)
        network.set_train(False)
        assert not ours or accelerate(network)
        outputs.append(network(x).asnumpy())
    np.testing.assert_allclose(outputs[1], outputs[0], atol=2e-5 * np.abs(outputs[0]).max())
    accelerated = [isinstance(block.fast, FastBlock) for _, block in network.cells_and_names()
                   if isinstance(block, WeightingBlock)]
    assert accelerated == [True] * 6 + [False] * 2


def test_parameters_stay_the_same_objects_under_the_same_names() -> None:
    network = tiny()
    before, paths = {p.name: p for p in network.get_parameters()}, list(dict(network.parameters_and_names()))
    assert accelerate(network)
    after = list(network.get_parameters())
    assert {p.name for p in after} == set(before) and all(before[p.name] is p for p in after)
    assert list(dict(network.parameters_and_names())) == paths == list(before)


def test_decelerate_leaves_the_network_as_it_was() -> None:
    network = tiny()
    before = [name for name, _ in network.cells_and_names()]
    assert accelerate(network) and len(list(network.cells_and_names())) > len(before)
    decelerate(network)
    assert [name for name, _ in network.cells_and_names()] == before
    assert all(getattr(cell, 'fast', None) is None for _, cell in network.cells_and_names())


def test_results_do_not_depend_on_threads() -> None:
    found = []
    for threads in (1, 3):
        unit = nn.SequentialCell([ConvBN(20, 30, act=nn.ReLU()), ConvBN(30, 30, 3, depthwise=True)])
        randomise(unit)
        assert accelerate(unit, threads)
        found.append(everything(unit, random_input((16, 12), 20), random_input((16, 12), 30)))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_a_frozen_bn_keeps_mindspores_cells() -> None:
    network = tiny()
    freeze(network, 'stem,stage0')
    accelerate(network)
    assert not any(isinstance(cell, (FastConvBN, FastBlock))
                   for _, cell in network.backbone.stem.cells_and_names())
    assert any(isinstance(cell, FastConvBN) for _, cell in network.backbone.head_layer.cells_and_names())


def test_not_a_number_reaches_the_output_and_leaves_the_statistics() -> None:
    unit = nn.SequentialCell([ConvBN(2, 2, act=nn.ReLU())])
    randomise(unit)
    assert accelerate(unit)
    before = {p.name: p.asnumpy().copy() for p in unit.get_parameters()}
    x = random_input((4, 4), 2)
    x[1, 0, 2, 3] = np.nan
    unit.set_train()
    assert np.isnan(unit(ms.Tensor(x)).asnumpy()).any()
    assert all(np.array_equal(p.asnumpy(), before[p.name]) for p in unit.get_parameters())
