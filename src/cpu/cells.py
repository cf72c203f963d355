"""The network's cells on our compiled operators, sharing its parameters.

For training and inference in this process, on the CPU; a network with these cells can't be exported. Inputs of an
operator stand in the order in which its C++ function takes them.
"""
from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.cpu.kernels import Shapes, build_library, operator, set_threads
from src.layers import ConvBN, ConvSequence, Identity, Upsample
from src.model import BranchSum, StageModule, Stem, WeightingBlock


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


def _momentum(bn: nn.Cell) -> ms.Tensor:
    # MindSpore's cell keeps the share of the new statistics under this name.
    return ms.Tensor(np.array([1 - getattr(bn, 'momentum', 1)], np.float32))


class Differentiable(nn.Cell):
    """An operator on the statistics of the batch, and its gradient: (inputs, running) -> (results, what was saved).

    `inputs` are trained through: tensors and parameters. `running` is BN's: means, variances, momentum; they have no
    gradient and stand in for it.

    Args:
        name: of the operators, less 'Train' and 'Gradient'.
        shapes: see `operator`.
        results: how many of the outputs are not only saved.
        keep_results: whether the gradient reads them, too.
    """

    def __init__(self, library: Path, name: str, inputs: int, shapes: Shapes, results: int = 1,
                 keep_results: bool = False) -> None:
        super().__init__(auto_prefix=False)
        self.results, self.saved = results, 0 if keep_results else results
        self.forward = operator(library, f'{name}Train', inputs, shapes)
        self.backward = operator(library, f'{name}Gradient', inputs, lambda *sizes: [*sizes[:inputs]])

    def construct(self, inputs, running):
        return self.forward(*inputs, *running)

    def bprop(self, inputs, running, out, dout):
        return self.backward(*inputs, *out[self.saved:], *dout[:self.results]), running


class FastBN(nn.Cell):
    """BN and ReLU after a convolution that stays MindSpore's."""

    def __init__(self, library: Path, conv: nn.Conv2d, bn: nn.Cell, act: nn.Cell | None) -> None:
        super().__init__(auto_prefix=False)
        self.conv, self.bn = conv, bn
        self.act = Identity() if act is None else act
        self.momentum = _momentum(bn)
        self.train_ = Differentiable(library, 'Norm' + 'Relu' * (act is not None), 3,
                                     lambda z, gamma, *_: [z, [2, *gamma]])

    def construct(self, x):
        x = self.conv(x)
        if not self.training:
            return self.act(self.bn(x))
        return self.train_((x, self.bn.gamma, self.bn.beta),
                           (self.bn.moving_mean, self.bn.moving_variance, self.momentum))[0]


class FastConvBN(nn.Cell):
    """Depthwise 3x3 or 1x1 convolution, BN (or the bias it was folded to) and, after 1x1, perhaps ReLU."""

    def __init__(self, library: Path, conv: nn.Conv2d, bn: nn.Cell, act: nn.Cell | None) -> None:
        super().__init__(auto_prefix=False)
        self.conv, self.bn = conv, bn
        self.affine = Affine(conv, bn)
        self.momentum = _momentum(bn)
        stride = conv.stride[0]

        def shapes(x: list[int], weight: list[int], *_: list[int]) -> list[list[int]]:
            y = [x[0], weight[0], -(-x[2] // stride), -(-x[3] // stride)]
            return [y, [2, weight[0]]] if depthwise else [y, y, [2, weight[0]]]

        depthwise = conv.kernel_size == (3, 3)
        name = f'Depthwise{stride}' if depthwise else 'Pointwise' + 'Relu' * (act is not None)
        self.train_ = Differentiable(library, name, 4, shapes)
        self.infer = operator(library, f'{name}Inference', 2, lambda *sizes: shapes(*sizes)[:1])

    def construct(self, x):
        if self.training:
            return self.train_((x, self.conv.weight, self.bn.gamma, self.bn.beta),
                               (self.bn.moving_mean, self.bn.moving_variance, self.momentum))[0]
        scale, shift = self.affine()
        return self.infer(x, self.conv.weight, scale, shift)


class AddEnlarged(nn.Cell):
    """`Upsample` by 2 with a sum."""

    def __init__(self, library: Path) -> None:
        super().__init__(auto_prefix=False)
        self.forward = operator(library, 'AddEnlarged', 2, lambda high, low: [high])
        self.backward = operator(library, 'SumBlocks', 1, lambda d: [[d[0], d[1], d[2] // 2, d[3] // 2]])

    def construct(self, high, low):
        return self.forward(high, low)

    def bprop(self, high, low, out, dout):
        return dout, self.backward(dout)


class FastBranchSum(nn.Cell):
    """`BranchSum` of as many branches as `BRANCHES` says."""

    def __init__(self, library: Path, branch: int, enlarge: bool) -> None:
        super().__init__()
        self.branch, suffix = branch, 'Enlarged' * enlarge

        def gradients(x: list[int], *_: list[int]) -> list[list[int]]:
            low = [x[0], x[1], x[2] // 2, x[3] // 2]
            return [x] + [x] * (branch > 0) + [low] * enlarge

        self.forward = operator(library, f'Sum{branch + 1}{suffix}', 1, lambda x, *_: [x] * (1 + (branch == 0)))
        self.backward = operator(library, ('Sum' if branch else 'First') + f'{suffix}Gradient', 1, gradients)

    def construct(self, xs):
        return self.forward(*xs)

    def bprop(self, xs, out, dout):
        if self.branch == 0:
            return (self.backward(out[0], *dout),)
        gradients = self.backward(out, dout)
        return (gradients[:1] + gradients[1:2] * self.branch + gradients[2:],)


class FastInference(nn.Cell):
    """An operator for inference alone, on tensors and on convolutions with what follows them.

    Args:
        units: (convolution, BN or what folding left of it), in the operator's order.
        inputs: how many tensors `shapes` reads.
    """

    def __init__(self, library: Path, name: str, units: list[tuple[nn.Cell, nn.Cell]], inputs: int,
                 shapes: Shapes) -> None:
        super().__init__(auto_prefix=False)
        self.units = units
        self.affines = nn.CellList([Affine(*unit) for unit in units], auto_prefix=False)
        self.infer = operator(library, f'{name}Inference', inputs, shapes)

    def construct(self, xs):
        inputs = xs
        for i, (conv, _) in enumerate(self.units):
            inputs += (conv.weight,) + self.affines[i]()
        return self.infer(*inputs)


def _fast_stem(library: Path, stem: Stem) -> FastInference:
    cells = [stem.conv1, *stem.branch1, stem.expand_conv, stem.depthwise_conv, stem.linear_conv]
    return FastInference(library, 'Stem', [(cell.conv, cell.bn) for cell in cells], 2,
                         lambda x, weight, *_: [[x[0], weight[0], -(-x[2] // 4), -(-x[3] // 4)]])


def _fast_fusion(library: Path, module: StageModule) -> FastInference:
    """Return the exchange between a module's branches."""
    n, units = len(module.fuse_layers), []
    for _, sequence in module.fuse_layers.cells_and_names():
        if isinstance(sequence, ConvSequence):
            cells = list(sequence.name_cells().values())
            units += [pair for pair in zip(cells, cells[1:]) if isinstance(pair[0], nn.Conv2d)]
    return FastInference(library, f'Fusion{n}', units, n, lambda *sizes: [*sizes[:n]])


# Inputs of the weighting operators besides the branches: those that all share, and those of each branch. In inference
# scale and shift stand for gamma and beta.
CROSS = ('weight1', 'gamma1', 'beta1', 'weight2', 'gamma2', 'beta2')
OWN = ('filter', 'gamma', 'beta', 'weight1', 'bias1', 'weight2', 'bias2')
BRANCHES = (2, 3, 4)


class FastWeightingBlock(nn.Cell):
    """`WeightingBlock` of as many branches as `BRANCHES` says as one operator."""

    def __init__(self, library: Path, block: WeightingBlock) -> None:
        super().__init__(auto_prefix=False)
        cross = block.cross_resolution_weighting
        self.units = [(unit.conv, unit.bn) for unit in (cross.conv1, cross.conv2, *block.depthwise_convs)]
        # Cells, not their parameters: to MindSpore 1.10 a parameter in a tuple is a constant without a gradient.
        self.gates = [(gate.conv1.conv, gate.conv2.conv) for gate in block.spatial_weighting]
        self.affines = nn.CellList([Affine(conv, bn) for conv, bn in self.units], auto_prefix=False)
        self.momentum = _momentum(cross.conv1.bn)
        n = len(self.gates)
        inputs = n + len(CROSS) + n * len(OWN)

        def shapes(*sizes: list[int]) -> list[list[int]]:
            xs, (hidden, total), own = sizes[:n], sizes[n][:2], sizes[n + len(CROSS):inputs]
            batch, pixels = xs[0][0], xs[-1][2] * xs[-1][3]
            wide, narrow = [batch, total, pixels], [batch, hidden, pixels]
            outputs = [*xs, wide, narrow, narrow, wide, wide, [2, hidden], [2, total]]
            for bias1, bias2 in zip(own[OWN.index('bias1')::len(OWN)], own[OWN.index('bias2')::len(OWN)]):
                outputs += [[2, *bias2], [batch, *bias2], [batch, *bias1], [batch, *bias2]]
            return outputs

        self.train_ = Differentiable(library, f'Weighting{n}', inputs, shapes, n, keep_results=True)
        self.infer = operator(library, f'Weighting{n}Inference', n, lambda *sizes: [*sizes[:n]])

    def construct(self, xs):
        inputs, running = xs, ()
        for i, (conv, bn) in enumerate(self.units):
            if self.training:
                inputs += (conv.weight, bn.gamma, bn.beta)
                running += (bn.moving_mean, bn.moving_variance)
            else:
                inputs += (conv.weight,) + self.affines[i]()
            if i > 1:
                first, second = self.gates[i - 2]
                inputs += (first.weight, first.bias, second.weight, second.bias)
        if self.training:
            return self.train_(inputs, running + (self.momentum,))[:len(xs)]
        return self.infer(*inputs)


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
        return FastWeightingBlock(library, cell)
    if isinstance(cell, ConvBN):
        return _fast_unit(library, cell.conv, cell.bn, cell.act)
    if isinstance(cell, StageModule) and len(cell.fuse_layers) in BRANCHES:
        return _fast_fusion(library, cell)
    if isinstance(cell, Stem):
        return _fast_stem(library, cell)
    if isinstance(cell, BranchSum) and cell.branch + cell.enlarge < max(BRANCHES):
        return FastBranchSum(library, cell.branch, cell.enlarge)
    if isinstance(cell, Upsample) and isinstance(cell.combine, ops.Add) and cell.split_shape[3] == 2:
        return AddEnlarged(library)
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
            if not isinstance(fast, FastInference):  # training needs those of its parts
                inside.update(id(part) for _, part in cell.cells_and_names())
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
