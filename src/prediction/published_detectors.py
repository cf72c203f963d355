"""Published people detectors in ONNX: where they are, their licences, and what their authors say of them."""
from __future__ import annotations

from src.weights.published import MMPOSE, Published

MMPOSE_FILES = 'https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/onnx_sdk/'
YOLOX = 'https://github.com/Megvii-BaseDetection/YOLOX'
NANODET = 'https://github.com/RangiLyu/nanodet'


def _humanart(size: str, digits: str) -> Published:
    """Return a YOLOX for people of MMPose. The digits are of the checkpoint that the file was made of, not its own."""
    file = f'yolox_{size}_8xb8-300e_humanart-{digits}.zip'
    return Published(f'humanart_yolox_{size}', '', MMPOSE_FILES + file, file, '', 'people alone, COCO and Human-Art',
                     MMPOSE)


def _yolox(size: str, figure: str) -> Published:
    file = f'yolox_{size}.onnx'
    return Published(f'yolox_{size}', '', f'{YOLOX}/releases/download/0.1.1rc0/{file}', file, '',
                     f'box AP {figure}, COCO val2017, 80 classes', YOLOX)


DETECTORS = {detector.name: detector for detector in (
    _humanart('tiny', '6f3252f9'),
    _humanart('s', '3ef259a7'),
    _humanart('m', 'c2c7a14a'),
    _humanart('l', 'ce1d7a62'),
    _humanart('x', 'a39d44ed'),
    _yolox('nano', '0.258'),
    _yolox('tiny', '0.328'),
    _yolox('s', '0.405'),
    _yolox('m', '0.469'),
    _yolox('l', '0.497'),
    _yolox('x', '0.511'),
    Published('nanodet_plus_m', '', f'{NANODET}/releases/download/v1.0.0-alpha-1/nanodet-plus-m_416.onnx',
              'nanodet-plus-m_416.onnx', '', 'box AP 0.304, COCO val2017, 80 classes', NANODET))}
