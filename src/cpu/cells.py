"""The network's cells on our compiled operators, sharing its parameters.

For training and inference in this process, on the CPU; a network with these cells can't be exported.
"""
from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.cpu.kernels import build_library, operator, set_threads
from src.model import Chain, ConvBN, DepthwiseConv, Same, Upsample, WeightingBlock


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
    """An operator on the statistics of the batch, and its gradient: (inputs, running) -> (result, what was saved).

    `inputs` are trained through: a tensor, then parameters, gamma and beta last. `running` is BN's: mean, variance,
    momentum; they have no gradient and stand in for it.
    """

    def __init__(self, forward: ops.Custom, backward: ops.Custom) -> None:
        super().__init__(auto_prefix=False)
        self.forward, self.backward = forward, backward

    def construct(self, inputs, running):
        return self.forward(*inputs, *running)

    def bprop(self, inputs, running, out, dout):
        return self.backward(dout[0], *inputs, *out[1:]), running


def train_depthwise(library: Path, stride: int) -> Differentiable:
    """Depthwise 3x3 + BN of (x, weight, gamma, beta)."""
    return Differentiable(
        operator(library, f'DepthwiseTrain{stride}', lambda x, *p: [
            [x[0], x[1], x[2] // stride, x[3] // stride], [2, x[1]]], lambda inputs: 2),
        operator(library, f'DepthwiseGradient{stride}', lambda dy, *p: [*p[:4]], lambda inputs: 4))


def train_pointwise(library: Path, relu: str) -> Differentiable:
    """1x1 convolution + BN (+ ReLU) of (x, weight, gamma, beta)."""
    return Differentiable(
        operator(library, f'PointwiseTrain{relu}', lambda x, weight, *p: [
            [x[0], weight[0], *x[2:]], [x[0], weight[0], *x[2:]], [2, weight[0]]], lambda inputs: 3),
        operator(library, f'PointwiseGradient{relu}', lambda dy, *p: [*p[:4]], lambda inputs: 4))


def train_norm(library: Path, relu: str) -> Differentiable:
    """BN (+ ReLU) of (z, gamma, beta)."""
    return Differentiable(
        operator(library, f'NormTrain{relu}', lambda z, gamma, *p: [z, [2, *gamma]], lambda inputs: 2),
        operator(library, f'NormGradient{relu}', lambda dy, *p: [*p[:3]], lambda inputs: 3))


class FastBN(nn.Cell):
    """BN and ReLU after a convolution that stays MindSpore's."""

    def __init__(self, library: Path, conv: nn.Conv2d, bn: nn.Cell, act: nn.Cell | None) -> None:
        super().__init__(auto_prefix=False)
        self.conv, self.bn = conv, bn
        self.act = Same() if act is None else act
        self.momentum = _momentum(bn)
        self.train_ = train_norm(library, 'Relu' * (act is not None))

    def construct(self, x):
        x = self.conv(x)
        if not self.training:
            return self.act(self.bn(x))
        return self.train_((x, self.bn.gamma, self.bn.beta),
                           (self.bn.moving_mean, self.bn.moving_variance, self.momentum))[0]


class FastConvBN(nn.Cell):
    """Depthwise 3x3 or 1x1 convolution, BN (or the bias it was folded to) and, after 1x1, perhaps ReLU."""

    def __init__(self, library: Path, conv: nn.Conv2d, bn: nn.Cell, relu: bool = False) -> None:
        super().__init__(auto_prefix=False)
        self.conv, self.bn = conv, bn
        self.affine = Affine(conv, bn)
        self.momentum = _momentum(bn)
        stride = conv.stride[0]
        if isinstance(conv, DepthwiseConv):
            self.train_ = train_depthwise(library, stride)
            self.infer = operator(library, f'DepthwiseInference{stride}', lambda x, *p: [
                [x[0], x[1], x[2] // stride, x[3] // stride]], lambda inputs: 1)
        else:
            self.train_ = train_pointwise(library, 'Relu' * relu)
            self.infer = operator(library, 'PointwiseInference' + 'Relu' * relu, lambda x, weight, *p: [
                [x[0], weight[0], *x[2:]]], lambda inputs: 1)

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
        self.forward = operator(library, 'AddEnlarged', lambda high, low: [high], lambda inputs: 1)
        self.backward = operator(library, 'SumSquares', lambda d: [[d[0], d[1], d[2] // 2, d[3] // 2]],
                                 lambda inputs: 1)

    def construct(self, high, low):
        return self.forward(high, low)

    def bprop(self, high, low, out, dout):
        return dout, self.backward(dout)


def _weighting_shapes(*inputs: list[int]) -> list[list[int]]:
    n = (len(inputs) - 11) // 10
    xs, hidden, total = inputs[:n], *inputs[n][:2]
    batch, low = xs[0][0], xs[-1][2] * xs[-1][3]
    shapes = [*xs, [batch, total, low], [batch, hidden, low], [batch, hidden, low], [batch, total, low],
              [batch, total, low], [2, hidden], [2, total]]
    for b in range(n):
        fc = inputs[n + 10 + 9 * b + 5]
        shapes += [[2, fc[1]], [batch, fc[1]], [batch, fc[0]], [batch, fc[1]]]
    return shapes


def _weighting_gradient_shapes(*inputs: list[int]) -> list[list[int]]:
    n = (len(inputs) - 13) // 11
    shapes = [*inputs[n:2 * n], *inputs[3 * n:3 * n + 6]]
    for b in range(n):
        filter_, gamma, fc1, fc2 = inputs[3 * n + 6 + 4 * b:3 * n + 10 + 4 * b]
        shapes += [filter_, gamma, gamma, fc1, fc1[:1], fc2, fc2[:1]]
    return shapes


class WeightingTrain(nn.Cell):
    """(branches, parameters, momentum) -> branches and what the gradient needs, in weighting_block.cc's order."""

    def __init__(self, library: Path, branches: int) -> None:
        super().__init__(auto_prefix=False)
        self.n = branches
        self.forward = operator(library, 'WeightingTrain', _weighting_shapes, lambda inputs: (inputs - 11) // 2 + 7)
        self.backward = operator(library, 'WeightingGradient', _weighting_gradient_shapes,
                                 lambda inputs: (inputs - 13) // 11 * 8 + 6)

    def construct(self, xs, parameters, momentum):
        return self.forward(*xs, *parameters, momentum)

    def bprop(self, xs, parameters, momentum, out, dout):
        n, p = self.n, parameters
        inputs = dout[:n] + xs + out[:n] + p[:3] + p[5:8]
        for b in range(n):
            own = p[10 + 9 * b:19 + 9 * b]
            inputs += (own[0], own[1], own[5], own[7])
        gradients = self.backward(*inputs, *out[n:])
        d = gradients[n:]
        # BN's running statistics have no gradient; they stand in for it.
        wanted = d[:3] + p[3:5] + d[3:6] + p[8:10]
        for b in range(n):
            wanted += d[6 + 7 * b:9 + 7 * b] + p[13 + 9 * b:15 + 9 * b] + d[9 + 7 * b:13 + 7 * b]
        return gradients[:n], wanted, momentum


class FastWeightingBlock(nn.Cell):
    """`WeightingBlock` as one operator."""

    def __init__(self, library: Path, block: WeightingBlock) -> None:
        super().__init__(auto_prefix=False)
        cross = block.cross_resolution_weighting
        self.units = [(unit.conv, unit.bn) for unit in (cross.conv1, cross.conv2, *block.depthwise_convs)]
        # Cells, not their parameters: to MindSpore 1.10 a parameter in a tuple is a constant without a gradient.
        self.gates = [(gate.conv1.conv, gate.conv2.conv) for gate in block.spatial_weighting]
        self.affines = nn.CellList([Affine(conv, bn) for conv, bn in self.units],
                                   auto_prefix=False)
        self.momentum = _momentum(cross.conv1.bn)
        self.train_ = WeightingTrain(library, len(self.gates))
        self.infer = operator(library, 'WeightingInference', lambda *inputs: [*inputs[:(len(inputs) - 6) // 8]],
                              lambda inputs: (inputs - 6) // 8)

    def construct(self, xs):
        n = len(xs)
        tensors = ()
        for i, (conv, bn) in enumerate(self.units):
            if self.training:
                tensors += (conv.weight, bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)
            else:
                tensors += (conv.weight,) + self.affines[i]()
            if i > 1:
                first, second = self.gates[i - 2]
                tensors += (first.weight, first.bias, second.weight, second.bias)
        if self.training:
            return self.train_(xs, tensors, self.momentum)[:n]
        return self.infer(*xs, *tensors)


class FastChain(nn.Cell):
    """`Chain` in units of convolution, BN and ReLU."""

    def __init__(self, library: Path, chain: Chain) -> None:
        super().__init__(auto_prefix=False)
        cells = list(chain.name_cells().values())
        starts = [i for i, cell in enumerate(cells) if isinstance(cell, nn.Conv2d)]
        self.units = nn.CellList([_fast_unit(library, *cells[i:i + 3]) for i in starts], auto_prefix=False)

    def construct(self, x):
        for unit in self.units:
            x = unit(x)
        return x


def _fast_unit(library: Path, conv: nn.Conv2d, bn: nn.Cell, act: nn.Cell | None = None) -> nn.Cell:
    if isinstance(conv, DepthwiseConv) or conv.kernel_size == (1, 1):
        return FastConvBN(library, conv, bn, isinstance(act, nn.ReLU))
    return FastBN(library, conv, bn, act)


def _frozen(cell: nn.Cell) -> bool:
    # Our training operators always take the statistics of the batch.
    return any(getattr(part, 'use_batch_statistics', None) is False for _, part in cell.cells_and_names())


def _fast(cell: nn.Cell, library: Path) -> nn.Cell | None:
    if _frozen(cell):
        return None
    if isinstance(cell, WeightingBlock):
        return FastWeightingBlock(library, cell)
    if isinstance(cell, ConvBN):
        return _fast_unit(library, cell.conv, cell.bn, cell.act)
    if isinstance(cell, Upsample) and isinstance(cell.combine, ops.Add) and cell.split_shape[3] == 2:
        return AddEnlarged(library)
    return FastChain(library, cell) if isinstance(cell, Chain) else None


def accelerate(network: nn.Cell, threads: int = 0) -> bool:
    """Lets a network run on compiled operators; False where they can't be compiled.

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
            inside.update(id(part) for _, part in cell.cells_and_names())
            # Behind the cells it stands for, past Cell's own bookkeeping: parameters keep their names and places.
            cell._cells['fast'] = fast
            object.__setattr__(cell, 'fast', fast)
    return True


def decelerate(network: nn.Cell) -> None:
    """Takes the compiled operators out of a network again: no file can hold them."""
    for _, cell in list(network.cells_and_names()):
        if cell._cells.pop('fast', None) is not None:
            object.__delattr__(cell, 'fast')
