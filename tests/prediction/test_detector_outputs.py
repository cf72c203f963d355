"""Every family of detectors, in files that encode known boxes: they are recognised, fed as trained, and decoded."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from src.prediction.onnx_detector import OnnxDetector
from src.prediction.sources import Frame, camera
from tests.prediction import onnx_files
from tests.prediction.onnx_files import Graph, Thing, save

SIZE = 128, 96  # of the inputs: no square, so that width and height are not mixed up
COLOUR = np.array([10, 60, 200])  # of the pictures, BGR
GREY = np.array([114] * 3)
MEAN, STD = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])  # ImageNet's, BGR
PEOPLE = [([0.2, 0.15, 0.55, 0.9], 0.9), ([0.7, 0.3, 1.075, 1.1], 0.7)]  # as shares of the picture; one leaves it
TWICE = ([0.21, 0.14, 0.56, 0.91], 0.8)
FAINT = ([0.02, 0.05, 0.35, 0.6], 0.2)
DOG = ([0.55, 0.1, 0.95, 0.8], 0.95)


class Case(NamedTuple):
    """A family: name, encoder, and what its networks are trained with."""
    name: str
    encode: Callable[[list[Thing], tuple[int, int]], Graph]
    rgb: bool = False
    mean: object = 0
    std: object = 1
    fit: str = 'corner'
    person: int = 0
    suppressed: bool = False
    shape: tuple = (1, 3, *SIZE[::-1])
    options: dict = {}  # noqa: RUF012  never changed


YOLO = dict(rgb=True, std=255, fit='centre')
BGR = dict(mean=MEAN, std=STD)
RGB = dict(rgb=True, mean=MEAN[::-1], std=STD[::-1], fit='stretch')
PADDLE = dict(options={'extra': {'scale_factor': [1, 2]}})
CASES = {
    'yolox': Case('YOLOX', onnx_files.yolox),
    'yolox, one class': Case('YOLOX', partial(onnx_files.yolox, classes=1)),
    'yolox, decoded': Case('YOLOX', partial(onnx_files.yolox, decoded=True)),
    'yolox, mmdeploy': Case('YOLOX with NMS', onnx_files.mmdeploy, suppressed=True,
                            options={'word': '/bbox_head/multi_level_conv_cls.0/Conv'}),
    'rtmdet': Case('RTMDet', onnx_files.mmdeploy, **BGR, suppressed=True, options={'word': '/bbox_head/rtm_cls/Conv'}),
    'yolov5': Case('YOLOv5', onnx_files.yolov5, **YOLO),
    'yolov8': Case('YOLOv8', onnx_files.yolov8, **YOLO),
    'yolov8, one class': Case('YOLOv8', partial(onnx_files.yolov8, classes=1), **YOLO),
    'yolov8, people are 7': Case('YOLOv8', onnx_files.yolov8, **YOLO, person=7, options={
        'metadata': {'names': str({0: 'dog', 7: 'person'})}}),
    'yolov8, half precision': Case('YOLOv8', onnx_files.yolov8, **YOLO, options={'dtype': np.float16}),
    'yolov10': Case('YOLOv10', onnx_files.yolov10, **YOLO, suppressed=True),
    'nanodet-plus': Case('NanoDet-Plus', onnx_files.nanodet_plus, **BGR, fit='stretch'),
    'nanodet-plus, one class': Case('NanoDet-Plus', partial(onnx_files.nanodet_plus, classes=1), **BGR, fit='stretch'),
    'nanodet': Case('NanoDet', partial(onnx_files.nanodet_plus, strides=(8, 16, 32), shift=0.5, bins=11), **BGR,
                    fit='centre'),
    'nanodet, by layers': Case('NanoDet', partial(onnx_files.layered, strides=(8, 16, 32), bins=11), **BGR,
                               fit='centre'),
    'picodet, by layers': Case('PicoDet', partial(onnx_files.layered, strides=(8, 16, 32, 64)), **RGB),
    'picodet, boxes': Case('PicoDet', onnx_files.paddle_pair, **RGB, **PADDLE),
    'picodet, nms': Case('PicoDet', onnx_files.paddle_table, **RGB, **PADDLE, suppressed=True),
    'ssd, tensorflow': Case('SSD of TensorFlow', onnx_files.tensorflow, rgb=True, fit='stretch', person=1,
                            suppressed=True, shape=(1, 'height', 'width', 3), options={'dtype': np.uint8}),
    'ssd, zoo': Case('SSD of the ONNX model zoo', onnx_files.zoo, **RGB, person=1, suppressed=True),
    'ssd, torchvision': Case('SSD of torchvision', onnx_files.torchvision, rgb=True, std=255, fit='stretch', person=1,
                             suppressed=True, shape=(3, 'height', 'width')),
}


def in_input(box: list[float], own: tuple[int, int], size: tuple[int, int], fit: str) -> np.ndarray:
    """Return a box of the picture, in shares, in pixels of the input."""
    own, size = np.array(own), np.array(size)
    if fit == 'stretch':
        return np.array(box) * np.tile(size, 2)
    ratio = min(size / own)
    offset = (size - own * ratio) / 2 if fit == 'centre' else np.zeros(2)
    return np.array(box) * np.tile(own, 2) * ratio + np.tile(offset, 2)


def pixels(case: Case, own: tuple[int, int], size: tuple[int, int]) -> list[tuple[int, int, np.ndarray]]:
    """Return what the input should be just inside the picture, and outside where there is an outside."""
    x1, y1, x2, y2 = in_input([0, 0, 1, 1], own, size, case.fit)
    points = [(x1 + 1, y1 + 1, COLOUR), (x2 - 2, y2 - 2, COLOUR)]
    points += [(x, y, GREY) for x, y in ((x1 - 2, y1), (x1, y1 - 2), (x2 + 1, y1), (x1, y2 + 1))
               if 0 <= x < size[0] and 0 <= y < size[1]]
    order = slice(None, None, -1 if case.rgb else 1)
    return [(round(x), round(y), (colour[order] - case.mean) / case.std) for x, y, colour in points]


@pytest.mark.parametrize('own', [(200, 100), (75, 120)], ids=['wide', 'tall'])
@pytest.mark.parametrize('key', CASES)
def test_a_family(key: str, own: tuple[int, int], tmp_path: Path) -> None:
    """People are found to a pixel, once, inside the picture; no dogs, and nobody of a low score."""
    case = CASES[key]
    size = SIZE if 96 in case.shape else own
    things = [(box, score, case.person) for box, score in [*PEOPLE, *([] if case.suppressed else [TWICE]), FAINT]]
    things += [] if 'one class' in key else [(*DOG, 3)]
    graph = case.encode([Thing(in_input(box, own, size, case.fit), score, kind) for box, score, kind in things], size)
    detect = OnnxDetector(save(tmp_path / 'net.onnx', graph, case.shape, pixels(case, own, size), **case.options), 0.3)
    assert detect.family.name == case.name and detect.family.suppressed == case.suppressed
    picture = np.broadcast_to(COLOUR, (*own[::-1], 3)).astype(np.uint8)
    boxes = detect(Frame(picture, camera(0)))
    expected = np.array([[*np.clip(box, 0, 1) * np.tile(own, 2), score] for box, score in PEOPLE])
    expected[:, 2:4] -= expected[:, :2]
    assert boxes.values.shape == (2, 5) and boxes.categories == [None, None]
    np.testing.assert_allclose(boxes.values[:, :4], expected[:, :4], atol=0.5)
    np.testing.assert_allclose(boxes.values[:, 4], expected[:, 4], atol=0.02)
    assert detect(Frame(255 - picture, camera(0))).values.shape == (0, 5)  # other pixels: the test's own files see them


@pytest.mark.parametrize(('key', 'side'), [('yolox', 640), ('yolov8', 640), ('nanodet-plus', 416)])
def test_files_that_take_any_size(key: str, side: int, tmp_path: Path) -> None:
    """Their outputs are of the blank picture's size here, so a smaller one later shows."""
    case = CASES[key]
    graph = case.encode([Thing(np.array([100., 100, 130, 140]), 0.9, 0)], (640, 640))
    detect = OnnxDetector(save(tmp_path / 'net.onnx', graph, (1, 3, 'height', 'width')), 0.3)
    assert detect.family.name == case.name and detect.family.side == side


def test_a_mask_beside_the_table_is_no_hindrance(tmp_path: Path) -> None:
    graph = onnx_files.yolov8([Thing(np.array([20., 20, 60, 80]), 0.9, 0)], SIZE)
    graph.values['output1'] = np.zeros((1, 32, 24, 32), np.float32)
    detect = OnnxDetector(save(tmp_path / 'net.onnx', graph, (1, 3, *SIZE[::-1])), 0.3)
    np.testing.assert_allclose(detect.predict(np.zeros((96, 128, 3), np.uint8)), [[20, 20, 40, 60, 0.9]], rtol=1e-5)
