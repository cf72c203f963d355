"""What a people detector takes and gives: families of ONNX exports, told apart by their outputs, and decoded.

Names and shapes tell most families apart. Where two have the same, values do: those that a file gives for a blank
picture. Probabilities lie from 0 to 1, logits do not; decoded centres lie near their own cells, raw ones near 0.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

KNOWN = 'YOLOX, RTMDet, YOLOv5, YOLOv8 - 11, YOLOv10, NanoDet, PicoDet, SSD'
STRIDES = (8, 16, 32)  # pixels between the cells of each layer that predicts boxes
MORE_STRIDES = (*STRIDES, 64)
STRIDES_OF_YOLOV8 = (STRIDES, MORE_STRIDES, (4, *STRIDES))
ROUNDING = 0.01  # a probability in half precision may be this much outside
LARGEST = 12.0  # of the logarithm of a raw box's size in cells, before which exp overflows in none
RGB_MEAN, RGB_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's

Outputs = Mapping[str, np.ndarray]
Size = tuple  # width, height
# Outputs and the input's size to float64 (N, 5): x1, y1, x2, y2 in pixels of the input, score; of persons alone.
Decode = Callable[[Outputs, Size], np.ndarray]


@dataclass(frozen=True)
class Family:
    """A kind of export: how pictures get in, and what comes out."""
    name: str
    decode: Decode  # makes boxes of outputs
    rgb: bool = False  # whether the input's colours are red, green, blue, else the reverse
    mean: tuple = (0.0, 0.0, 0.0)  # subtracted from colours of 0 - 255, in the input's order
    std: tuple = (1.0, 1.0, 1.0)  # by which they are then divided
    fit: str = 'corner'  # where a picture of another shape is put: 'corner' or 'centre' of grey, or 'stretch'
    side: int | None = 640  # of the input where the file takes any size; None for the picture's own size
    suppressed: bool = False  # whether overlapping boxes of one person are removed already


class Probe(NamedTuple):
    """What is known of a file."""
    outputs: Outputs  # what it gives for a blank picture
    size: Size  # of that picture
    person: int | None  # the number of the class of people where the file says so, else None
    mentioned: Callable[[Iterable[str]], list[str]]  # which of some words are in the file or its name


def recognise(probe: Probe) -> Family | None:
    """Return the family of a file; None where it is not known."""
    for attempt in (_mmdeploy, _ssd, _paddle, _layers, _table):
        family = attempt(probe)
        if family:
            return family
    return None


def cells(size: Size, strides: tuple) -> np.ndarray:
    """Return column, row and stride of all cells, float64 (N, 3). Order: layer, row, column."""
    rows = []
    for stride in strides:
        y, x = np.mgrid[:-(-size[1] // stride), :-(-size[0] // stride)]
        rows.append(np.stack((x, y, np.full_like(x, stride)), -1).reshape(-1, 3))
    return np.concatenate(rows).astype(np.float64)


def _centred(centres: np.ndarray, sizes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.concatenate((centres - sizes / 2, centres + sizes / 2, scores.reshape(-1, 1)), 1)


def _are_probable(values: np.ndarray) -> np.ndarray:
    """Return which columns of a table can be probabilities."""
    return ((values >= -ROUNDING) & (values <= 1 + ROUNDING)).all(0)


# MMDeploy's exports, with NMS inside: RTMDet, YOLOX

def _mmdeploy(probe: Probe) -> Family | None:
    boxes, labels = probe.outputs.get('dets'), probe.outputs.get('labels')
    if boxes is None or labels is None or boxes.ndim != 3 or boxes.shape[2] != 5:
        return None
    rtmdet = Family('RTMDet', partial(_labelled, person=probe.person or 0), mean=RGB_MEAN[::-1], std=RGB_STD[::-1],
                    suppressed=True)
    yolox = Family('YOLOX with NMS', rtmdet.decode, suppressed=True)
    # Nothing but the names of their layers tells which of the two it is, and so whether colours are normalised.
    words = {'rtm_cls': rtmdet, 'multi_level_conv': yolox, 'rtmdet': rtmdet, 'yolox': yolox}
    found = probe.mentioned(words)
    return words[found[0]] if found else None


def _labelled(outputs: Outputs, _: Size, person: int) -> np.ndarray:
    boxes = outputs['dets'][0].astype(np.float64)
    return boxes[outputs['labels'].reshape(-1)[:len(boxes)] == person]


# SSD of TensorFlow, of the ONNX model zoo, of torchvision; class 0 is the background, people are 1

def _ssd(probe: Probe) -> Family | None:
    names, person = {name.partition(':')[0] for name in probe.outputs}, probe.person or 1
    if {'detection_boxes', 'detection_classes', 'detection_scores'} <= names:
        return Family('SSD of TensorFlow', partial(_tensorflow_ssd, person=person), rgb=True, fit='stretch', side=None,
                      suppressed=True)
    if {'bboxes', 'labels', 'scores'} <= names:
        return Family('SSD of the ONNX model zoo', partial(_zoo_ssd, person=person), rgb=True, mean=RGB_MEAN,
                      std=RGB_STD, fit='stretch', side=1200, suppressed=True)
    if len(probe.outputs) == 3 and all(_torchvision_parts(probe.outputs).values()):
        return Family('SSD of torchvision', partial(_torchvision_ssd, person=person), rgb=True, std=(255.0,) * 3,
                      fit='stretch', side=None, suppressed=True)
    return None


def _tensorflow_ssd(outputs: Outputs, size: Size, person: int) -> np.ndarray:
    found = {name.partition(':')[0]: values for name, values in outputs.items()}
    scores, boxes = found['detection_scores'].reshape(-1, 1), found['detection_boxes'].reshape(-1, 4)
    rows = np.concatenate((boxes[:, [1, 0, 3, 2]] * (size * 2), scores), 1).astype(np.float64)  # y was first
    return rows[np.rint(found['detection_classes'].reshape(-1)) == person]


def _zoo_ssd(outputs: Outputs, size: Size, person: int) -> np.ndarray:
    rows = np.concatenate((outputs['bboxes'].reshape(-1, 4) * (size * 2), outputs['scores'].reshape(-1, 1)), 1)
    return rows[outputs['labels'].reshape(-1) == person].astype(np.float64)


def _torchvision_parts(outputs: Outputs) -> dict[str, list[np.ndarray]]:
    """Return the outputs by what they are: the exporter gives them numbers for names."""
    values = outputs.values()
    return {'boxes': [x for x in values if x.ndim == 2 and x.shape[1] == 4],
            'labels': [x for x in values if x.ndim == 1 and x.dtype.kind == 'i'],
            'scores': [x for x in values if x.ndim == 1 and x.dtype.kind == 'f']}


def _torchvision_ssd(outputs: Outputs, _: Size, person: int) -> np.ndarray:
    parts = {kind: values[0] for kind, values in _torchvision_parts(outputs).items()}
    rows = np.concatenate((parts['boxes'], parts['scores'][:, None]), 1).astype(np.float64)
    return rows[parts['labels'] == person]


# PicoDet as PaddleDetection exports it, with boxes decoded: with NMS one table, without it boxes and scores

def _picodet(decode: Decode, **options: bool) -> Family:
    return Family('PicoDet', decode, rgb=True, mean=RGB_MEAN, std=RGB_STD, fit='stretch', side=416, **options)


def _paddle(probe: Probe) -> Family | None:
    person, shapes = probe.person or 0, [x.shape for x in probe.outputs.values()]
    if shapes[0][1:] == (6,) and len(shapes) <= 2 and all(len(shape) == 1 for shape in shapes[1:]):
        return _picodet(partial(_paddle_table, person=person), suppressed=True)
    if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes):
        for boxes, scores in (shapes, shapes[::-1]):
            if boxes[2] == 4 and scores[2] == boxes[1] and scores[1] > person:
                return _picodet(partial(_paddle_pair, person=person))
    return None


def _paddle_table(outputs: Outputs, _: Size, person: int) -> np.ndarray:
    rows = next(iter(outputs.values())).astype(np.float64)
    return rows[rows[:, 0] == person][:, [2, 3, 4, 5, 1]]


def _paddle_pair(outputs: Outputs, _: Size, person: int) -> np.ndarray:
    boxes, scores = sorted((x[0] for x in outputs.values()), key=lambda x: x.shape[1] != 4)
    return np.concatenate((boxes, scores[person][:, None]), 1).astype(np.float64)


# NanoDet and PicoDet: distances to the four sides as distributions over whole numbers of cells

def _layers(probe: Probe) -> Family | None:
    """Recognise those with two outputs per layer, scores and distributions."""
    tables = [x for x in probe.outputs.values() if x.ndim == 3]
    strides = {6: STRIDES, 8: MORE_STRIDES}.get(len(tables))
    if not strides or len(tables) < len(probe.outputs):
        return None
    counts = [len(cells(probe.size, (stride,))) for stride in strides]
    pairs = [_layer(probe.outputs, count) for count in counts]
    if not all(pairs) or len({probe.outputs[name].shape[2] for name, _ in pairs}) > 1:
        return None
    decode = partial(_distances, pairs=pairs, person=probe.person or 0, strides=strides, shift=0.5)
    return _nanodet(decode) if strides == STRIDES else _picodet(decode)


def _layer(outputs: Outputs, count: int) -> tuple | None:
    """Return the names of the scores and of the distributions of a layer with that many cells."""
    names = [name for name, x in outputs.items() if x.shape[1] == count]
    scores = [name for name in names if _are_probable(outputs[name][0]).all()]
    rest = [name for name in names if name not in scores and outputs[name].shape[2] % 4 == 0]
    return (scores[0], rest[0]) if len(scores) == len(rest) == 1 else None


def _nanodet(decode: Decode, plus: bool = False) -> Family:
    """Return NanoDet, which was trained on whole shapes in its first version, on stretched pictures as Plus."""
    return Family('NanoDet-Plus' if plus else 'NanoDet', decode, mean=RGB_MEAN[::-1], std=RGB_STD[::-1],
                  fit='stretch' if plus else 'centre', side=416)


def _distances(outputs: Outputs, size: Size, pairs: list, person: int, strides: tuple, shift: float) -> np.ndarray:
    scores = np.concatenate([outputs[name][0][:, person] for name, _ in pairs])
    logits = np.concatenate([outputs[name][0] for _, name in pairs])
    return _from_distributions(scores, logits, cells(size, strides), shift)


def _joined_distances(outputs: Outputs, size: Size, name: str, classes: int, person: int, strides: tuple,
                      shift: float) -> np.ndarray:
    rows = outputs[name][0]
    return _from_distributions(rows[:, person], rows[:, classes:], cells(size, strides), shift)


def _from_distributions(scores: np.ndarray, logits: np.ndarray, grid: np.ndarray, shift: float) -> np.ndarray:
    logits = logits.reshape(len(logits), 4, -1).astype(np.float64)
    shares = np.exp(logits - logits.max(2, keepdims=True))
    distances = shares @ np.arange(logits.shape[2]) / shares.sum(2) * grid[:, 2:]
    centres = (grid[:, :2] + shift) * grid[:, 2:]
    return np.concatenate((centres - distances[:, :2], centres + distances[:, 2:], scores.reshape(-1, 1)), 1)


# One table: YOLOX, YOLOv5, YOLOv8, YOLOv10, NanoDet

def _table(probe: Probe) -> Family | None:
    tables = {name: x for name, x in probe.outputs.items() if x.ndim == 3 and len(x) == 1}
    if len(tables) != 1:  # outputs of other ranks are masks, and parts of the same table
        return None
    [(name, table)] = tables.items()
    rows, columns = table.shape[1:]
    person = probe.person or 0
    counts = [len(cells(probe.size, strides)) for strides in (STRIDES, MORE_STRIDES)]
    if rows in counts:
        return _cell_table(name, table[0], probe, counts.index(rows), person)
    if rows == 3 * counts[0] and columns > 5 + person and _are_probable(table[0])[4:].all():
        return _yolo('YOLOv5', partial(_yolox, name=name, person=person, raw=False))
    if columns in [len(cells(probe.size, strides)) for strides in STRIDES_OF_YOLOV8] and rows > 4 + person:
        return _yolo('YOLOv8', partial(_yolov8, name=name, person=person))
    if columns == 6:
        return _yolo('YOLOv10', partial(_yolov10, name=name, person=person), suppressed=True)
    return None


def _cell_table(name: str, table: np.ndarray, probe: Probe, more: int, person: int) -> Family | None:
    """Recognise a table with one row per cell: YOLOX, whose scores come last, or NanoDet, whose scores come first."""
    probable = _are_probable(table)
    if not more and len(probable) > 5 + person and probable[4:].all():
        grid = cells(probe.size, STRIDES)
        # Which reading puts the centres nearer to their cells, or to the origin, from which raw ones are counted?
        away = [np.median(abs(table[:, :2] / step - start)) for step, start in ((1, 0), (grid[:, 2:], grid[:, :2]))]
        return Family('YOLOX', partial(_yolox, name=name, person=person, raw=bool(away[0] < away[1])))
    classes = len(probable) if probable.all() else int(np.argmin(probable))
    bins = (len(probable) - classes) / 4
    if classes <= person or bins < 2 or bins % 1:
        return None
    strides, shift = (MORE_STRIDES, 0.0) if more else (STRIDES, 0.5)  # NanoDet-Plus counts from a cell's corner
    return _nanodet(partial(_joined_distances, name=name, classes=classes, person=person, strides=strides,
                            shift=shift), plus=bool(more))


def _yolo(name: str, decode: Decode, **options: bool) -> Family:
    return Family(name, decode, rgb=True, std=(255.0,) * 3, fit='centre', **options)


def _yolox(outputs: Outputs, size: Size, name: str, person: int, raw: bool) -> np.ndarray:
    rows = outputs[name][0].astype(np.float64)
    centres, sizes = rows[:, :2], rows[:, 2:4]
    if raw:
        grid = cells(size, STRIDES)
        centres = (centres + grid[:, :2]) * grid[:, 2:]
        sizes = np.exp(np.minimum(sizes, LARGEST)) * grid[:, 2:]
    return _centred(centres, sizes, rows[:, 4] * rows[:, 5 + person])


def _yolov8(outputs: Outputs, _: Size, name: str, person: int) -> np.ndarray:
    rows = outputs[name][0, [0, 1, 2, 3, 4 + person]].T.astype(np.float64)
    return _centred(rows[:, :2], rows[:, 2:4], rows[:, 4])


def _yolov10(outputs: Outputs, _: Size, name: str, person: int) -> np.ndarray:
    rows = outputs[name][0].astype(np.float64)
    return rows[rows[:, 5] == person, :5]
