"""ONNX files of every family of detectors, which find what a test wants where it looks right.

The outputs are constants that say boxes in the family's own coding, written here from the families' descriptions and
not from the decoder. Scores are 0 unless the pixels that get in are those that the family's networks are trained with.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import mindspore  # noqa: F401  before onnx, whose protobuf would not take MindSpore's older messages any more
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16, np.uint8: TensorProto.UINT8}


class Thing(NamedTuple):
    """What is to be found: x1, y1, x2, y2 in pixels of the input, score, class."""
    box: np.ndarray
    score: float
    kind: int


@dataclass
class Graph:
    """Outputs of a file.

    Attributes:
        values: constants by name.
        scores: which of their entries are scores, by name.
    """
    values: dict[str, np.ndarray]
    scores: dict[str, np.ndarray] = field(default_factory=dict)


def save(path: Path, graph: Graph, shape: Sequence[Any], pixels: Sequence[tuple[int, int, Sequence[float]]] = (), *,
         dtype: type = np.float32, extra: dict[str, Sequence[Any]] | None = None,
         metadata: dict[str, str] | None = None, word: str = 'layer') -> Path:
    """Write a file.

    Args:
        path: where.
        graph: what it gives.
        shape: of the input `image`; texts where it takes any size.
        pixels: x, y and colour of the input, without which all scores are 0.
        dtype: of the input.
        extra: further inputs, which are not looked at.
        metadata: of the file.
        word: in the name of a layer.
    """
    nodes, constants = _gate(shape, pixels) if pixels else ([], {})
    nodes.insert(0, helper.make_node('Cast', ['image'], ['x'], name=word, to=TensorProto.FLOAT))
    outputs = []
    for name, value in graph.values.items():
        mask = graph.scores.get(name, np.zeros(value.shape, bool)) & bool(pixels)
        constants[f'{name}.fixed'] = np.where(mask, 0, value).astype(value.dtype)
        nodes.append(helper.make_node('Identity', [f'{name}.fixed'], [f'{name}.0' if mask.any() else name]))
        if mask.any():
            constants[f'{name}.scores'] = np.where(mask, value, 0).astype(value.dtype)
            nodes += [helper.make_node('Mul', [f'{name}.scores', 'gate'], [f'{name}.1']),
                      helper.make_node('Add', [f'{name}.0', f'{name}.1'], [name])]
        outputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
    inputs = [helper.make_tensor_value_info('image', TYPES[dtype], shape)]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in (extra or {}).items()]
    model = helper.make_model(helper.make_graph(nodes, 'detector', inputs, outputs, [
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]),
        opset_imports=[helper.make_opsetid('', 13)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path


def _gate(shape: Sequence[Any],
          pixels: Sequence[tuple[int, int, Sequence[float]]]) -> tuple[list, dict[str, np.ndarray]]:
    """Return nodes that make `gate` of the input `x`, 1 if the pixels have the colours and 0 if not, and constants."""
    nodes, constants = [], {'steep': np.float32(5), 'one': np.float32(1), 'three': np.array([3]),
                            'axes': np.arange(len(shape) - 3, len(shape))}
    for i, (x, y, colour) in enumerate(pixels):
        constants[f'start{i}'] = np.array([y, x, 0] if shape[-1] == 3 else [0, y, x])
        constants[f'end{i}'] = np.array([y + 1, x + 1, 3] if shape[-1] == 3 else [3, y + 1, x + 1])
        constants[f'colour{i}'] = np.array(colour, np.float32)
        nodes += [helper.make_node('Slice', ['x', f'start{i}', f'end{i}', 'axes'], [f's{i}']),
                  helper.make_node('Reshape', [f's{i}', 'three'], [f'r{i}']),
                  helper.make_node('Sub', [f'r{i}', f'colour{i}'], [f'd{i}']),
                  helper.make_node('Abs', [f'd{i}'], [f'a{i}'])]
    nodes += [helper.make_node('Concat', [f'a{i}' for i in range(len(pixels))], ['away'], axis=0),
              helper.make_node('ReduceMax', ['away'], ['most'], keepdims=0),
              helper.make_node('Mul', ['most', 'steep'], ['wrong']),
              helper.make_node('Sub', ['one', 'wrong'], ['right']), helper.make_node('Relu', ['right'], ['gate'])]
    return nodes, constants


def place_in_cells(things: Sequence[Thing], size: tuple[int, int],
                   strides: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Return number of the layer, of the cell in it, column and row, for each thing: near its centre, none twice."""
    found, taken = [], set()
    for number, thing in enumerate(things):
        layer = number % 2  # boxes of one layer would not show that the others are where they should be
        stride = strides[layer]
        column, row = ((thing.box[:2] + thing.box[2:]) / 2 // stride).astype(int)
        width = -(-size[0] // stride)
        while (layer, column, row) in taken:
            row += 1
        taken.add((layer, column, row))
        found.append((layer, row * width + column, column, row))
    return found


def counts(size: tuple[int, int], strides: Sequence[int]) -> list[int]:
    return [-(-size[0] // stride) * -(-size[1] // stride) for stride in strides]


def centre_and_size(box: np.ndarray) -> np.ndarray:
    return np.concatenate(((box[:2] + box[2:]) / 2, box[2:] - box[:2]))


def yolox(things: Sequence[Thing], size: tuple[int, int], classes: int = 80, decoded: bool = False) -> Graph:
    """Centre in cells from the cell's corner, logarithm of the size in cells, objectness, classes."""
    strides = (8, 16, 32)
    number = counts(size, strides)
    table = np.zeros((1, sum(number), 5 + classes), np.float32)
    table[0, :, :4] = 0.4, 0.6, 0.1, -0.2
    if decoded:
        at = 0
        for stride, count in zip(strides, number):
            cell = np.arange(count)
            width = -(-size[0] // stride)
            table[0, at:at + count, :2] = (np.stack((cell % width, cell // width), 1) + 0.5) * stride
            table[0, at:at + count, 2:4] = stride
            at += count
    for thing, (layer, cell, column, row) in zip(things, place_in_cells(things, size, strides)):
        line, stride = table[0, sum(number[:layer]) + cell], strides[layer]
        box = centre_and_size(thing.box)
        line[:4] = box if decoded else [box[0] / stride - column, box[1] / stride - row, *np.log(box[2:] / stride)]
        line[4], line[5 + thing.kind] = 0.95, thing.score / 0.95
    scores = np.zeros(table.shape, bool)
    scores[:, :, 4] = True
    return Graph({'output': table}, {'output': scores})


def yolov5(things: Sequence[Thing], size: tuple[int, int]) -> Graph:
    table = np.zeros((1, 3 * sum(counts(size, (8, 16, 32))), 85), np.float32)
    table[0, :, :4] = 20
    for number, thing in enumerate(things):
        table[0, 7 * number, :5] = *centre_and_size(thing.box), 0.95
        table[0, 7 * number, 5 + thing.kind] = thing.score / 0.95
    scores = np.zeros(table.shape, bool)
    scores[:, :, 4] = True
    return Graph({'output0': table, 'part': np.zeros((1, 3, 4, 4, 85), np.float32)}, {'output0': scores})


def yolov8(things: Sequence[Thing], size: tuple[int, int], classes: int = 80) -> Graph:
    table = np.zeros((1, 4 + classes, sum(counts(size, (8, 16, 32)))), np.float32)
    table[0, :4] = 20
    for number, thing in enumerate(things):
        table[0, :4, 7 * number], table[0, 4 + thing.kind, 7 * number] = centre_and_size(thing.box), thing.score
    scores = np.zeros(table.shape, bool)
    scores[:, 4:] = True
    return Graph({'output0': table}, {'output0': scores})


def yolov10(things: Sequence[Thing], size: tuple[int, int]) -> Graph:
    table = np.zeros((1, 300, 6), np.float32)
    for number, thing in enumerate(things):
        table[0, number] = *thing.box, thing.score, thing.kind
    return Graph({'output0': table}, {'output0': np.zeros(table.shape, bool) | (np.arange(6) == 4)})


def distribution(cells: float, bins: int) -> np.ndarray:
    """Return logits whose mean is a number of cells."""
    logits = np.full(bins, -30.0)
    low = int(cells)
    logits[low] = np.log(max(1 - (cells - low), 1e-12))
    logits[low + 1] = np.log(max(cells - low, 1e-12))
    return logits


def distances(things: Sequence[Thing], size: tuple[int, int], strides: Sequence[int], shift: float, classes: int = 80,
              bins: int = 8) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return scores and distributions of each layer."""
    layers = [(np.zeros((1, count, classes), np.float32), np.full((1, count, 4 * bins), -3, np.float32))
              for count in counts(size, strides)]
    for thing, (layer, cell, column, row) in zip(things, place_in_cells(things, size, strides)):
        point = (np.array([column, row]) + shift) * strides[layer]
        sides = np.concatenate((point - thing.box[:2], thing.box[2:] - point)) / strides[layer]
        assert (sides >= 0).all(), 'a cell outside its box'
        layers[layer][0][0, cell, thing.kind] = thing.score
        layers[layer][1][0, cell] = np.concatenate([distribution(side, bins) for side in sides])
    return layers


def nanodet_plus(things: Sequence[Thing], size: tuple[int, int], classes: int = 80,
                 strides: Sequence[int] = (8, 16, 32, 64), shift: float = 0.0, bins: int = 8) -> Graph:
    """One table, scores first; with three strides that of the first version, which counts from centres of cells."""
    layers = distances(things, size, strides, shift, classes, bins)
    table = np.concatenate([np.concatenate(layer, 2) for layer in layers], 1)
    return Graph({'output': table}, {'output': np.zeros(table.shape, bool) | (np.arange(table.shape[2]) < classes)})


def layered(things: Sequence[Thing], size: tuple[int, int], strides: Sequence[int], bins: int = 8) -> Graph:
    """Two outputs per layer."""
    layers = distances(things, size, strides, 0.5, bins=bins)
    values = {f'cls_{stride}': scores for stride, (scores, _) in zip(strides, layers)}
    masks = {name: np.ones(value.shape, bool) for name, value in values.items()}
    return Graph({**values, **{f'dis_{stride}': boxes for stride, (_, boxes) in zip(strides, layers)}}, masks)


def rows(things: Sequence[Thing]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes, scores, kinds = zip(*things)
    return np.array(boxes, np.float32), np.array(scores, np.float32), np.array(kinds, np.int64)


def mmdeploy(things: Sequence[Thing], size: tuple[int, int]) -> Graph:
    boxes, scores, kinds = rows(things)
    table = np.concatenate((boxes, scores[:, None]), 1)[None]
    return Graph({'dets': table, 'labels': kinds[None]}, {'dets': np.zeros(table.shape, bool) | (np.arange(5) == 4)})


def paddle_table(things: Sequence[Thing], size: tuple[int, int]) -> Graph:
    boxes, scores, kinds = rows(things)
    table = np.concatenate((kinds[:, None], scores[:, None], boxes), 1).astype(np.float32)
    return Graph({'nms_0': table, 'nms_2': np.array([len(table)], np.int32)},
                 {'nms_0': np.zeros(table.shape, bool) | (np.arange(6) == 1)})


def paddle_pair(things: Sequence[Thing], size: tuple[int, int]) -> Graph:
    boxes, scores, kinds = rows(things)
    table = np.zeros((1, 80, len(things)), np.float32)
    table[0, kinds, np.arange(len(things))] = scores
    return Graph({'concat': table, 'boxes': boxes[None]}, {'concat': np.ones(table.shape, bool)})


def tensorflow(things: Sequence[Thing], size: tuple[int, int]) -> Graph:
    boxes, scores, kinds = rows(things)
    shares = (boxes / np.tile(size, 2))[:, [1, 0, 3, 2]].astype(np.float32)
    return Graph({'detection_boxes:0': shares[None], 'detection_classes:0': kinds[None].astype(np.float32),
                  'detection_scores:0': scores[None], 'num_detections:0': np.array([len(things)], np.float32)},
                 {'detection_scores:0': np.ones((1, len(things)), bool)})


def zoo(things: Sequence[Thing], size: tuple[int, int]) -> Graph:
    boxes, scores, kinds = rows(things)
    return Graph({'bboxes': (boxes / np.tile(size, 2)).astype(np.float32)[None], 'labels': kinds[None],
                  'scores': scores[None]}, {'scores': np.ones((1, len(things)), bool)})


def torchvision(things: Sequence[Thing], size: tuple[int, int]) -> Graph:
    boxes, scores, kinds = rows(things)
    return Graph({'n1': boxes, 'n2': scores, 'n3': kinds}, {'n2': np.ones(len(things), bool)})
