"""Detectors from ONNX files: what is no detector, zip files, pictures of any shape."""
from __future__ import annotations

import importlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import InputError
from src.prediction import onnx_detector
from src.prediction.detector_outputs import KNOWN
from src.prediction.onnx_detector import OnnxDetector, place
from tests.prediction import onnx_files
from tests.prediction.onnx_files import Graph, Thing, save

PERSON = [Thing(np.array([20.0, 16.0, 60.0, 80.0]), 0.9, 0)]
SIZE = 128, 96
SHAPE = (1, 3, 96, 128)


def refusal(path: Path) -> str:
    """Return the message by which a file is refused, without its name."""
    with pytest.raises(InputError) as caught:
        OnnxDetector(path, 0.3)
    message = str(caught.value)
    assert message.startswith(f'{path}: ') and '\n' not in message
    return message[len(str(path)) + 2:]


def test_an_unknown_family_is_told_by_its_outputs(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = save(tmp_path / 'net.onnx', Graph({'heatmaps': np.zeros((1, 17, 24, 32), np.float32),
                                              'ages': np.zeros((1, 9), np.float32)}), SHAPE)
    assert refusal(path) == (
        f'of no family of detectors that is known here ({KNOWN}) by its outputs heatmaps (1, 17, 24, 32), ages (1, 9) '
        'of inputs image (1, 3, 96, 128); --boxes FILE takes what any other detector found')
    for name, table in {'rows': np.zeros((1, 77, 85)), 'columns': np.zeros((1, 84, 77)), 'all': np.zeros((1, 252, 4)),
                        'sides': np.full((1, 252, 83), 7), 'probable': np.zeros((1, 256, 112))}.items():
        assert 'of no family' in refusal(save(tmp_path / f'{name}.onnx', Graph({'o': table.astype(np.float32)}), SHAPE))
    path = save(tmp_path / 'more.onnx', onnx_files.yolox(PERSON, SIZE), SHAPE, extra={'orig_target_sizes': (1, 2)})
    assert 'inputs image (1, 3, 96, 128), orig_target_sizes (1, 2);' in refusal(path)
    assert capfd.readouterr() == ('', '')


def test_files_that_are_no_detector(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert refusal(tmp_path / 'absent.onnx') == 'no such file; check the path'
    for name, content in {'text.onnx': b'no network', 'empty.onnx': b''}.items():
        (tmp_path / name).write_bytes(content)
        assert 'no ONNX file that onnxruntime' in refusal(tmp_path / name)
    whole = save(tmp_path / 'whole.onnx', onnx_files.yolox(PERSON, SIZE), SHAPE).read_bytes()
    (tmp_path / 'half.onnx').write_bytes(whole[:len(whole) // 2])
    assert 'no ONNX file that onnxruntime' in refusal(tmp_path / 'half.onnx')
    path = save(tmp_path / 'four.onnx', onnx_files.yolox(PERSON, SIZE), (4, *SHAPE[1:]))
    assert refusal(path).startswith('fails on one picture of 128 x 96 (')
    assert capfd.readouterr() == ('', '')


def test_classes_without_a_person(tmp_path: Path) -> None:
    path = save(tmp_path / 'net.onnx', onnx_files.yolov8(PERSON, SIZE, 2), SHAPE,
                metadata={'names': str({0: 'cat', 1: 'dog'})})
    assert refusal(path).startswith('none of its 2 classes is "person" (they begin with cat, dog); ')


def test_yolox_and_rtmdet_may_be_told_by_the_name_alone(tmp_path: Path) -> None:
    graph = onnx_files.mmdeploy(PERSON, SIZE)
    assert 'put yolox or rtmdet into the name of the file' in refusal(save(tmp_path / 'end2end.onnx', graph, SHAPE))
    for name, family in (('RTMDet_nano.onnx', 'RTMDet'), ('yolox_s.onnx', 'YOLOX with NMS')):
        assert OnnxDetector(save(tmp_path / name, graph, SHAPE), 0.3).family.name == family


def test_without_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_module(name: str) -> None:
        raise ImportError(name)
    monkeypatch.setattr(importlib, 'import_module', no_module)
    assert refusal(tmp_path / 'net.onnx').endswith('pip install -r requirements-onnx.txt')


def test_the_onnx_file_in_a_zip_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = save(tmp_path / 'net.onnx', onnx_files.yolox(PERSON, SIZE), SHAPE)

    def pack(name: str, *members: str) -> Path:
        with zipfile.ZipFile(tmp_path / name, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('deploy.json', '{}')
            for member in members:
                archive.write(net, member)
        return tmp_path / name

    path = pack('one.zip', '../../20230831/end2end.onnx')
    before = sorted(tmp_path.rglob('*'))
    found = OnnxDetector(path, 0.3).predict(np.zeros((96, 128, 3), np.uint8))
    np.testing.assert_allclose(found, [[20, 16, 40, 64, 0.9]], rtol=1e-5)
    assert sorted(tmp_path.rglob('*')) == before  # it is read where it is
    for name, members in {'none.zip': (), 'two.zip': ('a.onnx', 'b.onnx')}.items():
        assert refusal(pack(name, *members)) == (f'{len(members)} .onnx files in the zip file; unpack it and give one')
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / 'damaged.zip').write_bytes(content)
    assert 'a damaged zip file' in refusal(tmp_path / 'damaged.zip')
    monkeypatch.setattr(onnx_detector, 'LARGEST_FILE', 1 << 10)
    assert 'is larger than 0 MiB; unpack' in refusal(path)


@pytest.mark.parametrize('shape', [(1, 1), (1, 2000), (2000, 1), (96, 128)])
def test_pictures_of_any_shape(shape: tuple[int, int], tmp_path: Path) -> None:
    detect = OnnxDetector(save(tmp_path / 'net.onnx', onnx_files.yolov8(PERSON, SIZE), SHAPE), 0.3)
    boxes = detect.predict(np.zeros((*shape, 3), np.uint8))
    assert boxes.shape[1] == 5 and (boxes[:, :2] + boxes[:, 2:4] <= shape[::-1]).all() and (boxes[:, :4] >= 0).all()


def test_no_number_is_nobody(tmp_path: Path) -> None:
    graph = onnx_files.yolov8([*PERSON, Thing(np.array([60.0, 20, 90, np.nan]), 0.9, 0)], SIZE)
    graph.values['output0'][0, 4, 70:] = np.nan
    detect = OnnxDetector(save(tmp_path / 'net.onnx', graph, SHAPE), 0.3)
    np.testing.assert_allclose(detect.predict(np.zeros((96, 128, 3), np.uint8)), [[20, 16, 40, 64, 0.9]], rtol=1e-5)


def test_places() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    for fit, offset in (('corner', (0, 0)), ('centre', (1, 3))):
        canvas, scale, found = place(image, (8, 10) if fit == 'centre' else (6, 10), fit)
        assert canvas.dtype == np.uint8 and (canvas[-1] == 114).all()
        if fit == 'corner':
            np.testing.assert_array_equal(canvas[:4], image)
            np.testing.assert_array_equal(found, offset)
            np.testing.assert_array_equal(scale, [1, 1])
    canvas, scale, found = place(image, (12, 4), 'stretch')
    np.testing.assert_array_equal(scale, [2, 1])
    np.testing.assert_array_equal(found, [0, 0])
    canvas, scale, found = place(image, (10, 4), 'centre')
    np.testing.assert_array_equal(canvas[:, 2:8], image)
    np.testing.assert_array_equal(found, [2, 0])
