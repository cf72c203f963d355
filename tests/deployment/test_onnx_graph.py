"""The rewriting of MindSpore's ONNX graphs, on small graphs in its spelling."""
from __future__ import annotations

import mindspore  # noqa: F401  before onnx
import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='needs requirements-onnx.txt')
onnxruntime = pytest.importorskip('onnxruntime', reason='needs requirements-onnx.txt')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from src.deployment.onnx_graph import simplify  # noqa: E402


def constant(name: str, *values: int) -> onnx.NodeProto:
    return helper.make_node('Constant', [], [name], value=numpy_helper.from_array(np.array(values, np.int64)))


def model_of(nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, ...]],
             shape: tuple[int, ...]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, 'g', [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
                                           for name, sizes in inputs.items()],
                              [helper.make_tensor_value_info('out', TensorProto.FLOAT, shape)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 11)], ir_version=6)


def both(model: onnx.ModelProto) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """What the model computes before and after, and its operators then."""
    rng = np.random.default_rng(0)
    given = {value.name: rng.standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32)
             for value in model.graph.input}
    before, = onnxruntime.InferenceSession(model.SerializeToString()).run(None, given)
    simplify(model)
    onnx.checker.check_model(model)
    after, = onnxruntime.InferenceSession(model.SerializeToString()).run(None, given)
    return before, after, [node.op_type for node in model.graph.node]


@pytest.mark.parametrize('kind', ['Add', 'Mul'])
@pytest.mark.parametrize('low_first', [False, True])
def test_nearest_upsampling(kind: str, low_first: bool) -> None:
    operands = ['h6', 'l6'][::-1 if low_first else 1]
    nodes = [constant('hs', -1, 3, 4, 2, 5, 2), constant('ls', -1, 3, 4, 1, 5, 1), constant('os', -1, 3, 8, 10),
             helper.make_node('Reshape', ['high', 'hs'], ['h6']), helper.make_node('Reshape', ['low', 'ls'], ['l6']),
             helper.make_node(kind, operands, ['y6']), helper.make_node('Reshape', ['y6', 'os'], ['y']),
             helper.make_node('Identity', ['y'], ['same']), helper.make_node('Relu', ['same'], ['out'])]
    before, after, operators = both(model_of(nodes, {'high': (2, 3, 8, 10), 'low': (2, 3, 4, 5)}, (2, 3, 8, 10)))
    np.testing.assert_array_equal(before, after)
    assert operators == ['Resize', kind, 'Relu']


def test_upsampling_in_a_row() -> None:
    """MindSpore joins the reshapes between two of them into one."""
    nodes = [constant('as', -1, 3, 2, 2, 2, 2), constant('bs', -1, 3, 2, 1, 2, 1), constant('cs', -1, 3, 4, 2, 4, 2),
             constant('ds', -1, 3, 4, 1, 4, 1), constant('os', -1, 3, 8, 8),
             helper.make_node('Reshape', ['a', 'as'], ['a6']), helper.make_node('Reshape', ['b', 'bs'], ['b6']),
             helper.make_node('Add', ['a6', 'b6'], ['x6']), helper.make_node('Reshape', ['x6', 'ds'], ['d6']),
             helper.make_node('Reshape', ['c', 'cs'], ['c6']), helper.make_node('Add', ['c6', 'd6'], ['y6']),
             helper.make_node('Reshape', ['y6', 'os'], ['y']), helper.make_node('Relu', ['y'], ['out'])]
    before, after, operators = both(model_of(nodes, {'a': (2, 3, 4, 4), 'b': (2, 3, 2, 2), 'c': (2, 3, 8, 8)},
                                             (2, 3, 8, 8)))
    np.testing.assert_array_equal(before, after)
    assert operators == ['Resize', 'Add', 'Resize', 'Add', 'Relu']


def test_shuffle_and_mean() -> None:
    nodes = [constant('s', -1, 6, 4, 5), helper.make_node('SequenceConstruct', ['a', 'b'], ['pair']),
             helper.make_node('ConcatFromSequence', ['pair'], ['stacked'], axis=2, new_axis=1),
             helper.make_node('Reshape', ['stacked', 's'], ['shuffled']),
             helper.make_node('ReduceMean', ['shuffled'], ['out'], axes=[2, 3], keepdims=1)]
    before, after, operators = both(model_of(nodes, {'a': (2, 3, 4, 5), 'b': (2, 3, 4, 5)}, (2, 6, 1, 1)))
    np.testing.assert_allclose(before, after, atol=1e-6)
    assert operators == ['Unsqueeze', 'Unsqueeze', 'Concat', 'Reshape', 'GlobalAveragePool']


def test_other_reshapes_and_sums_stay() -> None:
    nodes = [constant('s', -1, 12), helper.make_node('Reshape', ['a', 's'], ['x']),
             helper.make_node('Reshape', ['b', 's'], ['y']), helper.make_node('Add', ['x', 'y'], ['z']),
             helper.make_node('ReduceMean', ['z'], ['out'], axes=[1], keepdims=1)]
    before, after, operators = both(model_of(nodes, {'a': (2, 3, 4), 'b': (2, 3, 4)}, (2, 1)))
    np.testing.assert_array_equal(before, after)
    assert operators == ['Reshape', 'Reshape', 'Add', 'ReduceMean']
