"""The loss that training minimises, and the cell that joins it to the network."""
from __future__ import annotations

from mindspore import Tensor, nn, ops


class JointsMSELoss(nn.Cell):
    """Mean squared error of heatmaps, weighted per keypoint (JointsMSELoss of MMPose 0.x with use_target_weight).

    Heatmaps and targets are (N, K, H, W), weights (N, K, 1), all float32. The mean runs over all N*K*H*W values, those
    of weight 0 included, as the reference's does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.expand = ops.ExpandDims()
        self.mean = ops.ReduceMean()

    def construct(self, heatmaps: Tensor, target: Tensor, target_weight: Tensor) -> Tensor:
        difference = (heatmaps - target) * self.expand(target_weight, -1)
        return self.mean(difference * difference)


class NetWithLoss(nn.Cell):
    """(images, targets, weights) to the scalar loss."""

    def __init__(self, network: nn.Cell, loss: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss = loss

    def construct(self, image: Tensor, target: Tensor, target_weight: Tensor) -> Tensor:
        return self.loss(self.network(image), target, target_weight)
