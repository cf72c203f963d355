"""The optimizers' update as one compiled operator, on their own parameters."""
from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from src.cpu.kernels import build_library, operator
from src.utils import is_decayed


class FusedUpdate(nn.Cell):
    """Gradients of a scaled loss to whether all are finite, bool (1,); if so, the optimizer's update is done.

    Args:
        library: the compiled operators.
        optimizer: nn.Adam or nn.AdamWeightDecay; its parameters and counters are changed in place.
        weight_decay: of the parameters that `is_decayed` names.
        loss_scale: the gradients are divided by it.
    """

    def __init__(self, library: Path, optimizer: nn.Optimizer, weight_decay: float, loss_scale: float) -> None:
        super().__init__(auto_prefix=False)
        corrected = isinstance(optimizer, nn.Adam)
        moments = (optimizer.moment1, optimizer.moment2) if corrected else (optimizer.moments1, optimizer.moments2)
        self.parameters, (self.first, self.second) = optimizer.parameters, moments
        self.powers = ms.ParameterTuple((optimizer.beta1_power, optimizer.beta2_power) if corrected else ())
        self.step, self.rates = optimizer.global_step, optimizer.learning_rate.learning_rate
        self.decay = ms.Tensor(np.array([weight_decay * is_decayed(p) for p in self.parameters], np.float32))
        betas = [value.asnumpy().item() for value in (optimizer.beta1, optimizer.beta2, optimizer.eps)]
        self.settings = ms.Tensor(np.array([1 / loss_scale, *betas], np.float32))
        self.run = operator(library, f'{type(optimizer).__name__}Update', 0, lambda *_: [[1]])

    def construct(self, gradients):
        return self.run(*gradients, *self.parameters, *self.first, *self.second, *self.powers, self.step, self.rates,
                        self.decay, self.settings) > 0


def fuse_update(optimizer: nn.Optimizer, weight_decay: float, loss_scale: float) -> FusedUpdate | None:
    """Return the update of an optimizer as one operator; None for SGD and where operators can't be compiled."""
    library = build_library()
    if library is None or not isinstance(optimizer, (nn.Adam, nn.AdamWeightDecay)):
        return None
    return FusedUpdate(library, optimizer, weight_decay, loss_scale)
