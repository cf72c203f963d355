"""The network as an ONNX graph, cell by cell as in `src.model`, for `src.deployment.onnx_graph`'s way with channels.

What differs from the cells, and not in the result:

- Where half of a branch's channels is processed, the other half runs along unchanged: filters [0 1 0], weights of 1.
- A channel shuffle renumbers channels; weights afterwards are arranged by their numbers.
- Weights of a whole image are spread to the size of what they are multiplied with. Those of a module's first block go
  into the next block's weights, which are of the smallest branch's size.
- Sums end in a convolution where they can: runtimes compute that, the sum and the ReLU as one.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper

from src import model
from src.deployment.onnx_graph import BATCH, EMPTY, FeatureMap, Graph, Layer, layers_of
from src.deployment.wrappers import ArgMax, Deployed, Normalise
from src.layers import Identity


def doubled(layers: list[Layer]) -> list[Layer]:
    """Return layers that give twice as much (the last has no activation, or ReLU)."""
    last = layers[-1]
    return [*layers[:-1], last._replace(weight=2 * last.weight, bias=2 * last.bias)]


def second_half(x: FeatureMap) -> FeatureMap:
    """Return `x` with the second half of its channels alone, numbered from 0; the other places count as EMPTY."""
    half = (x.channels.max() + 1) // 2
    return x._replace(channels=np.where(x.channels < half, EMPTY, x.channels - half))


def shuffled(x: FeatureMap) -> FeatureMap:
    """Return `x` with its channels' numbers after a shuffle of two groups."""
    half = (x.channels.max() + 1) // 2
    return x._replace(channels=np.where(x.channels == EMPTY, EMPTY, x.channels % half * 2 + x.channels // half))


def stem(graph: Graph, cell: model.Stem, x: FeatureMap) -> FeatureMap:
    """Return branch 0."""
    (first,), half = layers_of(cell.conv1), model.STEM_CHANNELS // 2
    a, b = (graph.layer(x, first._replace(weight=first.weight[rows], bias=first.bias[rows]))
            for rows in (slice(half), slice(half, None)))
    a = graph.layers(a, layers_of(cell.branch1))
    for child in (cell.expand_conv, cell.depthwise_conv, cell.linear_conv):
        b = graph.layers(b, layers_of(child))
    channels = np.concatenate((a.channels, np.where(b.channels == EMPTY, EMPTY, b.channels + half)))
    return shuffled(FeatureMap(graph.add('Concat', a, b, axis=1), channels, a.size))


def weighting_block(graph: Graph, cell: model.WeightingBlock, xs: Sequence[FeatureMap], factors: Sequence[str | None],
                    last: bool) -> tuple[list[FeatureMap], list[str | None]]:
    """Return the branches after a block, and factors of the smallest branch's size that they still lack.

    Args:
        graph: to add to.
        cell: the block.
        xs: branches.
        factors: that `xs` lack; None: nothing.
        last: nothing may lack afterwards, and branch 0 is to be doubled.
    """
    smallest, halves = xs[-1].size, [second_half(x) for x in xs]
    bounds = np.cumsum([0] + [half.channels.max() + 1 for half in halves])
    pooled, numbers = [], []
    for x, half, factor, start in zip(xs, halves, factors, bounds):
        kernel = x.size[0] // smallest[0]
        pool = x.name if kernel == 1 else graph.add('AveragePool', x, kernel_shape=[kernel] * 2, strides=[kernel] * 2)
        pooled.append(graph.add('Mul', pool, factor) if factor else pool)
        numbers.append(np.where(half.channels == EMPTY, EMPTY, half.channels + start))
    weighting = cell.cross_resolution_weighting
    joint = FeatureMap(graph.add('Concat', *pooled, axis=1), np.concatenate(numbers), smallest)
    joint = graph.layers(joint, layers_of(weighting.conv1))
    weights, = layers_of(weighting.conv2)
    outputs, lacking = [], []
    for b, (x, half, factor, number) in enumerate(zip(xs, halves, factors, numbers)):
        weight = graph.layer(joint, weights, number).name
        weight = graph.enlarge(graph.add('Mul', weight, factor) if factor else weight, number, smallest, x.size)
        y = graph.layers(half._replace(name=graph.add('Mul', x, weight)), layers_of(cell.depthwise_convs[b]))
        mean = FeatureMap(graph.add('GlobalAveragePool', y), half.channels, (1, 1))
        squeeze, excite = (layers_of(conv)[0] for conv in (cell.spatial_weighting[b].conv1,
                                                           cell.spatial_weighting[b].conv2))
        weight = graph.layer(graph.layer(mean, squeeze), excite, half.channels).name
        if last and b == 0:
            weight = graph.add('Add', weight, weight)
        weight = graph.enlarge(weight, half.channels, (1, 1), x.size if last else smallest)
        complete = last or x.size == smallest
        outputs.append(shuffled(x._replace(name=graph.add('Mul', y, weight) if complete else y.name)))
        lacking.append(None if complete else weight)
    return outputs, lacking


def shuffle_unit(graph: Graph, cell: model.ShuffleUnit, x: FeatureMap, double: bool) -> FeatureMap:
    """Return a branch after a unit, doubled if asked for."""
    half, layers = second_half(x), layers_of(cell.branch2)
    kept = ((x.channels != EMPTY) & (half.channels == EMPTY)) * (1.0 + double)
    keep = Layer(kept[:, None, None, None], np.zeros(len(kept)), 1, True, None)
    layers[-1] = layers[-1]._replace(act=None)  # the kept half is of ReLUs already
    y = graph.layers(half, doubled(layers) if double else layers, half.channels)
    first = graph.layer(x._replace(channels=np.arange(len(kept))), keep)
    return shuffled(x._replace(name=graph.add('Relu', graph.add('Add', y, first))))


def blocks(graph: Graph, cell: model.StageModule, xs: Sequence[FeatureMap]) -> list[FeatureMap]:
    """Return the branches after a module's blocks, branch 0 doubled."""
    if cell.naive:
        outputs = []
        for b, (x, units) in enumerate(zip(xs, cell.layers)):
            units = units.cell_list
            for unit in units:
                x = shuffle_unit(graph, unit, x, double=b == 0 and unit is units[-1])
            outputs.append(x)
        return outputs
    factors: list[str | None] = [None] * len(xs)
    for block in cell.layers:
        xs, factors = weighting_block(graph, block, xs, factors, last=block is cell.layers[-1])
    return list(xs)


def stage_module(graph: Graph, cell: model.StageModule, xs: Sequence[FeatureMap]) -> list[FeatureMap]:
    """Return the branches after blocks and fusion."""
    xs = blocks(graph, cell, xs)
    last, first, outputs = len(xs) - 1, xs[0], []
    for i, x in enumerate(xs):
        own, low = x.name, None
        for j in range(last, i, -1):
            path = graph.layers(xs[j], layers_of(cell.fuse_layers[i][j]), x.channels).name
            low = graph.enlarge(graph.add('Add', path, low) if low else path, x.channels, xs[j].size, xs[j - 1].size)
        if low:
            own = graph.add('Add', own, low)
        if i == 0:
            first = x._replace(name=own)
        for j in range(i):
            path = layers_of(cell.fuse_layers[i][j])
            y = graph.layers(xs[j] if j else first, path if j else doubled(path), x.channels)
            own = graph.add('Add', y, own)
        outputs.append(x._replace(name=graph.add('Relu', own)))
    return outputs


def head(graph: Graph, cell: model.IterativeHead, xs: Sequence[FeatureMap]) -> FeatureMap:
    """Return branch 0's features, the lower ones' in them."""
    y = None
    for x, after, project in zip(reversed(xs), [*reversed(xs[:-1]), None], cell.projects):
        if y:
            larger = graph.enlarge(y.name, x.channels, y.size, x.size, mode='linear',
                                   coordinate_transformation_mode='align_corners')
            x = x._replace(name=graph.add('Add', x, larger))
        y = graph.layers(x, layers_of(project), after and after.channels)
    return y


def heatmaps(graph: Graph, network: model.LiteHRNet, x: FeatureMap) -> FeatureMap:
    """Return the network's output for a normalised image."""
    backbone, graph.part = network.backbone, 'stem'
    xs = [stem(graph, backbone.stem, x)]
    for s, (transition, modules) in enumerate(backbone.stages):
        graph.part = f'transition{s}'
        xs = [source if isinstance(cell, Identity) else graph.layers(source, layers_of(cell))
              for cell, source in zip(transition, [*xs, xs[-1]])]
        for m, module in enumerate(modules):
            graph.part = f'stage{s}.{m}'
            xs = stage_module(graph, module, xs)
    graph.part = 'head'
    x, graph.part = head(graph, backbone.head_layer, xs), ''
    final, = layers_of(network.keypoint_head)
    return graph.layer(x, final, np.arange(len(final.weight)))


def normalised(graph: Graph, cell: Normalise, name: str, size: tuple[int, int]) -> FeatureMap:
    """Return what the network takes of uint8 crops (N, H, W, 3)."""
    channels = np.arange(3)[::-1] if cell.reverse else np.arange(3)
    factor, offset = (value.asnumpy()[:, channels] for value in (cell.factor, cell.offset))
    x = graph.add('Transpose', graph.add('Cast', name, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    return FeatureMap(graph.add('Add', graph.add('Mul', x, factor), offset), channels, size)


def joints(graph: Graph, cell: ArgMax, maps: FeatureMap) -> None:
    """Add what `ArgMax` does with heatmaps."""
    def number(value: float) -> np.ndarray:
        return np.full((1, 1, 1), float(value))

    def true(operator: str, *values: str | np.ndarray) -> str:
        return graph.add('Cast', graph.add(operator, *values), to=TensorProto.FLOAT)

    def dot(a: str, b: str | np.ndarray) -> str:
        return graph.add('ReduceSum', graph.add('Mul', a, b), axes=[2])

    def cut(value: str, start: int, stop: int) -> str:
        return graph.add('Slice', value, np.array([start]), np.array([stop]), np.array([2]))

    rows = graph.add('Reshape', maps, np.array(cell.rows))
    index = graph.add('Cast', graph.add('ArgMax', rows, axis=2), to=TensorProto.FLOAT)
    mask = true('Equal', cell.places.asnumpy(), index)
    x, y = (dot(mask, place.asnumpy()) for place in (cell.x, cell.y))
    quarter: str | np.ndarray = number(0.25)  # 0 at the border
    for position, length in ((x, cell.width), (y, cell.height)):
        inside = graph.add('Mul', true('Greater', position, number(1)), true('Less', position, number(length - 1)))
        quarter = graph.add('Mul', inside, quarter)
    score, end = graph.add('ReduceMax', rows, axes=[2]), cell.rows[2]
    positive, places = true('Greater', score, number(0)), []
    for position, step in ((x, 1), (y, cell.width)):
        after = dot(cut(rows, step, end), cut(mask, 0, -step))
        before = dot(cut(rows, 0, -step), cut(mask, step, end))
        move = graph.add('Mul', quarter, graph.add('Sign', graph.add('Sub', after, before)))
        position = graph.add('Mul', graph.add('Add', graph.add('Add', position, move), number(1)), positive)
        places.append(graph.add('Mul', graph.add('Sub', position, number(1)), number(model.STRIDE)))
    graph.add('Concat', *places, score, axis=2)


def onnx_model(deployed: Deployed, image_size: tuple[int, int], batch_size: int) -> ModelProto:
    """Return the ONNX model of a network for images of (width, height); `batch_size` 0: any number of them."""
    graph, network, normalise = Graph(), deployed.network, deployed.normalise
    size = (image_size[1], image_size[0])
    x = normalised(graph, normalise, 'x', size) if normalise else FeatureMap('x', np.arange(3), size)
    maps = heatmaps(graph, network, x)
    shape, name = (len(maps.channels), *maps.size), 'heatmaps'
    if deployed.arg_max:
        joints(graph, deployed.arg_max, maps)
        shape, name = (len(maps.channels), 3), 'joints'
    inputs = helper.make_tensor_value_info('x', *((TensorProto.UINT8, [BATCH, *size, 3]) if normalise else
                                                  (TensorProto.FLOAT, [BATCH, 3, *size])))
    return graph.model(inputs, name, shape, batch_size)
