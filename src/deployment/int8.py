"""ONNX models with convolutions in 8-bit integers, by onnxruntime's pairs of QuantizeLinear and DequantizeLinear.

Weights are int8 with a scale per output channel, activations uint8 with one scale per tensor, from their smallest and
largest values on sample crops (means over the crops). Channels that only one convolution reads are first given like
ranges (a convolution's filters times a factor, the next one's through it). Then each part of the network (stem,
transitions, modules, head) is quantised alone; the parts that change the heatmaps most stay in float32, as many as keep
the whole within `MAX_ERROR`.
"""
from __future__ import annotations

from collections.abc import Collection
from typing import Callable

import mindspore  # noqa: F401  before onnx, whose protobuf would not take MindSpore's older messages any more
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from src.common.errors import InputError
from src.deployment.runtime import import_onnxruntime

OPSET = 13  # the first with a scale per channel
MAX_ERROR = 0.15  # root mean square of the heatmaps' change, of the heatmaps' own; cost 1.8 AP where measured
LEAST_FACTOR = 0.01
Ranges = dict[str, 'tuple[float, float]']


def part_of(node: NodeProto) -> str:
    """Return the part of the network that a node of `onnx_model` belongs to; '' before and behind the network."""
    return node.name.rpartition('/')[0]


def takers_of(model: ModelProto) -> dict[str, list[NodeProto]]:
    """Return the nodes that read each value."""
    takers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    return takers


def prepared(model: ModelProto) -> ModelProto:
    """Return the model in `OPSET`, each ReLU alone behind its sum: there it costs nothing, as uint8 ends at 0."""
    model = version_converter.convert_version(model, OPSET)
    takers, makers = takers_of(model), {node.output[0]: node for node in model.graph.node}
    nodes = []
    for node in model.graph.node:
        if node.op_type == 'Relu' and len(takers[node.input[0]]) > 1:
            own = NodeProto()
            own.CopyFrom(makers[node.input[0]])
            own.name = own.output[0] = node.input[0] = f'{own.name}.positive'
            nodes.append(own)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def run_on(model: ModelProto, crops: np.ndarray, names: Collection[str] = ()) -> list[list[np.ndarray]]:
    """Return for each crop the model's output, or the values called `names`."""
    runtime = import_onnxruntime('INT8')
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if names:
        whole, model = model, ModelProto()
        model.CopyFrom(whole)
        del model.graph.output[:]
        model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    return [session.run(None, {'x': crop[None]}) for crop in crops]


def equalise(model: ModelProto, crops: np.ndarray) -> None:
    """Give channels between two convolutions like ranges, in place; what the model computes stays."""
    takers, weights = takers_of(model), {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = {}
    for node in model.graph.node:
        after = takers.get(node.output[0], [])
        value = after[0].output[0] if len(after) == 1 and after[0].op_type == 'Relu' else node.output[0]
        after = takers.get(value, [])
        if node.op_type == 'Conv' and len(after) == 1 and after[0].op_type == 'Conv':
            pairs[value] = node, after[0]
    if not pairs:
        return
    extents = [np.max([np.abs(value).max((0, 2, 3)) for value in values], 0)
               for values in zip(*run_on(model, crops, list(pairs)))]

    def scale(name: str, factor: np.ndarray, axis: int) -> None:
        value = numpy_helper.to_array(weights[name])
        shape = [-1 if i == axis else 1 for i in range(value.ndim)]
        weights[name].CopyFrom(numpy_helper.from_array((value * factor.reshape(shape)).astype(np.float32), name))

    for (first, second), extent in zip(pairs.values(), extents):
        factor = np.where(extent > 0, np.maximum(extent / max(extent.max(), 1e-30), LEAST_FACTOR), 1)
        depthwise = weights[second.input[1]].dims[1] == 1
        factor = factor if depthwise else factor ** 0.5  # dense weights share a scale across the channels they read
        scale(first.input[1], 1 / factor, 0)
        scale(first.input[2], 1 / factor, 0)
        scale(second.input[1], factor, 0 if depthwise else 1)


def ranges_of(model: ModelProto, crops: np.ndarray) -> Ranges:
    """Return the smallest and largest value, 0 among them, of all that the network's nodes read and give.

    Means over the crops: the extremes of all of them leave too few steps for the rest.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if part_of(node)]
    names = list(dict.fromkeys(name for node in nodes for name in (*node.input, *node.output)
                               if name and name not in constants))
    found = np.array([[(value.min(), value.max()) for value in values] for values in run_on(model, crops, names)])
    ranges = {name: (min(0.0, float(low)), max(0.0, float(high)))
              for name, low, high in zip(names, found[..., 0].mean(0), found[..., 1].mean(0))}
    for node in nodes:
        if node.op_type == 'Resize':  # keeps the scale
            ranges[node.output[0]] = ranges[node.input[0]]
    return ranges


class Quantiser:
    """A copy of a model with some parts' nodes between pairs of QuantizeLinear and DequantizeLinear."""

    def __init__(self, model: ModelProto, ranges: Ranges, parts: Collection[str]) -> None:
        self.model, self.ranges, self.parts = ModelProto(), ranges, parts
        self.model.CopyFrom(model)
        self.takers, self.constants = takers_of(model), {t.name: t for t in model.graph.initializer}
        self.nodes: list[NodeProto] = []
        self.pairs: dict[str, str] = {}
        for node in self.model.graph.node:
            self._add(node)
        del self.model.graph.node[:], self.model.graph.initializer[:]
        used = {name for node in self.nodes for name in node.input}
        self.model.graph.node.extend(self.nodes)
        self.model.graph.initializer.extend(t for name, t in self.constants.items() if name in used)

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def _scale(self, name: str) -> float:
        low, high = self.ranges[name]
        return max((high - low) / 255, 1e-8)

    def _pair(self, name: str) -> str:
        """The value after it has been uint8."""
        if name not in self.pairs:
            scale = self._scale(name)
            zero = np.array(np.clip(np.round(-self.ranges[name][0] / scale), 0, 255), np.uint8)
            parameters = [self._constant(f'{name}.scale', np.array(scale, np.float32)),
                          self._constant(f'{name}.zero', zero)]
            self.pairs[name] = f'{name}.float'
            self.nodes += [helper.make_node('QuantizeLinear', [name, *parameters], [f'{name}.uint8']),
                           helper.make_node('DequantizeLinear', [f'{name}.uint8', *parameters], [f'{name}.float'])]
        return self.pairs[name]

    def _weights(self, node: NodeProto, source: str) -> None:
        weight, bias = (numpy_helper.to_array(self.constants[name]).astype(np.float64) for name in node.input[1:])
        scale = np.maximum(np.abs(weight).max((1, 2, 3)) / 127, 1e-8)
        whole = np.round(weight / scale[:, None, None, None]).astype(np.int8)
        limit = 2 ** 31 - 1
        for i, value, step in ((1, whole, scale), (2, bias, scale * self._scale(source))):
            if i == 2:
                value = np.clip(np.round(value / step), -limit, limit).astype(np.int32)
            name = node.input[i]
            inputs = [self._constant(f'{name}.whole', value),
                      self._constant(f'{name}.scale', step.astype(np.float32)),
                      self._constant(f'{name}.zero', np.zeros(len(value), value.dtype))]
            self.nodes.append(helper.make_node('DequantizeLinear', inputs, [f'{name}.float'], axis=0))
            node.input[i] = f'{name}.float'

    def _add(self, node: NodeProto) -> None:
        source, output = node.input[0], node.output[0]
        quantised = part_of(node) in self.parts
        fused = node.op_type == 'Relu' and quantised  # computed by what gives its input
        if not fused:
            for i, name in enumerate(node.input):
                if name in self.ranges:
                    node.input[i] = self._pair(name) if quantised else self.pairs.get(name, name)
        if quantised and node.op_type == 'Conv':
            self._weights(node, source)
        self.nodes.append(node)
        after = self.takers.get(output, [])
        if quantised and not (len(after) == 1 and after[0].op_type == 'Relu'):
            self._pair(output)


def quantised(model: ModelProto, crops: np.ndarray, report: Callable[[str], None]) -> ModelProto:
    """Return a model of `onnx_model` in 8 bits, its heatmaps within `MAX_ERROR`.

    Args:
        model: takes float32 crops, gives heatmaps.
        crops: float32 (N, 3, H, W), normalised, some dozens, of what the model is for.
        report: is told which parts stay in float32, and why.

    Raises:
        InputError: no part can be quantised within the error.
    """
    expected = np.stack(run_on(model, crops))
    model = prepared(model)
    equalise(model, crops)
    ranges = ranges_of(model, crops)

    def error(parts: Collection[str]) -> float:
        found = np.stack(run_on(Quantiser(model, ranges, parts).model, crops[::4]))
        return float(np.sqrt(((found - expected[::4]) ** 2).mean() / (expected[::4] ** 2).mean()))

    parts = list(dict.fromkeys(part_of(node) for node in model.graph.node if part_of(node)))
    errors = {part: error([part]) for part in parts}
    parts.sort(key=errors.get)
    while parts and (whole := error(parts)) > MAX_ERROR:
        part = parts.pop()
        report(f'{part} stays in float32: alone in INT8 it changes the heatmaps by {errors[part]:.1%} of their size, '
               f'all the rest too by {whole:.1%}')
    if not parts:
        raise InputError(f'--int8: no part of the network stays within {MAX_ERROR:.0%} of the heatmaps; export it '
                         'without')
    return Quantiser(model, ranges, parts).model
