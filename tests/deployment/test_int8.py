"""ONNX files in 8-bit integers: near the network, mostly integers, and refusals in one line."""
from __future__ import annotations

from pathlib import Path

import cv2
import mindspore as ms  # noqa: F401  before onnx
import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='needs requirements-onnx.txt')
onnxruntime = pytest.importorskip('onnxruntime', reason='needs requirements-onnx.txt')

from export import main  # noqa: E402
from src.common.errors import InputError  # noqa: E402
from src.deployment import int8  # noqa: E402
from src.deployment.onnx_network import onnx_model  # noqa: E402
from src.deployment.runtime import open_file  # noqa: E402
from src.deployment.wrappers import Deployed  # noqa: E402
from tests.networks import save_small, tiny  # noqa: E402

SETTINGS = {'model.module': 'NAIVE', 'model.stage_modules': '1,2', 'model.stage_channels': '8,16,32',
            'data.image_size': '64,96'}


@pytest.fixture()
def images(tmp_path: Path) -> Path:
    folder, rng = tmp_path / 'images', np.random.default_rng(0)
    folder.mkdir()
    for i in range(6):
        image = cv2.resize(rng.integers(0, 256, (9, 6, 3), np.uint8), (60, 90), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f'{i}.png'), image)
    return folder


@pytest.mark.slow
def test_a_file_near_the_floating_one(tmp_path: Path, images: Path) -> None:
    arguments = ['--device', 'CPU', '--file_format', 'ONNX', '--checkpoint', str(save_small(tmp_path, SETTINGS)),
                 *(word for key, value in SETTINGS.items() for word in (f'--{key}', value)), '--output']
    assert main([*arguments, str(tmp_path / 'float.onnx')]) == 0
    assert main([*arguments, str(tmp_path / 'int8.onnx'), '--int8', str(images)]) == 0
    images = np.random.default_rng(1).standard_normal((2, 3, 96, 64)).astype(np.float32)
    expected, found = (open_file(tmp_path / f'{name}.onnx')[0](images) for name in ('float', 'int8'))
    assert 0 < np.sqrt(((found - expected) ** 2).mean() / (expected ** 2).mean()) < 0.2
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / 'int8.onnx').graph.initializer}
    assert {onnx.TensorProto.INT8, onnx.TensorProto.INT32, onnx.TensorProto.UINT8} <= kinds


@pytest.mark.parametrize('module', ['LITE', 'NAIVE'])
def test_preparing_changes_nothing(module: str) -> None:
    model = onnx_model(Deployed(tiny(module).set_train(False), None, None), (64, 64), 0)
    ready = int8.prepared(model)
    assert len(ready.graph.node) > len(model.graph.node) and int8.in_float(ready)
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    expected, found = (onnxruntime.InferenceSession(each.SerializeToString(), providers=['CPUExecutionProvider']).run(
        None, {'x': images})[0] for each in (model, ready))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--file_format', 'ONNX'], 'no images'), ([], '--file_format ONNX without'),
    (['--file_format', 'ONNX', '--decode'], '--file_format ONNX without')])
def test_int8_refusals(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        main(['--device', 'CPU', '--checkpoint', str(tmp_path / 'net.ckpt'), '--int8', str(tmp_path), *arguments])


@pytest.mark.parametrize('arguments', [[], ['--file_format', 'ONNX', '--decode'],
                                       ['--file_format', 'ONNX', '--int8', 'images']])
def test_float16_refusals(arguments: list[str]) -> None:
    with pytest.raises(InputError, match='--float16: for --file_format ONNX without --decode and --int8'):
        main(['--device', 'CPU', '--float16', *arguments])
