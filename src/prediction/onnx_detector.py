"""A people detector from an ONNX file, run by onnxruntime. Its family is recognised, nothing need be said about it."""
from __future__ import annotations

import ast
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from src.common.errors import InputError, first_line
from src.deployment.runtime import import_onnxruntime
from src.prediction.boxes import Boxes
from src.prediction.detector_outputs import KNOWN, Probe, Size, recognise
from src.prediction.sources import Frame
from src.prediction.ssd import MAX_OVERLAP

TYPES = {'tensor(float)': np.float32, 'tensor(float16)': np.float16, 'tensor(uint8)': np.uint8}
GREY = 114  # of what a picture does not fill: that of the detectors' training
ANY_SIDE = 640  # of the blank picture for a file that takes any size
LARGEST_FILE = 1 << 30  # bytes that are taken out of a zip file
MEGABYTE = 1 << 20
FEW = 3  # names of classes in a message
ELSE = '--boxes FILE takes what any other detector found'


def place(image: np.ndarray, size: Size, fit: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a picture brought to a size, and the scale and the offset (x, y) of its pixels there.

    Args:
        image: uint8 (H, W, 3).
        fit: 'stretch' fills it; 'corner' and 'centre' keep the shape, and put grey below and right, or around.
    """
    own, wanted = np.array(image.shape[1::-1]), np.array(size)
    new = wanted if fit == 'stretch' else np.maximum(1, np.rint(own * (wanted / own).min())).astype(int)
    scaled = image if (new == own).all() else cv2.resize(image, new.tolist(), interpolation=cv2.INTER_LINEAR)
    left, top = offset = (wanted - new) // 2 if fit == 'centre' else np.zeros(2, int)
    canvas = np.full((*size[::-1], 3), GREY, np.uint8)
    canvas[top:top + new[1], left:left + new[0]] = scaled
    return canvas, new / own, offset


def read_model(path: Path) -> str | bytes:
    """Return what onnxruntime opens: the path of a file, or the content of the one ONNX file in a zip file.

    Raises:
        InputError: the file is absent, or a zip file with no such file, several or one too large.
    """
    if not path.is_file():
        raise InputError(f'{path}: no such file; check the path')
    if not zipfile.is_zipfile(path):
        return str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith('.onnx')]
            if len(names) != 1:
                raise InputError(f'{path}: {len(names)} .onnx files in the zip file; unpack it and give one')
            with archive.open(names[0]) as file:
                content = file.read(LARGEST_FILE + 1)
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f'{path}: a damaged zip file ({first_line(error)}); get it again') from error
    if len(content) > LARGEST_FILE:
        raise InputError(f'{path}: {names[0]} is larger than {LARGEST_FILE // MEGABYTE} MiB; unpack the zip file and '
                         'give that')
    return content


class OnnxDetector:
    """The detector: a frame to its persons' boxes."""

    def __init__(self, path: Path, score_threshold: float) -> None:
        """Open a file and recognise it.

        Args:
            path: `.onnx`, or a `.zip` that holds one.

        Raises:
            InputError: the file is absent, no ONNX, of an unknown family or knows no people, or onnxruntime is not
                installed.
        """
        self._path, self._threshold = path, score_threshold
        self._session = self._open()
        self._inputs = self._session.get_inputs()
        self._image = next((x for x in self._inputs if len(x.shape) in (3, 4)), self._inputs[0])
        self._type = TYPES.get(self._image.type)
        self._rows_first = len(self._image.shape) == 4 and self._image.shape[3] == 3  # colours last
        others = {x.name for x in self._inputs} - {self._image.name, 'scale_factor', 'im_shape'}
        if self._type is None or len(self._image.shape) not in (3, 4) or others:
            raise self._unknown({x.name: x.shape for x in self._session.get_outputs()})
        size = self._size((ANY_SIDE, ANY_SIDE))
        blank = np.full((*size[::-1], 3), GREY if self._type is np.uint8 else 0.5)
        outputs = self._run(blank, size)
        self.family = recognise(Probe(outputs, size, self._person(), self._mentioned))
        if self.family is None:
            raise self._unknown({name: x.shape for name, x in outputs.items()})

    def _open(self) -> Any:
        runtime, model = import_onnxruntime(self._path), read_model(self._path)
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what it complains about is reported in one line of our own
        try:
            return runtime.InferenceSession(model, options, providers=runtime.get_available_providers())
        except Exception as error:  # of many kinds, all of them its own
            raise InputError(f'{self._path}: no ONNX file that onnxruntime {runtime.__version__} can read; give a '
                             'detector exported to ONNX') from error

    def _unknown(self, outputs: dict[str, Any]) -> InputError:
        def text(shapes: dict[str, Any]) -> str:
            return ', '.join(f'{name} ({", ".join(map(str, shape))})' for name, shape in shapes.items())
        if {'dets', 'labels'} <= set(outputs) and outputs['dets'][-1] == 5:
            return InputError(f"{self._path}: YOLOX's and RTMDet's exports have the same outputs, {text(outputs)}, and "
                              'colours in other ranges; put yolox or rtmdet into the name of the file')
        inputs = {x.name: x.shape for x in self._inputs}
        return InputError(f'{self._path}: of no family of detectors that is known here ({KNOWN}) by its outputs '
                          f'{text(outputs)} of inputs {text(inputs)}; {ELSE}')

    def _mentioned(self, words: Iterable[str]) -> list[str]:
        """Return those of the words that are in the file or its name, in their order."""
        model = read_model(self._path)
        content = model if isinstance(model, bytes) else self._path.read_bytes()
        return [word for word in words if word.encode() in content or word in self._path.name.lower()]

    def _person(self) -> int | None:
        """Return the number of people's class by the names that Ultralytics' exports hold; None without them."""
        names = None
        with suppress(ValueError, SyntaxError):
            names = ast.literal_eval(self._session.get_modelmeta().custom_metadata_map.get('names', 'None'))
        names = dict(enumerate(names)) if isinstance(names, (list, tuple)) else names
        if not isinstance(names, dict) or len(names) < 2:
            return None
        found = [key for key, name in names.items() if name == 'person' and isinstance(key, int)]
        if not found:
            few = ', '.join(map(str, list(names.values())[:FEW]))
            raise InputError(f'{self._path}: none of its {len(names)} classes is "person" (they begin with {few}); '
                             f'{ELSE}')
        return found[0]

    def _size(self, default: Size) -> Size:
        """Return the width and height of the input, those of `default` where the file takes any."""
        height, width = self._image.shape[1:3] if self._rows_first else self._image.shape[-2:]
        return tuple(given if isinstance(given, int) and given > 0 else wanted
                     for given, wanted in zip((width, height), default))

    def _run(self, image: np.ndarray, size: Size) -> dict[str, np.ndarray]:
        """Return the outputs by name for a picture with colours as the network takes them."""
        array = (image if self._rows_first else image.transpose(2, 0, 1)).astype(self._type)
        feeds = {self._image.name: np.ascontiguousarray(array if len(self._image.shape) == 3 else array[None]),
                 'scale_factor': np.ones((1, 2), np.float32), 'im_shape': np.array([size[::-1]], np.float32)}
        names = [x.name for x in self._session.get_outputs()]
        try:
            values = self._session.run(names, {x.name: feeds[x.name] for x in self._inputs})
        except Exception as error:  # of many kinds, all of them its own
            raise InputError(f'{self._path}: fails on one picture of {size[0]} x {size[1]} ({first_line(error)}); '
                             'export it for one picture at a time') from error
        return dict(zip(names, values))

    def __call__(self, frame: Frame) -> Boxes:
        values = self.predict(frame.image)
        return Boxes(values, [None] * len(values))

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Return the boxes of the persons in a BGR picture, float64 (N, 5): x, y, width, height in pixels, score."""
        family, own = self.family, image.shape[1::-1]
        size = self._size((family.side, family.side) if family.side else own)
        canvas, scale, offset = place(image, size, family.fit)
        colours = canvas[:, :, ::-1] if family.rgb else canvas
        if family.mean != (0.0,) * 3 or family.std != (1.0,) * 3:
            colours = (colours - np.array(family.mean, np.float32)) / np.array(family.std, np.float32)
        found = family.decode(self._run(colours, size), size)
        with np.errstate(invalid='ignore'):  # nothing is said against a network that gives nan; it finds nobody
            found = found[found[:, 4] >= self._threshold]
        ends = np.clip((found[:, :4] - np.tile(offset, 2)) / np.tile(scale, 2), 0, np.tile(own, 2))
        boxes = np.concatenate((ends[:, :2], ends[:, 2:] - ends[:, :2], found[:, 4:]), 1)
        boxes = boxes[np.isfinite(boxes).all(1) & (boxes[:, 2:4] > 0).all(1)]
        if family.suppressed or not len(boxes):
            return boxes
        return boxes[np.array(cv2.dnn.NMSBoxes(boxes[:, :4].tolist(), boxes[:, 4].tolist(), 0.0, MAX_OVERLAP), int)]
