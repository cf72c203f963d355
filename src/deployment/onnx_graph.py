"""An ONNX graph under construction, of operators and shapes that ONNX runtimes are fast at.

onnxruntime computes convolutions on blocks of 8 or 16 channels, and keeps tensors in that layout between operators as
long as each has whole blocks of channels, known sizes, and no broadcasting; else it copies them. So tensors here are
filled up with channels of zeros, and channels are never moved, split off or put together: a `FeatureMap` says which
channel of the network lies where, and the weights of the next convolution are arranged to suit.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from mindspore import nn  # before onnx's parts, whose protobuf would not take MindSpore's older messages any more
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from src.deployment.fold import folded

BATCH = 'batch'
BLOCK = 16
EMPTY = -1  # in place of a channel's number
OPSET = 11
ONE = 20.0  # its sigmoid is 1 in float32


class Layer(NamedTuple):
    """A convolution with all that directly follows it; `weight` (O, I, k, k) and `bias` (O,) are float64."""

    weight: np.ndarray
    bias: np.ndarray
    stride: int
    depthwise: bool
    act: str | None


class FeatureMap(NamedTuple):
    """A value (N, places, *size) in the graph; `channels` holds the number of each place's channel, or EMPTY."""

    name: str
    channels: np.ndarray
    size: tuple[int, int]


def layers_of(cell: nn.Cell) -> list[Layer]:
    """Return the layers of a cell that runs its children in their order."""
    leaves = [leaf for _, leaf in cell.cells_and_names()
              if isinstance(leaf, (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Sigmoid))]
    layers: list[Layer] = []
    for leaf, after in zip(leaves, [*leaves[1:], None]):
        if isinstance(leaf, nn.Conv2d):
            layers.append(Layer(*folded(leaf, after), leaf.stride[0], leaf.group > 1, None))
        elif not isinstance(leaf, nn.BatchNorm2d):
            layers[-1] = layers[-1]._replace(act='Relu' if isinstance(leaf, nn.ReLU) else 'Sigmoid')
    return layers


def whole_blocks(channels: int) -> np.ndarray:
    """Return the numbers of `channels` channels in their order, and EMPTY up to the end of the last block."""
    return np.pad(np.arange(channels), (0, -channels % BLOCK), constant_values=EMPTY)


def arranged(values: np.ndarray, channels: np.ndarray, axis: int = 0, empty: float = 0.0) -> np.ndarray:
    """Return what `values` has for each of `channels` along `axis`, and `empty` in EMPTY places."""
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    return np.where(channels.reshape(shape) == EMPTY, empty, np.take(values, np.maximum(channels, 0), axis))


class Graph:
    """The nodes and constants so far. Values are called by their names; the batch is free.

    Attributes:
        part: begins the names of what is added, before a slash.
    """

    def __init__(self) -> None:
        self.part = ''
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.shapes: list[ValueInfoProto] = []

    def constant(self, value: np.ndarray) -> str:
        """Return the name of a constant; float64 becomes float32."""
        value = np.asarray(value, np.float32 if value.dtype == np.float64 else value.dtype)
        name = f'constant.{len(self.constants)}'
        self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def add(self, operator: str, *inputs: str | FeatureMap | np.ndarray, **attributes: Any) -> str:
        """Return the name of what a new node gives."""
        names = [value.name if isinstance(value, FeatureMap) else
                 self.constant(value) if isinstance(value, np.ndarray) else value for value in inputs]
        output = f'{self.part}/{operator}.{len(self.nodes)}'.lstrip('/')
        self.nodes.append(helper.make_node(operator, names, [output], name=output, **attributes))
        return output

    def layer(self, x: FeatureMap, layer: Layer, to: np.ndarray | None = None) -> FeatureMap:
        """Return the output of a layer, with channel `to[i]` (default: in their order) in place i.

        A depthwise layer leaves channels where they are, and those in EMPTY places as they are.
        """
        weight, bias = layer.weight, layer.bias
        padding = weight.shape[2] // 2
        if layer.depthwise:
            to = x.channels
            weight, bias = arranged(weight, to), arranged(bias, to)
            weight[to == EMPTY, 0, padding, padding] = 1
        else:
            to = whole_blocks(len(weight)) if to is None else to
            one = ONE if layer.act == 'Sigmoid' else 0.0
            weight, bias = arranged(arranged(weight, to), x.channels, 1), arranged(bias, to, empty=one)
        name = self.add('Conv', x, weight, bias, kernel_shape=weight.shape[2:], pads=[padding] * 4,
                        strides=[layer.stride] * 2, group=len(to) if layer.depthwise else 1)
        size = tuple(-(-length // layer.stride) for length in x.size)
        return FeatureMap(self.add(layer.act, name) if layer.act else name, to, size)

    def layers(self, x: FeatureMap, layers: Iterable[Layer], to: np.ndarray | None = None) -> FeatureMap:
        """Return the output of layers in a row; `to`: the last one's, see `layer`."""
        *first, last = layers
        for layer in first:
            x = self.layer(x, layer)
        return self.layer(x, last, to)

    def enlarge(self, name: str, channels: np.ndarray, before: tuple[int, int], after: tuple[int, int],
                **mode: str) -> str:
        """Return a value enlarged from one size to a multiple of it: nearest, unless `mode` (of Resize) says more."""
        if before == after:
            return name
        scales = np.array([1, 1, after[0] / before[0], after[1] / before[1]])
        mode = mode or dict(mode='nearest', coordinate_transformation_mode='asymmetric', nearest_mode='floor')
        output = self.add('Resize', name, np.zeros(0), scales, **mode)
        # Runtimes don't infer that Resize leaves the batch alone, and layouts end where sizes may differ.
        self.shapes.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [BATCH, len(channels), *after]))
        return output

    def model(self, inputs: ValueInfoProto, output: str, shape: Iterable[int], batch_size: int) -> ModelProto:
        """Return the model that takes `inputs` and gives what the last node does, (batch_size, *shape), as `output`.

        Args:
            inputs: name, type and shape, batch included.
            output: name.
            shape: of one image's output.
            batch_size: images; 0: any number.
        """
        self.nodes[-1].output[0] = output
        outputs = helper.make_tensor_value_info(output, TensorProto.FLOAT, [BATCH, *shape])
        graph = helper.make_graph(self.nodes, 'litehrnet', [inputs], [outputs], list(self.constants.values()),
                                  value_info=self.shapes)
        if batch_size:
            for value in (*graph.input, *graph.output, *graph.value_info):
                value.type.tensor_type.shape.dim[0].dim_value = batch_size
        return helper.make_model(graph, opset_imports=[helper.make_opsetid('', OPSET)], ir_version=6,
                                 producer_name='litehrnet')
