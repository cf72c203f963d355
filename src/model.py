"""Lite-HRNet (Yu et al., CVPR 2021, arXiv 2104.06403) and the heatmap head on top of it.

Read from the bottom up: `LiteHRNet` = `Backbone` + 1x1 convolution; `Backbone` = `Stem`, three stages of
`StageModule`s, `IterativeHead`; a `StageModule` = blocks on every branch, then fusion across branches. Tensors are
float32 NCHW; branch b has 1/(4 * 2**b) of the input's resolution. Parameter names are those of the official PyTorch
checkpoints (BN's are MindSpore's), so `src.weights.checkpoint` only renames suffixes.

All sizes are fixed when the network is built, only the batch is free. Slow operators can so be written as cheap ones
of the same value: pooling with kernel = stride, nearest upsampling as a broadcast, bilinear upsampling as two matrix
products, channel shuffle as stack + reshape. Where a cell has `fast`, `src.cpu.cells` may put one of the same value
there.
"""
from __future__ import annotations

from collections import OrderedDict

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.common.compat import RootCell, channels_of, halves, resample
from src.layers import ConvBN, ConvSequence, Identity, Shuffle, Upsample, batch_norm, biased_conv, conv, separable_cells

STRIDE = 4  # of branch 0 against the input image
STEM_CHANNELS = 32
BLOCKS = 2  # of a stage module


class SpatialWeighting(nn.Cell):
    """Multiply by a weight per channel, from the channels' means over the image (squeeze and excitation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = ops.ReduceMean(keep_dims=True)
        self.conv1 = biased_conv(channels, channels // 4, nn.ReLU())
        self.conv2 = biased_conv(channels // 4, channels, nn.Sigmoid())

    def construct(self, x):
        return x * self.conv2(self.conv1(self.mean(x, (2, 3))))


class CrossResolutionWeighting(nn.Cell):
    """Multiply by a weight per channel and pixel of the smallest branch, from all branches together."""

    def __init__(self, channels: list[int], sizes: list[tuple[int, int]]) -> None:
        super().__init__()
        total, last = sum(channels), len(channels) - 1
        self.conv1 = ConvBN(total, total // 8, act=nn.ReLU())
        self.conv2 = ConvBN(total // 8, total, act=nn.Sigmoid())
        # Sizes divide, so adaptive pooling to the smallest branch is pooling with kernel = stride.
        self.pools = [ops.AvgPool(2 ** (last - b), 2 ** (last - b)) for b in range(last)]
        self.concat = ops.Concat(1)
        self.bounds = [0, *(int(n) for n in np.cumsum(channels))]
        self.scale = nn.CellList([Upsample(ops.Mul(), c, *sizes[b], 2 ** (last - b))
                                  for b, c in enumerate(channels[:-1])])

    def construct(self, xs):
        pooled = ()
        for pool, x in zip(self.pools, xs[:-1]):
            pooled += (pool(x),)
        weight = self.conv2(self.conv1(self.concat(pooled + (xs[-1],))))
        out = ()
        for b, scale in enumerate(self.scale):
            out += (scale(xs[b], channels_of(weight, self.bounds[b], self.bounds[b + 1])),)
        return out + (xs[-1] * channels_of(weight, self.bounds[-2], self.bounds[-1]),)


class WeightingBlock(nn.Cell):
    """Conditional channel weighting: half of each branch's channels are weighted, filtered, weighted again."""

    fast = None

    def __init__(self, channels: list[int], sizes: list[tuple[int, int]]) -> None:
        super().__init__()
        half = [c // 2 for c in channels]
        self.cross_resolution_weighting = CrossResolutionWeighting(half, sizes)
        self.depthwise_convs = nn.CellList([ConvBN(c, c, 3, depthwise=True) for c in half])
        self.spatial_weighting = nn.CellList([SpatialWeighting(c) for c in half])
        self.shuffle = nn.CellList([Shuffle(c, *size) for c, size in zip(half, sizes)])

    def construct(self, xs):
        if self.fast is not None:
            return self.fast(xs)
        first, second = (), ()
        for x in xs:
            a, b = halves(x)
            first, second = first + (a,), second + (b,)
        second = self.cross_resolution_weighting(second)
        out = ()
        for a, b, depthwise, weight, shuffle in zip(first, second, self.depthwise_convs, self.spatial_weighting,
                                                    self.shuffle):
            out += (shuffle(a, weight(depthwise(b))),)
        return out


class ShuffleUnit(nn.Cell):
    """ShuffleNetV2 unit of stride 1, the block of the NAIVE networks."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        half = channels // 2
        self.branch2 = nn.SequentialCell(ConvBN(half, half, act=nn.ReLU()), ConvBN(half, half, 3, depthwise=True),
                                         ConvBN(half, half, act=nn.ReLU()))
        self.shuffle = Shuffle(half, *size)

    def construct(self, x):
        a, b = halves(x)
        return self.shuffle(a, self.branch2(b))


def fuse_path(channels: list[int], i: int, j: int) -> nn.Cell:
    """Return what takes branch j's tensor to output i's width and, where j < i, to its size."""
    if i == j:
        return Identity()
    if j > i:
        return ConvSequence(conv(channels[j], channels[i]), batch_norm(channels[i]))
    updates = 2 if j == 0 else 1
    steps = [ConvSequence(separable_cells(channels[j], channels[j], 2, updates=updates)) for _ in range(i - j - 1)]
    last = ConvSequence(separable_cells(channels[j], channels[i], 2, relu=False, updates=updates))
    return nn.SequentialCell([*steps, last])


class StageModule(nn.Cell):
    """Blocks on every branch, then exchange between the branches (fusion).

    Fusion follows the official code as it really computes. There the accumulator of output 0 is branch 0's own
    tensor, changed in place to 2*x0 + the paths into it; every later output i reads that changed tensor and counts
    its path from branch 0 twice. Here that path runs once and is doubled, and its BN statistics move as if it had
    run twice.
    """

    fast = None

    def __init__(self, module: str, channels: list[int], sizes: list[tuple[int, int]]) -> None:
        super().__init__()
        n = len(channels)
        self.naive = module == 'NAIVE'
        if self.naive:
            self.layers = nn.CellList([nn.SequentialCell([ShuffleUnit(c, size) for _ in range(BLOCKS)])
                                       for c, size in zip(channels, sizes)])
        else:
            self.layers = nn.CellList([WeightingBlock(channels, sizes) for _ in range(BLOCKS)])
        self.fuse_layers = nn.CellList([nn.CellList([fuse_path(channels, i, j) for j in range(n)]) for i in range(n)])
        # Nearest upsampling commutes with sums: add from the lowest branch upwards, a factor of 2 at a time.
        self.add_up = nn.CellList([nn.CellList([Upsample(ops.Add(), channels[i], *sizes[j], 2)
                                                for j in range(i, n - 1)]) for i in range(n - 1)])
        self.relu = nn.ReLU()

    def run_blocks(self, xs: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        """Return the branches' tensors (high to low resolution) after the blocks."""
        if not self.naive:
            for layer in self.layers:
                xs = layer(xs)
            return xs
        out = ()
        for layer, x in zip(self.layers, xs):
            out += (layer(x),)
        return out

    def construct(self, xs):
        xs = self.run_blocks(xs)
        if self.fast is not None:
            return self.fast(xs)
        n = len(xs)
        first, out = xs[0], ()
        for i in range(n):
            if i == 0:
                total = 2 * first
            else:  # MindSpore 1.10 and 2.0 refuse ranges that begin behind their end
                total = 2 * self.fuse_layers[i][0](first) + xs[i]
                for j in range(1, i):
                    total = total + self.fuse_layers[i][j](xs[j])
            if i < n - 1:
                low = self.fuse_layers[i][n - 1](xs[n - 1])
                for k in range(n - 2 - i):  # likewise none that count down
                    j = n - 2 - k
                    low = self.add_up[i][j - i](self.fuse_layers[i][j](xs[j]), low)
                total = self.add_up[i][0](total, low)
            if i == 0:
                first = total
            out += (self.relu(total),)
        return out


class Stem(nn.Cell):
    """Image to branch 0: 3x3/2 convolution, then half the channels each through a short and a long path."""

    fast = None

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        half = STEM_CHANNELS // 2
        self.conv1 = ConvBN(3, STEM_CHANNELS, 3, 2, act=nn.ReLU())
        self.branch1 = nn.SequentialCell(ConvBN(half, half, 3, 2, depthwise=True), ConvBN(half, half, act=nn.ReLU()))
        self.expand_conv = ConvBN(half, STEM_CHANNELS, act=nn.ReLU())
        self.depthwise_conv = ConvBN(STEM_CHANNELS, STEM_CHANNELS, 3, 2, depthwise=True)
        self.linear_conv = ConvBN(STEM_CHANNELS, half, act=nn.ReLU())
        self.shuffle = Shuffle(half, *size)

    def construct(self, x):
        if self.fast is not None and not self.training:
            return self.fast((x,))
        a, b = halves(self.conv1(x))
        return self.shuffle(self.branch1(a), self.linear_conv(self.depthwise_conv(self.expand_conv(b))))


def transition(before: list[int], after: list[int]) -> nn.CellList:
    """Return a cell per branch of the next stage: for another width, a new lower branch, or the tensor itself."""
    cells = [Identity() if old == new else ConvSequence(separable_cells(old, new, 1))
             for old, new in zip(before, after)]
    cells += [nn.SequentialCell([ConvSequence(separable_cells(before[-1], new, 2))]) for new in after[len(before):]]
    return nn.CellList(cells)


def bilinear_matrix(out_size: int, in_size: int) -> np.ndarray:
    """Return the float32 (out_size, in_size) of linear interpolation with aligned corners along one axis."""
    position = np.linspace(0, in_size - 1, out_size)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(in_size))).astype(np.float32)


class SeparableConv(nn.Cell):
    """Depthwise 3x3 + BN, 1x1 + BN + ReLU, named as in the head of the official checkpoints."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvBN(in_channels, in_channels, 3, depthwise=True)
        self.pointwise_conv = ConvBN(in_channels, out_channels, act=nn.ReLU())

    def construct(self, x):
        return self.pointwise_conv(self.depthwise_conv(x))


class IterativeHead(nn.Cell):
    """Return branch 0's tensor after, from the lowest branch up, adding the upsampled result so far and filtering."""

    def __init__(self, channels: list[int], sizes: list[tuple[int, int]]) -> None:
        super().__init__()
        n = len(channels)
        self.projects = nn.CellList([SeparableConv(channels[b], channels[max(b - 1, 0)]) for b in reversed(range(n))])
        self.rows = [ms.Tensor(bilinear_matrix(sizes[b][0], sizes[b + 1][0])) for b in range(n - 1)]
        self.columns = [ms.Tensor(bilinear_matrix(sizes[b][1], sizes[b + 1][1]).T) for b in range(n - 1)]

    def upsample(self, x: ms.Tensor, b: int) -> ms.Tensor:
        """Return `x`, of branch b+1's size, upsampled to branch b's (bilinear, aligned corners)."""
        return resample(ops.cast(self.rows[b], x.dtype), x, ops.cast(self.columns[b], x.dtype))

    def construct(self, xs):
        last = len(xs) - 1
        x = self.projects[0](xs[last])
        for b in range(last - 1, -1, -1):
            x = self.projects[last - b](xs[b] + self.upsample(x, b))
        return x


class Backbone(nn.Cell):
    """(N, 3, H, W) images to (N, stage_channels[0], H/4, W/4) features."""

    def __init__(self, image_size: tuple[int, int], stage_modules: tuple[int, ...], stage_channels: tuple[int, ...],
                 module: str) -> None:
        super().__init__()
        width, height = image_size
        sizes = [(height // (STRIDE << b), width // (STRIDE << b)) for b in range(len(stage_channels))]
        self.stem = Stem(sizes[0])
        channels, stages = [STEM_CHANNELS], []
        for s, modules in enumerate(stage_modules):
            before, channels = channels, list(stage_channels[:s + 2])
            stages.append((transition(before, channels),
                           nn.CellList([StageModule(module, channels, sizes[:s + 2]) for _ in range(modules)])))
            for name, cell in zip(('transition', 'stage'), stages[s]):
                setattr(self, f'{name}{s}', cell)
        self.head_layer = IterativeHead(channels, sizes)
        self.stages = stages

    def construct(self, x):
        xs = (self.stem(x),)
        for transition_, modules in self.stages:
            last = xs[-1]
            branches = ()
            for b, cell in enumerate(transition_):
                branches += (cell(xs[b] if b < len(xs) else last),)
            xs = branches
            for module in modules:
                xs = module(xs)
        return self.head_layer(xs)


class LiteHRNet(RootCell):
    """Images (N, 3, H, W) to heatmaps (N, num_joints, H/4, W/4), both float32.

    Args:
        image_size: (width, height) in pixels, multiples of 32.
        stage_modules: modules per stage; (2, 4, 2) is Lite-HRNet-18, (3, 8, 3) is Lite-HRNet-30.
        stage_channels: width of each branch, high to low resolution.
        module: 'LITE' (conditional channel weighting) or 'NAIVE' (ShuffleNetV2 units).
        num_joints: keypoints, and so heatmaps.
    """

    def __init__(self, image_size: tuple[int, int] = (192, 256), *, stage_modules: tuple[int, ...] = (2, 4, 2),
                 stage_channels: tuple[int, ...] = (40, 80, 160, 320), module: str = 'LITE',
                 num_joints: int = 17) -> None:
        super().__init__()
        self.backbone = Backbone(image_size, stage_modules, stage_channels, module)
        self.keypoint_head = nn.SequentialCell(OrderedDict(final_layer=conv(stage_channels[0], num_joints, bias=True)))

    def construct(self, x):
        return self.keypoint_head(self.backbone(x))
