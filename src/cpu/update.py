"""What follows the gradients of a training step as one operator.

MindSpore updates each of some 800 parameters by an operator of its own, in a graph behind a condition: 7 % of a step,
and 6 % of what it takes to compile it.
"""
from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from src.cpu.cells import put_fast
from src.cpu.kernels import build_library, operator
from src.training.train_step import TrainStep
from src.utils import is_decayed


class FastUpdate(nn.Cell):
    """Adam's or AdamWeightDecay's update, unless a gradient is not finite; gradients to whether all are."""

    def __init__(self, library: Path, step: TrainStep, decays: list[float]) -> None:
        super().__init__(auto_prefix=False)
        optimizer, self.weights, self.statistics = step.optimizer, step.weights, step.statistics
        self.factors = ms.Tensor(np.array([value.asnumpy().item() for value in (
            step.factor, optimizer.beta1, optimizer.beta2, optimizer.eps)], np.float32))
        self.decays = ms.Tensor(np.array(decays, np.float32))
        self.rates, self.count = optimizer.learning_rate.learning_rate, optimizer.global_step
        self.good_statistics = step.good_statistics
        self.is_adam = isinstance(optimizer, nn.Adam)
        if self.is_adam:
            self.power1, self.power2 = optimizer.beta1_power, optimizer.beta2_power
            self.means, self.squares = optimizer.moment1, optimizer.moment2
        else:
            self.means, self.squares = optimizer.moments1, optimizer.moments2
        self.finish = operator(library, f'Finish{type(optimizer).__name__}', 1, lambda factors, *_: [[1]])
        self.reshape = ops.Reshape()

    def construct(self, gradients):
        tensors = gradients + self.weights + self.means + self.squares + self.statistics
        if self.is_adam:
            finite = self.finish(self.factors, self.rates, self.count, self.power1, self.power2, self.decays,
                                 self.good_statistics, *tensors)
        else:
            finite = self.finish(self.factors, self.rates, self.count, self.decays, self.good_statistics, *tensors)
        return self.reshape(finite, ()) > 0


def accelerate_update(step: TrainStep, weight_decay: float) -> bool:
    """Put the operator into a step, in place, and return whether it is there.

    It stands for Adam and AdamWeightDecay alone, each gradient by itself an update: without accumulation, clipping and
    moving averages.

    Args:
        step: the parameters that it trains stay the same objects.
        weight_decay: of convolution weights, as `make_optimizer` was told.
    """
    library = build_library()
    alone = step.totals is None and step.averages is None and not step.clip_norm
    if library is None or not alone or not step.statistics or not isinstance(
            step.optimizer, (nn.Adam, nn.AdamWeightDecay)):
        return False
    put_fast(step, FastUpdate(library, step, [weight_decay * is_decayed(weight) for weight in step.weights]))
    return True
