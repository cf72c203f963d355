"""Exported files: what they compute, what they say about themselves, and that no bad one is left behind."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore.train.mind_ir_pb2 import ModelProto

from src.common.compat import FREE_BATCH
from src.common.errors import InputError
from src.config import resolve
from src.cpu.cells import accelerate
from src.deployment import export as exporting
from src.deployment.export import describe, export_network
from src.deployment.fold import fold_batch_norm
from src.deployment.runtime import Run, open_file
from src.deployment.wrappers import ArgMax, Normalise
from src.mmpose.heatmap import decode
from src.mmpose.transforms import NormalizeTensor, ToTensor
from src.model import LiteHRNet
from src.prediction import load_model
from src.settings.build import build_network
from tests.networks import FREE_MINDIR, mode, randomise

pytest.importorskip('onnx', reason='ONNX tests need requirements-onnx.txt')
onnxruntime = pytest.importorskip('onnxruntime', reason='ONNX tests need requirements-onnx.txt')

SMALL = {'model.stage_modules': '1,1', 'model.stage_channels': '8,16,32', 'data.image_size': '64,96'}


def network_of(config: dict[str, Any]) -> LiteHRNet:
    network = build_network(config)
    randomise(network)
    fold_batch_norm(network)
    return network


def calm(network: LiteHRNet) -> None:
    """Smaller factors: with random ones a deep network's signal grows until its sigmoids turn rounding into steps."""
    for name, parameter in network.parameters_and_names():
        if name.endswith('gamma'):
            parameter.set_data(parameter * (0.01 if 'weighting' in name else 0.3))
        elif '.spatial_weighting.' in name and '.conv2.' in name:
            parameter.set_data(parameter * 0.03)


@pytest.fixture(scope='module')
def config() -> dict[str, Any]:
    return resolve({'device': 'CPU'}, SMALL)[1]


@pytest.fixture(scope='module')
def network(config: dict[str, Any]) -> LiteHRNet:
    ms.set_context(mode=ms.GRAPH_MODE)
    return network_of(config)


# The steps around the network

def test_arg_max_is_the_default_decoding() -> None:
    maps = np.random.default_rng(0).standard_normal((3, 5, 24, 18)).astype(np.float32)
    maps[0, 0] = -1  # nothing positive
    maps[0, 1] = 0
    maps[0, 2] = 1  # all equal: the first counts
    for joint, (y, x) in enumerate([(0, 5), (23, 17), (1, 1), (2, 16), (22, 2)]):  # at and beside the border
        maps[1, joint, y, x] = 9
    with mode(ms.PYNATIVE_MODE):
        found = ArgMax(5, (18, 24))(ms.Tensor(maps)).asnumpy()
    extent = np.tile([72.0, 96.0], (3, 1))
    points, scores = decode(maps, extent / 2, extent / 200)
    np.testing.assert_allclose(found, np.concatenate((points, scores), 2), atol=1e-4)


@pytest.mark.parametrize('bgr', [False, True])
def test_normalising_is_the_pipelines(bgr: bool) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), np.uint8)
    step = NormalizeTensor((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    step.from_bytes = True
    rgb = np.ascontiguousarray(crops[..., ::-1]) if bgr else crops
    with mode(ms.PYNATIVE_MODE):
        found = Normalise(step.mean, step.std, bgr)(ms.Tensor(crops)).asnumpy()
    np.testing.assert_allclose(found, np.stack([step({'img': crop})['img'] for crop in rgb]), atol=1e-6)


# Files

@pytest.mark.parametrize(('file_format', 'batch_size', 'preprocess', 'decoded'), [
    pytest.param('MINDIR', 0, None, False, marks=FREE_MINDIR), ('MINDIR', 2, 'bgr', True),
    pytest.param('ONNX', 2, 'rgb', False, marks=pytest.mark.slow),
    ('ONNX', 0, None, False), ('ONNX', 0, 'bgr', True)])
def test_a_file_predicts_what_its_checkpoint_does(network: LiteHRNet, config: dict[str, Any], file_format: str,
                                                  batch_size: int, preprocess: str | None, decoded: bool,
                                                  tmp_path: Path) -> None:
    file = tmp_path / f'net{exporting.FORMATS[file_format]}'
    differences = export_network(network, file, file_format, config, 'small', batch_size=batch_size,
                                 preprocess=preprocess, decoded=decoded)
    assert set(differences) == ({'scores', 'pixels'} if decoded else {'heatmaps'})
    assert all(np.isfinite(value) for value in differences.values())
    assert list(tmp_path.iterdir()) == [file]

    if file_format == 'MINDIR' and not hasattr(ModelProto, 'user_info'):
        pytest.skip('MINDIR files of this MindSpore hold no description')
    description = open_file(file)[1]
    assert description['joint_names'][0] == 'nose' and description['flip_pairs'][0] == [1, 2]
    assert description['image_size'] == [64, 96] and description['mean'] == [0.485, 0.456, 0.406]
    assert (description['preprocess'], description['decode']) == (bool(preprocess), decoded)
    if file_format == 'ONNX':
        first = onnxruntime.InferenceSession(str(file)).get_inputs()[0]
        assert first.shape[0] == (batch_size or 'batch')
        assert first.shape[1:] == ([96, 64, 3] if preprocess else [3, 96, 64])

    image = np.random.default_rng(1).integers(0, 256, (120, 100, 3), np.uint8)
    boxes = [[10, 5, 60, 90], [0, 0, 100, 120], [30, 40, 50, 60]]
    model = load_model(file, batch_size=3)
    assert model.config['eval']['flip_test'] is not decoded
    found = model.predict(image, boxes)
    expected = type(model)(lambda images: network(ms.Tensor(images)).asnumpy(), {
        **config, 'eval': {**config['eval'], 'batch_size': 3, 'flip_test': not decoded}}).predict(image, boxes)
    np.testing.assert_allclose(found, expected, atol=1e-2, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('preprocess', [None, 'rgb'])
def test_float16(config: dict[str, Any], tmp_path: Path, preprocess: str | None) -> None:
    import onnx
    network = build_network(config)
    randomise(network)
    calm(network)
    fold_batch_norm(network)
    sizes = {}
    for name, half in (('whole', False), ('half', True)):
        file = tmp_path / f'{name}.onnx'
        export_network(network, file, 'ONNX', config, 'small', preprocess=preprocess, float16=half)
        weights = [tensor for tensor in onnx.load(file).graph.initializer if len(tensor.dims) == 4]
        assert {tensor.data_type for tensor in weights} == {
            onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT}
        sizes[name] = sum(len(tensor.raw_data) + 2 * len(tensor.int32_data) for tensor in weights)
    assert sizes['whole'] == 2 * sizes['half']
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 64, 3), np.uint8) if preprocess else (
        np.random.default_rng(0).standard_normal((2, 3, 96, 64)).astype(np.float32))
    whole, half = (open_file(tmp_path / f'{name}.onnx')[0](images) for name in sizes)
    assert half.dtype == np.float32 and 0 < np.abs(half - whole).max() < 0.03 * max(1, np.abs(whole).max())


@pytest.mark.parametrize('preprocess', [None, 'rgb', 'bgr'])
def test_a_file_of_a_network_that_takes_bgr(network: LiteHRNet, config: dict[str, Any], preprocess: str | None,
                                            tmp_path: Path) -> None:
    first, *rest = config['val_pipeline']
    config = {**config, 'val_pipeline': [{**first, 'channel_order': 'bgr'}, *rest]}
    file = tmp_path / 'net.onnx'
    export_network(network, file, 'ONNX', config, 'small', batch_size=2, preprocess=preprocess)
    assert open_file(file)[1]['colour_order'] == (preprocess or 'bgr')
    image, boxes = np.random.default_rng(1).integers(0, 256, (120, 100, 3), np.uint8), [[10, 5, 60, 90]]
    model = load_model(file, batch_size=2)
    expected = type(model)(lambda images: network(ms.Tensor(images)).asnumpy(), {
        **config, 'eval': {**config['eval'], 'batch_size': 2}}).predict(image, boxes)
    np.testing.assert_allclose(model.predict(image, boxes), expected, atol=1e-2, rtol=1e-4)


def test_joints_have_no_flip_test(network: LiteHRNet, config: dict[str, Any], tmp_path: Path) -> None:
    export_network(network, tmp_path / 'net.onnx', 'ONNX', config, 'small', batch_size=1, decoded=True)
    with pytest.raises(InputError, match='--decode'):
        load_model(tmp_path / 'net.onnx', flip_test=True)


@pytest.mark.slow
def test_kernels_of_this_machine_stay_out(config: dict[str, Any], tmp_path: Path) -> None:
    network = network_of(config)
    if not accelerate(network):
        pytest.skip('no C++ compiler')
    export_network(network, tmp_path / 'net.mindir', 'MINDIR', config, 'small', batch_size=1)
    content = (tmp_path / 'net.mindir').read_bytes()
    assert b'Conv2D' in content and b'Inference' not in content and b'.so:' not in content


@pytest.mark.parametrize('file_format', ['MINDIR', 'ONNX'])
def test_a_file_that_computes_something_else_is_not_left(network: LiteHRNet, config: dict[str, Any], file_format: str,
                                                         tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_wrong(path: Path) -> tuple[Run, dict[str, Any]]:
        run, description = open_file(path)
        return lambda images: 1.01 * run(images), description

    monkeypatch.setattr(exporting, 'open_file', open_wrong)
    with pytest.raises(InputError, match=r'differs from the network by .*not written'):
        export_network(network, tmp_path / f'net{exporting.FORMATS[file_format]}', file_format, config, 'small',
                       batch_size=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('absent', ['src.deployment.onnx_network', 'onnxruntime'])
def test_onnx_without_its_packages(network: LiteHRNet, config: dict[str, Any], absent: str, tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(InputError, match='requirements-onnx'):
        export_network(network, tmp_path / 'net.onnx', 'ONNX', config, 'small', batch_size=1)
    assert not list(tmp_path.iterdir())
    if absent == 'onnxruntime':
        (tmp_path / 'net.onnx').write_bytes(b'')
        with pytest.raises(InputError, match='requirements-onnx'):
            load_model(tmp_path / 'net.onnx')


@pytest.mark.parametrize(('words', 'reason'), [('', 'RuntimeError'), ('first\nsecond', 'first')])
def test_a_refusal_of_mindspores_is_one_line(words: str, reason: str, network: LiteHRNet, config: dict[str, Any],
                                             tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(ms, 'export', refuse)
    with pytest.raises(InputError, match=f'AIR export is not possible on this device: {reason}; choose'):
        export_network(network, tmp_path / 'net.air', 'AIR', config, 'small', batch_size=1)
    assert not list(tmp_path.iterdir())


def test_a_pipeline_without_normalisation(config: dict[str, Any]) -> None:
    """Its crops are 0 to 1, and the file makes the same of bytes."""
    steps = [step for step in config['val_pipeline'] if step['type'] != 'NormalizeTensor']
    description = describe({**config, 'val_pipeline': steps}, 'small', 0, 'rgb', False)
    crops = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), np.uint8)
    with mode(ms.PYNATIVE_MODE):
        found = Normalise(description['mean'], description['std'], False)(ms.Tensor(crops)).asnumpy()
    np.testing.assert_allclose(found, np.stack([ToTensor()({'img': crop})['img'] for crop in crops]), atol=1e-7)
    np.testing.assert_allclose(found, exporting.normalised(crops, description), atol=1e-7)


def test_moved_joints_are_a_difference(config: dict[str, Any]) -> None:
    maps = np.random.default_rng(0).standard_normal((3, 17, 24, 16)).astype(np.float32)
    extent = np.tile([64.0, 96.0], (3, 1))
    joints = np.concatenate(decode(maps, extent / 2, extent / 200), 2)
    given = np.zeros((3, 96, 64, 3), np.uint8)
    exact = exporting.compare(lambda images: joints[:len(images)], given, maps, 0, True, Path('x'))
    assert exact == {'scores': 0.0, 'pixels': 0.0}
    joints[:, :2, 0] += 1
    with pytest.raises(InputError, match='pixels'):
        exporting.compare(lambda images: joints[:len(images)], given, maps, 0, True, Path('x'))


def test_a_file_from_elsewhere_says_nothing_of_itself(network: LiteHRNet, tmp_path: Path) -> None:
    ms.export(network, ms.Tensor(np.zeros((1, 3, 96, 64), np.float32)), file_name=str(tmp_path / 'net.mindir'),
              file_format='MINDIR')
    with pytest.raises(InputError, match='does not say what network it is'):
        load_model(tmp_path / 'net.mindir')


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'file_format'), [
    ('litehrnet_18_coco_256x192', 'ONNX'), ('naive_litehrnet_18_coco_256x192', 'MINDIR')])
def test_published_networks(name: str, file_format: str, tmp_path: Path) -> None:
    config = resolve({'device': 'CPU', 'model_config': name}, {})[1]
    ms.set_context(mode=ms.GRAPH_MODE)
    network = build_network(config)
    randomise(network)
    calm(network)
    fold_batch_norm(network)
    fixed = file_format == 'MINDIR' and 'MINDIR' not in FREE_BATCH
    differences = export_network(network, tmp_path / f'net{exporting.FORMATS[file_format]}', file_format, config, name,
                                 batch_size=int(fixed))
    size = config['data']['image_size']
    images = np.random.default_rng(1).standard_normal((1, 3, size[1], size[0]), np.float32)
    assert differences['heatmaps'] < 1e-4 * network(ms.Tensor(images)).asnumpy().std()
