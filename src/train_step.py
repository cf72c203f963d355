"""One training step as a cell: forward, loss, scaled gradients, all-reduce, unscale, overflow check, update.

`mindspore.Model`'s own loss-scale managers refuse the CPU, and its AdamWeightDecay cannot unscale, so the step is
written out here; it is the same on CPU, GPU and Ascend.
"""
from __future__ import annotations

from collections.abc import Sequence

from mindspore import Model, Tensor, nn, ops
from mindspore.dataset import Dataset
from mindspore.train.callback import Callback

from src.errors import from_worker

_map = ops.HyperMap()
_unscale = ops.MultitypeFuncGraph('unscale')
_probe = ops.MultitypeFuncGraph('probe')


@_unscale.register('Tensor', 'Tensor')
def _unscale_tensor(factor, gradient):
    return gradient * factor


@_probe.register('Tensor')
def _probe_tensor(gradient):
    # 0 for finite values, not-a-number otherwise.
    return ops.ReduceSum()(gradient * 0.0)


class TrainStep(nn.Cell):
    """(pictures, targets, weights) to (loss, finite); updates the network only when every gradient is finite.

    Args:
        network: cell whose output is the scalar loss.
        optimizer: gets the unscaled gradients; its `parameters` are the ones trained.
        loss_scale: the loss is multiplied by it before back-propagation, the gradients divided by it after.
        ranks: devices whose gradients are averaged.
    """

    def __init__(self, network: nn.Cell, optimizer: nn.Optimizer, loss_scale: float = 1.0,
                 ranks: int = 1) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.network.set_grad()
        self.optimizer = optimizer
        self.weights = optimizer.parameters
        self.grad = ops.GradOperation(get_by_list=True, sens_param=True)
        self.loss_scale = float(loss_scale)
        self.factor = Tensor(1.0 / loss_scale)
        self.reducer = nn.DistributedGradReducer(self.weights, True, ranks) if ranks > 1 else None
        self.ones_like = ops.OnesLike()
        self.add_n = ops.AddN()
        self.is_finite = ops.IsFinite()
        self.depend = ops.Depend()

    def construct(self, image, target, target_weight):
        loss = self.network(image, target, target_weight)
        sens = self.ones_like(loss) * self.loss_scale
        gradients = self.grad(self.network, self.weights)(image, target, target_weight, sens)
        if self.reducer is not None:
            gradients = self.reducer(gradients)
        gradients = _map(ops.partial(_unscale, self.factor), gradients)
        finite = self.is_finite(self.add_n(_map(_probe, gradients)))
        if finite:
            loss = self.depend(loss, self.optimizer(gradients))
        return loss, finite


def fit(step: TrainStep, loader: Dataset, epochs: int, callbacks: Sequence[Callback]) -> None:
    """Runs `epochs` epochs of steps; callbacks are closed (`close()`) whatever happens.

    Raises:
        InputError: a picture can't be read, or a callback refuses to go on.
    """
    step.set_train()
    try:
        Model(step).train(epochs, loader, list(callbacks), dataset_sink_mode=False)
    except RuntimeError as error:
        raise from_worker(error) from error
    finally:
        for callback in callbacks:
            callback.close()
