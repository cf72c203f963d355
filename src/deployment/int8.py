"""ONNX models with convolutions in 8-bit integers, by onnxruntime's static quantisation.

Weights are int8 with a scale per output channel; activations uint8 with one scale per tensor, from the means of their
extremes over sample crops (the extremes of all of them leave too few steps for the rest). What costs most accuracy
stays in float32: stem, first stage, last module and head; see benchmarks/README.md.
"""
from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import mindspore  # noqa: F401  before onnx, whose protobuf would not take MindSpore's older messages any more
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, version_converter

from src.deployment.runtime import import_onnxruntime

OPSET = 13  # the first with a scale per channel
FLOAT_PARTS = ('stem', 'transition0', 'stage0', 'head')


def part_of(node: NodeProto) -> str:
    """Return the part of the network that a node of `onnx_model` belongs to; '' before and behind the network."""
    return node.name.rpartition('/')[0]


def prepared(model: ModelProto) -> ModelProto:
    """Return the model in `OPSET`, each ReLU alone behind its sum: there it costs nothing, as uint8 ends at 0."""
    model = version_converter.convert_version(model, OPSET)
    makers = {node.output[0]: node for node in model.graph.node}
    takers = [name for node in model.graph.node for name in node.input]
    nodes = []
    for node in model.graph.node:
        if node.op_type == 'Relu' and takers.count(node.input[0]) > 1:
            own = NodeProto()
            own.CopyFrom(makers[node.input[0]])
            own.name = own.output[0] = node.input[0] = f'{own.name}.positive'
            nodes.append(own)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def in_float(model: ModelProto) -> list[str]:
    """Return the names of the nodes that stay in float32."""
    last = [part_of(node) for node in model.graph.node if part_of(node).startswith('stage')][-1]
    return [node.name for node in model.graph.node
            if not part_of(node) or part_of(node) == last or part_of(node).startswith(FLOAT_PARTS)]


def quantised(model: ModelProto, crops: np.ndarray) -> ModelProto:
    """Return a model of `onnx_model` in 8 bits.

    Args:
        model: takes float32 crops, gives heatmaps.
        crops: float32 (N, 3, H, W), normalised, some dozens, of what the model is for.

    Raises:
        InputError: onnxruntime is not installed.
    """
    import_onnxruntime('INT8')
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Crops(CalibrationDataReader):
        def __init__(self) -> None:
            self.inputs = ({'x': crop[None]} for crop in crops)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.inputs, None)

    model = prepared(model)
    model.metadata_props.add(key='onnx.infer', value='onnxruntime.quant')  # else it advises to let it optimise first
    with TemporaryDirectory() as folder:
        file = Path(folder, 'int8.onnx')
        quantize_static(model, str(file), Crops(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=in_float(model),
                        extra_options={'CalibMovingAverage': True})
        return onnx.load(str(file))
