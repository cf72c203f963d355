"""What a caller does around the network, as cells for the exported file: normalisation before, arg-max after."""
from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.model import STRIDE


class Normalise(nn.Cell):
    """uint8 crops (N, H, W, 3) to what the network takes: float32 (N, 3, H, W), normalised.

    Args:
        mean: of R, G, B (of the network's channels), for values of 0 to 1.
        std: likewise.
        reverse: the crops' channels are in the reverse of the network's order.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], reverse: bool) -> None:
        super().__init__()
        mean, std = (np.array(values, np.float64).reshape(1, 3, 1, 1) for values in (mean, std))
        self.factor = ms.Tensor((1 / std / 255).astype(np.float32))
        self.offset = ms.Tensor((-mean / std).astype(np.float32))
        self.reverse = reverse
        self.cast = ops.Cast()
        self.transpose = ops.Transpose()
        self.split = ops.Split(1, 3)
        self.concat = ops.Concat(1)

    def construct(self, x):
        x = self.transpose(self.cast(x, ms.float32), (0, 3, 1, 2))
        if self.reverse:
            first, second, third = self.split(x)
            x = self.concat((third, second, first))
        return x * self.factor + self.offset


class ArgMax(nn.Cell):
    """Heatmaps (N, K, H, W) to keypoints (N, K, 3): x and y in pixels of the network's input, and the peak's height.

    The same as `src.mmpose.heatmap.decode` by its `default` method: a quarter heatmap pixel towards the higher
    neighbour; (-1, -1) heatmap pixels where no value is positive. Picking single values is spelled as a product with
    a mask, which every runtime has.
    """

    def __init__(self, num_joints: int, heatmap_size: tuple[int, int]) -> None:
        super().__init__()
        width, height = heatmap_size
        self.width, self.height = width, height
        self.rows = (-1, num_joints, width * height)
        self.single = (-1, num_joints, 1)
        self.peak = ops.ArgMaxWithValue(2)
        self.sum = ops.ReduceSum(keep_dims=True)
        self.reshape, self.cast, self.equal = ops.Reshape(), ops.Cast(), ops.Equal()
        self.concat, self.greater, self.less = ops.Concat(2), ops.Greater(), ops.Less()
        places = np.arange(width * height, dtype=np.float32)
        self.places = ms.Tensor(places[None, None])
        self.x = ms.Tensor((places % width)[None, None])
        self.y = ms.Tensor((places // width)[None, None])

    def slope(self, maps: ms.Tensor, mask: ms.Tensor, step: int) -> ms.Tensor:
        """Return the sign of (value `step` places further - value `step` places before), at the mask's place."""
        after = self.sum(maps[:, :, step:] * mask[:, :, :-step], 2)
        before = self.sum(maps[:, :, :-step] * mask[:, :, step:], 2)
        return self.cast(self.greater(after, before), ms.float32) - self.cast(self.less(after, before), ms.float32)

    def construct(self, heatmaps):
        maps = self.reshape(heatmaps, self.rows)
        index, score = self.peak(maps)
        index, score = self.reshape(self.cast(index, ms.float32), self.single), self.reshape(score, self.single)
        mask = self.cast(self.equal(self.places, index), ms.float32)
        x, y = self.sum(mask * self.x, 2), self.sum(mask * self.y, 2)
        inner = (self.cast(self.greater(x, 1.0), ms.float32) * self.cast(self.less(x, self.width - 1.0), ms.float32)
                 * self.cast(self.greater(y, 1.0), ms.float32) * self.cast(self.less(y, self.height - 1.0), ms.float32))
        x = x + 0.25 * inner * self.slope(maps, mask, 1)
        y = y + 0.25 * inner * self.slope(maps, mask, self.width)
        positive = self.cast(self.greater(score, 0.0), ms.float32)
        return self.concat(((x * positive + positive - 1.0) * STRIDE, (y * positive + positive - 1.0) * STRIDE, score))


class Deployed(nn.Cell):
    """The network between an optional first and last step.

    Args:
        network: heatmaps of normalised crops.
        normalise: `Normalise`, or None: the caller normalises.
        arg_max: `ArgMax`, or None: the caller gets heatmaps.
    """

    def __init__(self, network: nn.Cell, normalise: nn.Cell | None, arg_max: nn.Cell | None) -> None:
        super().__init__(auto_prefix=False)  # the network's parameters keep their names
        self.normalise, self.network, self.arg_max = normalise, network, arg_max

    def construct(self, x):
        if self.normalise is not None:
            x = self.normalise(x)
        x = self.network(x)
        return x if self.arg_max is None else self.arg_max(x)
