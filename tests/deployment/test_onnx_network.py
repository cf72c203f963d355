"""The network written as an ONNX graph: the same heatmaps, from operators that runtimes have fast forms of."""
from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='needs requirements-onnx.txt')
onnxruntime = pytest.importorskip('onnxruntime', reason='needs requirements-onnx.txt')

from src.deployment.fold import fold_batch_norm  # noqa: E402
from src.deployment.onnx_graph import EMPTY, FeatureMap  # noqa: E402
from src.deployment.onnx_network import onnx_model, second_half, shuffled  # noqa: E402
from src.deployment.wrappers import ArgMax, Deployed  # noqa: E402
from src.model import LiteHRNet  # noqa: E402
from tests.networks import mode, randomise  # noqa: E402

FAST = {'Conv', 'Relu', 'Sigmoid', 'Add', 'Mul', 'Resize', 'AveragePool', 'GlobalAveragePool', 'Concat'}


def network_of(module: str, channels: tuple[int, ...], size: tuple[int, int], folded: bool) -> LiteHRNet:
    network = LiteHRNet(size, stage_modules=(1,) * (len(channels) - 1), stage_channels=channels, module=module,
                        num_joints=5)
    randomise(network)
    if folded:
        fold_batch_norm(network)
    return network.set_train(False)


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {'x': images})[0]


@pytest.mark.parametrize(('module', 'channels', 'size', 'folded'), [
    ('LITE', (8, 16, 32), (64, 96), True), ('LITE', (24, 40), (64, 32), False), ('NAIVE', (6, 18, 34), (32, 64), True),
    pytest.param('LITE', (40, 80, 160, 320), (192, 256), True, marks=pytest.mark.slow),
    pytest.param('LITE', (40, 80, 160, 320), (288, 384), True, marks=pytest.mark.slow),
    pytest.param('NAIVE', (30, 60, 120, 240), (96, 128), False, marks=pytest.mark.slow)])
def test_the_same_heatmaps(module: str, channels: tuple[int, ...], size: tuple[int, int], folded: bool) -> None:
    network = network_of(module, channels, size, folded)
    images = np.random.default_rng(1).standard_normal((3, 3, size[1], size[0])).astype(np.float32)
    with mode(ms.PYNATIVE_MODE):
        expected = network(ms.Tensor(images)).asnumpy()
    model = onnx_model(Deployed(network, None, None), size, 0)
    assert {node.op_type for node in model.graph.node} <= FAST
    for batch in (1, 3):
        np.testing.assert_allclose(run(model, images[:batch]), expected[:batch], rtol=0,
                                   atol=2e-5 * np.abs(expected).max())
    fixed = run(onnx_model(Deployed(network, None, None), size, 2), images[:2])
    np.testing.assert_allclose(fixed, expected[:2], rtol=0, atol=2e-5 * np.abs(expected).max())


def test_the_runtime_keeps_its_layout(tmp_path: Path) -> None:
    """Between the image and the heatmaps nothing is copied into another order."""
    model = onnx_model(Deployed(network_of('LITE', (40, 80, 160), (64, 64), True), None, None), (64, 64), 0)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / 'optimized.onnx'), 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert operators.count('ReorderOutput') + operators.count('ReorderInput') + operators.count('Reshape') <= 1


def test_numbers_of_channels() -> None:
    x = FeatureMap('x', np.array([0, 1, 2, 3, 4, 5, EMPTY]), (1, 1))
    np.testing.assert_array_equal(second_half(x).channels, [-1, -1, -1, 0, 1, 2, -1])
    np.testing.assert_array_equal(shuffled(x).channels, [0, 2, 4, 1, 3, 5, -1])
    np.testing.assert_array_equal(shuffled(shuffled(x)).channels, [0, 4, 3, 2, 1, 5, -1])


def test_joints_of_flat_and_bordering_peaks() -> None:
    """The network's last layer makes the heatmaps what its bias says: nothing positive, then all equal."""
    network = network_of('NAIVE', (6, 18), (32, 64), True)
    final = network.keypoint_head[0]
    final.weight.set_data(ms.Tensor(np.zeros(final.weight.shape, np.float32)))
    final.bias.set_data(ms.Tensor(np.array([-1, 0, 1, 2, 3], np.float32)))
    images = np.zeros((2, 3, 64, 32), np.float32)
    deployed = Deployed(network, None, ArgMax(5, (8, 16)))
    with mode(ms.PYNATIVE_MODE):
        expected = deployed(ms.Tensor(images)).asnumpy()
    np.testing.assert_allclose(run(onnx_model(deployed, (32, 64), 0), images), expected, atol=1e-5)
    np.testing.assert_array_equal(expected[0, :, 2], [-1, 0, 1, 2, 3])
