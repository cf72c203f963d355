"""The graph that MindSpore writes as ONNX, rewritten in the operators that ONNX runtimes are fast at.

MindSpore spells a channel shuffle as a sequence, nearest upsampling as a broadcast over six axes (fast there, slow
here) and fixes the batch. The rewritten graph computes the same values for any number of images; blocked
convolution layouts of the runtime carry on through it.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mindspore  # noqa: F401  before onnx, whose protobuf would not take MindSpore's older messages any more
import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

BATCH = 'batch'


class Graph:
    """An ONNX graph's nodes by their outputs and their inputs, and its constants by name."""

    def __init__(self, graph: GraphProto) -> None:
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.renamed: dict[str, str] = {}
        self.replaced: dict[str, list[NodeProto]] = {}  # by the first output of the node whose place they take
        self.nodes: list[NodeProto] = []
        for node in graph.node:
            node.input[:] = map(self.name, node.input)
            if node.op_type == 'Identity':
                self.renamed[node.output[0]] = node.input[0]
            elif node.op_type == 'Constant':
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            else:
                self.nodes.append(node)
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.takers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)

    def name(self, name: str) -> str:
        """Return what a value is called by now."""
        return self.renamed.get(name, name)

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant and return its name."""
        self.constants[name] = value
        return name

    def replace(self, node: NodeProto, *new: NodeProto) -> None:
        """Put nodes in the place of one; those that made its inputs alone are dropped in `write`."""
        self.replaced[node.output[0]] = list(new)

    def write(self, graph: GraphProto) -> None:
        """Put what the outputs need, and nothing else, into `graph`."""
        nodes = [new for node in self.nodes for new in self.replaced.get(node.output[0], [node])]
        needed, result = {output.name for output in graph.output}, []
        for node in reversed(nodes):
            if needed & set(node.output):
                node.input[:] = map(self.name, node.input)
                needed |= set(node.input)
                result.append(node)
        del graph.node[:], graph.initializer[:]
        graph.node.extend(reversed(result))
        graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(value), name)
                                 for name, value in self.constants.items() if name in needed)


def upsampling(graph: Graph) -> None:
    """Rewrite Reshape + Reshape + broadcast Add or Mul + Reshape as Resize + Add or Mul."""
    for node in graph.nodes:
        parts = [graph.maker.get(name) for name in node.input]
        if node.op_type not in ('Add', 'Mul') or any(part is None or part.op_type != 'Reshape' for part in parts):
            continue
        shapes = [graph.constants[part.input[1]] for part in parts]
        if any(len(shape) != 6 for shape in shapes):
            continue
        high, low = parts if shapes[1][3] == 1 else parts[::-1]
        factor, name = float(max(shape[3] for shape in shapes)), node.output[0]
        scales = graph.constant(f'{name}.scales', np.array([1, 1, factor, factor], np.float32))
        roi = graph.constant('roi', np.zeros(0, np.float32))
        graph.replace(node,
                      helper.make_node('Resize', [low.input[0], roi, scales], [f'{name}.low'], mode='nearest',
                                       coordinate_transformation_mode='asymmetric', nearest_mode='floor'),
                      helper.make_node(node.op_type, [high.input[0], f'{name}.low'], [name]))
        for after in graph.takers[name]:  # the value has four axes already
            if len(graph.constants[after.input[1]]) == 4:
                graph.renamed[after.output[0]] = name


def shuffles(graph: Graph) -> None:
    """Rewrite SequenceConstruct + ConcatFromSequence as Unsqueeze + Concat."""
    for node in graph.nodes:
        if node.op_type != 'ConcatFromSequence':
            continue
        name, parts = node.output[0], graph.maker[node.input[0]].input
        axis = next(attribute.i for attribute in node.attribute if attribute.name == 'axis')
        new = [f'{name}.{i}' for i in range(len(parts))]
        graph.replace(node, *(helper.make_node('Unsqueeze', [part], [out], axes=[axis])
                              for part, out in zip(parts, new)), helper.make_node('Concat', new, [name], axis=axis))


def means(graph: Graph) -> None:
    """Rewrite ReduceMean over an image as GlobalAveragePool."""
    for node in graph.nodes:
        axes = next((list(attribute.ints) for attribute in node.attribute if attribute.name == 'axes'), None)
        if node.op_type == 'ReduceMean' and axes == [2, 3]:
            graph.replace(node, helper.make_node('GlobalAveragePool', node.input, node.output))


def simplify(model: ModelProto) -> None:
    """Rewrite a model of `ms.export`, in place."""
    graph = Graph(model.graph)
    for rewrite in (upsampling, shuffles, means):
        rewrite(graph)
    graph.write(model.graph)


def edit_file(path: Path, batch_size: int, description: dict[str, Any]) -> None:
    """Simplify an ONNX file of `ms.export`, in place, and write its description into it.

    Args:
        path: the file.
        batch_size: images per call; 0 frees it.
        description: goes into the file's metadata, each value as JSON.
    """
    model = onnx.load(str(path))
    simplify(model)
    for value in (*model.graph.input, *model.graph.output) if not batch_size else ():
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    helper.set_model_props(model, {key: json.dumps(value) for key, value in description.items()})
    model.producer_name = 'litehrnet'
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
