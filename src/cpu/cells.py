"""The network's cells on our compiled operators, sharing its parameters.

For training and inference in this process, on the CPU; a network with these cells can't be exported. Inputs of an
operator stand in the order in which its C++ function takes them.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.cpu.kernels import Shapes, build_library, operator, set_threads
from src.layers import ConvBN, ConvSequence, Identity
from src.model import STEM_CHANNELS, StageModule, Stem, WeightingBlock


class Affine(nn.Cell):
    """What follows a convolution in inference as (scale, shift): BN on its running statistics, or a folded bias."""

    def __init__(self, conv: nn.Conv2d, bn: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.folded = not isinstance(bn, nn.BatchNorm2d)
        if self.folded:
            self.scale, self.shift = ms.Tensor(np.ones(conv.out_channels, np.float32)), conv.bias
        else:
            self.gamma, self.beta, self.mean, self.variance = bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance
            self.eps = bn.eps
            self.rsqrt = ops.Rsqrt()

    def construct(self):
        if self.folded:
            return self.scale, self.shift
        scale = self.gamma * self.rsqrt(self.variance + self.eps)
        return scale, self.beta - self.mean * scale


def _momenta(*norms: nn.Cell) -> ms.Tensor:
    # MindSpore's cell keeps the share of the new statistics under this name.
    return ms.Tensor(np.array([1 - getattr(bn, 'momentum', 1) for bn in norms], np.float32))


class Differentiable(nn.Cell):
    """An operator on the statistics of the batch, and its gradient: (tensors, parameters, running) -> (results, saved).

    Tensors and parameters are trained through. `running` is BN's: means, variances, momenta; they have no gradient and
    stand in for it. `saved` is what the gradient needs.

    Args:
        name: of the operators, less 'Train' and 'Gradient'.
        tensors, parameters: how many there are.
        shapes: see `operator`.
        results: how many of the outputs are not only saved.
        keep_results: whether the gradient reads them, too.
    """

    def __init__(self, library: Path, name: str, tensors: int, parameters: int, shapes: Shapes, results: int = 1,
                 keep_results: bool = False) -> None:
        super().__init__(auto_prefix=False)
        self.tensors, self.results, self.saved = tensors, results, 0 if keep_results else results
        inputs = tensors + parameters
        self.forward = operator(library, f'{name}Train', inputs, shapes)
        self.backward = operator(library, f'{name}Gradient', inputs, lambda *sizes: [*sizes[:inputs]])

    def construct(self, tensors, parameters, running):
        return self.forward(*tensors, *parameters, *running)

    def bprop(self, tensors, parameters, running, out, dout):
        gradients = self.backward(*tensors, *parameters, *out[self.saved:], *dout[:self.results])
        return gradients[:self.tensors], gradients[self.tensors:], running


class FastBN(nn.Cell):
    """BN and ReLU after a convolution that stays MindSpore's."""

    def __init__(self, library: Path, conv: nn.Conv2d, bn: nn.Cell, act: nn.Cell | None) -> None:
        super().__init__(auto_prefix=False)
        self.conv, self.bn = conv, bn
        self.act = Identity() if act is None else act
        self.momentum = _momenta(bn)
        self.train_ = Differentiable(library, 'Norm' + 'Relu' * (act is not None), 1, 2,
                                     lambda z, gamma, *_: [z, [2, *gamma]])

    def construct(self, x):
        x = self.conv(x)
        if not self.training:
            return self.act(self.bn(x))
        return self.train_((x,), (self.bn.gamma, self.bn.beta),
                           (self.bn.moving_mean, self.bn.moving_variance, self.momentum))[0]


class FastConvBN(nn.Cell):
    """Depthwise 3x3 or 1x1 convolution, BN (or the bias it was folded to) and, after 1x1, perhaps ReLU."""

    def __init__(self, library: Path, conv: nn.Conv2d, bn: nn.Cell, act: nn.Cell | None) -> None:
        super().__init__(auto_prefix=False)
        self.conv, self.bn = conv, bn
        self.affine = Affine(conv, bn)
        self.momentum = _momenta(bn)
        stride = conv.stride[0]

        def shapes(x: list[int], weight: list[int], *_: list[int]) -> list[list[int]]:
            y = [x[0], weight[0], -(-x[2] // stride), -(-x[3] // stride)]
            return [y, [2, weight[0]]] if depthwise else [y, y, [2, weight[0]]]

        depthwise = conv.kernel_size == (3, 3)
        name = f'Depthwise{stride}' if depthwise else 'Pointwise' + 'Relu' * (act is not None)
        self.train_ = Differentiable(library, name, 1, 3, shapes)
        self.infer = operator(library, f'{name}Inference', 2, lambda *sizes: shapes(*sizes)[:1])

    def construct(self, x):
        if self.training:
            return self.train_((x,), (self.conv.weight, self.bn.gamma, self.bn.beta),
                               (self.bn.moving_mean, self.bn.moving_variance, self.momentum))[0]
        scale, shift = self.affine()
        return self.infer(x, self.conv.weight, scale, shift)


class FastBlock(nn.Cell):
    """Cells of several convolutions as one operator.

    Args:
        units: (convolution, BN or what folding left of it), in the operator's order.
        branches: tensors that go in; `shapes` reads them alone.
        saved: (shapes of branches and parameters) -> how many values training saves for the gradient; None: for
            inference alone.
        gates: of the last units: convolutions with bias whose parameters follow the unit's.
    """

    def __init__(self, library: Path, name: str, units: list[tuple[nn.Cell, nn.Cell]], branches: int, shapes: Shapes,
                 saved: Callable[..., int] | None = None, gates: Sequence[tuple[nn.Cell, nn.Cell]] = ()) -> None:
        super().__init__(auto_prefix=False)
        self.affines = nn.CellList([Affine(*unit) for unit in units], auto_prefix=False)
        # Cells, not their parameters: to MindSpore 1.10 a parameter in a tuple is a constant without a gradient.
        self.units, self.gates, self.ungated = units, list(gates), len(units) - len(gates)
        self.infer = operator(library, f'{name}Inference', branches, lambda *sizes: shapes(*sizes[:branches]))
        if saved is not None and all(isinstance(bn, nn.BatchNorm2d) for _, bn in units):
            inputs = branches + 3 * len(units) + 4 * len(gates)
            self.momenta = _momenta(*(bn for _, bn in units))
            parameters, running = [], []
            for i, (conv, bn) in enumerate(units):
                parameters += [conv.weight, bn.gamma, bn.beta]
                running += [bn.moving_mean, bn.moving_variance]
                for gate in self.gates[i - self.ungated] if i >= self.ungated else ():
                    parameters += [gate.weight, gate.bias]
            # Past Cell's bookkeeping, which would take the parameters for its own.
            object.__setattr__(self, 'parameters_', ms.ParameterTuple(parameters))
            object.__setattr__(self, 'running', ms.ParameterTuple(running))
            self.train_ = Differentiable(library, name, branches, inputs - branches,
                                         lambda *sizes: [*shapes(*sizes[:branches]), [saved(*sizes[:inputs])]],
                                         branches, keep_results=True)

    def construct(self, xs):
        if self.training:
            return self.train_(xs, self.parameters_, self.running + (self.momenta,))[:len(xs)]
        inputs = xs
        for i, (conv, _) in enumerate(self.units):
            inputs += (conv.weight,) + self.affines[i]()
            if i >= self.ungated:
                first, second = self.gates[i - self.ungated]
                inputs += (first.weight, first.bias, second.weight, second.bias)
        return self.infer(*inputs)


def _fast_stem(library: Path, stem: Stem) -> FastBlock:
    cells = [stem.conv1, *stem.branch1, stem.expand_conv, stem.depthwise_conv, stem.linear_conv]
    return FastBlock(library, 'Stem', [(cell.conv, cell.bn) for cell in cells], 1,
                     lambda x: [[x[0], STEM_CHANNELS, -(-x[2] // 4), -(-x[3] // 4)]])


BRANCHES = (2, 3, 4)  # that the operators of a stage module are made for


def _fast_fusion(library: Path, module: StageModule) -> FastBlock:
    """Return the exchange between a module's branches."""
    n, units, levels = len(module.fuse_layers), [], []
    for i, row in enumerate(module.fuse_layers):
        for j, path in enumerate(row):
            cells = [cell for _, cell in path.cells_and_names() if not cell.name_cells()]
            convs = [pair for pair in zip(cells, cells[1:]) if isinstance(pair[0], nn.Conv2d)]
            units += convs
            levels += [j if j > i else j + 1 + k // 2 for k in range(len(convs))]

    def saved(*sizes: list[int]) -> int:
        batch, pixels = sizes[0][0], [height * width for *_, height, width in sizes[:n]]
        return sum((batch * pixels[level] + 2) * weight[0] for level, weight in zip(levels, sizes[n::3]))

    return FastBlock(library, f'Fusion{n}', units, n, lambda *xs: [*xs], saved)


def _fast_weighting(library: Path, block: WeightingBlock) -> FastBlock:
    cross = block.cross_resolution_weighting
    units = [(unit.conv, unit.bn) for unit in (cross.conv1, cross.conv2, *block.depthwise_convs)]
    gates = [(gate.conv1.conv, gate.conv2.conv) for gate in block.spatial_weighting]
    n = len(gates)

    def saved(*sizes: list[int]) -> int:
        xs, (hidden, total), parameters = sizes[:n], sizes[n][:2], sizes[n + 6:]
        batch, pixels = xs[0][0], xs[-1][2] * xs[-1][3]
        return ((2 * batch * pixels + 2) * total + (2 * batch * pixels + 2) * hidden
                + sum(batch * bias1[0] + 2 * (batch + 1) * bias2[0]
                      for bias1, bias2 in zip(parameters[4::7], parameters[6::7])))

    return FastBlock(library, f'Weighting{n}', units, n, lambda *xs: [*xs], saved, gates)


class FastSequence(nn.Cell):
    """`ConvSequence` in units of convolution, BN and ReLU."""

    def __init__(self, library: Path, sequence: ConvSequence) -> None:
        super().__init__(auto_prefix=False)
        cells = list(sequence.name_cells().values())
        starts = [i for i, cell in enumerate(cells) if isinstance(cell, nn.Conv2d)]
        self.units = nn.CellList([_fast_unit(library, *cells[start:end])
                                  for start, end in zip(starts, [*starts[1:], len(cells)])], auto_prefix=False)

    def construct(self, x):
        for unit in self.units:
            x = unit(x)
        return x


def _fast_unit(library: Path, conv: nn.Conv2d, bn: nn.Cell, act: nn.Cell | None = None) -> nn.Cell | None:
    if not (act is None or isinstance(act, nn.ReLU)):
        return None
    pointwise = (conv.kernel_size, conv.stride, conv.group) == ((1, 1), (1, 1), 1)
    depthwise = (conv.kernel_size == (3, 3) and conv.stride in ((1, 1), (2, 2)) and act is None
                 and conv.group == conv.in_channels == conv.out_channels)
    return (FastConvBN if pointwise or depthwise else FastBN)(library, conv, bn, act)


def _fast(cell: nn.Cell, library: Path) -> nn.Cell | None:
    """Return what computes the same as a cell on our operators; None where they are not made for it."""
    if any(getattr(part, 'use_batch_statistics', None) is False for _, part in cell.cells_and_names()):
        return None  # frozen; our training operators always take the statistics of the batch
    if isinstance(cell, WeightingBlock) and len(cell.shuffle) in BRANCHES:
        return _fast_weighting(library, cell)
    if isinstance(cell, ConvBN):
        return _fast_unit(library, cell.conv, cell.bn, cell.act)
    if isinstance(cell, StageModule) and len(cell.fuse_layers) in BRANCHES:
        return _fast_fusion(library, cell)
    if isinstance(cell, Stem):
        return _fast_stem(library, cell)
    return FastSequence(library, cell) if isinstance(cell, ConvSequence) else None


def accelerate(network: nn.Cell, threads: int = 0) -> bool:
    """Put compiled operators into a network, in place, and return whether they could be compiled.

    Args:
        network: a LiteHRNet, as built, loaded or folded; its parameters stay the same objects.
        threads: that the operators use; 0: all cores this process may use.
    """
    library = build_library()
    if library is None:
        return False
    set_threads(library, threads)
    inside = set()
    for _, cell in list(network.cells_and_names()):
        fast = None if id(cell) in inside else _fast(cell, library)
        if fast is not None:
            if not isinstance(cell, Stem):  # in training it runs cell by cell
                covered = cell.fuse_layers if isinstance(cell, StageModule) else cell
                inside.update(id(part) for _, part in covered.cells_and_names())
            put_fast(cell, fast)
    return True


def put_fast(cell: nn.Cell, fast: nn.Cell) -> None:
    """Give a cell what computes the same."""
    # Behind the cells it stands for, past Cell's own bookkeeping: parameters keep their names and places.
    cell._cells['fast'] = fast
    object.__setattr__(cell, 'fast', fast)


def decelerate(network: nn.Cell) -> None:
    """Take the compiled operators out of a network: no file can hold them."""
    for _, cell in list(network.cells_and_names()):
        if cell._cells.pop('fast', None) is not None:
            object.__delattr__(cell, 'fast')
