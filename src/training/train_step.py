"""One training step as a cell: forward, loss, scaled gradients, all-reduce, unscale, overflow check, update.

`mindspore.Model`'s own loss-scale managers refuse the CPU, and its AdamWeightDecay cannot unscale, so the step is
written out here; it is the same on CPU, GPU and Ascend. What concerns all gradients is done on one vector of them: an
operator on each of some 400 would be as many launches on a GPU.
"""
from __future__ import annotations

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, float32, int32, nn, ops

from src.common.compat import RootCell

_map = ops.HyperMap()
_unscale = ops.MultitypeFuncGraph('unscale')
_flatten = ops.MultitypeFuncGraph('flatten')
_add_to = ops.MultitypeFuncGraph('add_to')
_blend = ops.MultitypeFuncGraph('blend')
_clear = ops.MultitypeFuncGraph('clear')


@_unscale.register('Tensor', 'Tensor')
def _unscale_tensor(factor, gradient):
    return gradient * factor


@_flatten.register('Tensor')
def _flatten_tensor(x):
    return ops.Reshape()(x, (-1,))


@_add_to.register('Tensor', 'Tensor')
def _add_to_tensor(total, gradient):
    return ops.assign_add(total, gradient)


@_blend.register('Tensor', 'Tensor', 'Tensor')
def _blend_tensor(share, average, value):
    return ops.assign(average, average + (value - average) * share)


@_clear.register('Tensor')
def _clear_tensor(total):
    return ops.assign(total, ops.zeros_like(total))


class TrainStep(RootCell):
    """(images, targets, weights) to (loss, finite); updates the network only when every gradient is finite.

    Inputs are float32 (N, 3, H, W), (N, K, H/4, W/4) and (N, K, 1), outputs a float32 and a bool scalar. All that the
    next step depends on is a parameter of this cell: weights, BN statistics, the optimizer's state, sums of gradients
    (`accumulated.*`) and moving averages (`ema.*`). BN's running statistics move with the forward pass, before anything
    is known of the gradients: one image that is not finite would spoil them for ever, so `keep_statistics` is called
    before the first step and `restore_statistics` after every step that was not finite.

    Args:
        network: cell whose output is the scalar loss, with the trained network as `network`.
        optimizer: gets the unscaled gradients; its `parameters` are the ones trained.
        loss_scale: the loss is multiplied by it before back-propagation, the gradients divided by it after.
        ranks: devices whose gradients are averaged.
        clip_norm: where the norm of all gradients together is larger, they are scaled down to it; 0: never.
        accumulate_steps: steps whose mean gradient makes one update; skipped steps are not counted.
        ema: network like the trained one, with the same values; after each update its parameters (BN statistics too)
            become the moving averages of the trained one's.
        ema_decay: share of the old average that is kept; early on less, (1 + n) / (10 + n) at update n, so that the
            initial weights are soon forgotten.
    """

    fast = None  # `src.cpu.update` may put there what computes the same from the gradients on

    def __init__(self, network: nn.Cell, optimizer: nn.Optimizer, loss_scale: float = 1.0, ranks: int = 1, *,
                 clip_norm: float = 0.0, accumulate_steps: int = 1, ema: nn.Cell | None = None,
                 ema_decay: float = 0.0) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.network.set_grad()
        self.optimizer = optimizer
        self.weights = optimizer.parameters
        self._rates = None
        self.grad = ops.GradOperation(get_by_list=True, sens_param=True)
        self.loss_scale = float(loss_scale)
        self.factor = Tensor([1.0 / (loss_scale * accumulate_steps)], float32)
        self.is_scaled = loss_scale * accumulate_steps != 1
        self.reducer = nn.DistributedGradReducer(self.weights, True, ranks) if ranks > 1 else None
        self.ones_like = ops.OnesLike()
        self.concat = ops.Concat()
        self.sum = ops.ReduceSum()
        self.is_finite = ops.IsFinite()
        self.depend = ops.Depend()
        self.clip_norm = clip_norm
        self.accumulate_steps = accumulate_steps
        self.ema_decay = ema_decay
        self.totals = self.averages = None
        self._result = (network.network,)
        self.statistics = ParameterTuple([p for p in network.get_parameters()
                                          if p.name.endswith(('moving_mean', 'moving_variance'))])
        if self.statistics:  # after the last good step
            self.good_statistics = Parameter(Tensor(np.zeros(sum(p.size for p in self.statistics), np.float32)),
                                             name='good_statistics', requires_grad=False)
        if accumulate_steps > 1:
            self.totals = self.weights.clone('accumulated', 'zeros')
            self.waiting = Parameter(Tensor(0, int32), name='accumulated.steps', requires_grad=False)
        if ema is not None:
            ema.update_parameters_name('ema.')
            self.sources = ParameterTuple(self.network.get_parameters())
            self.averages = ParameterTuple(ema.get_parameters())
            # Not an attribute of its own: it would become a part of this cell, and be set to training mode with it.
            self._result = (ema,)
            self.updates = Parameter(Tensor(0.0, float32), name='ema.updates', requires_grad=False)

    @property
    def result(self) -> nn.Cell:
        """Return the network to evaluate and save: that of the moving averages where there is one, else the trained."""
        return self._result[0]

    @property
    def learning_rate(self) -> float:
        """Return the rate of the update that the next step's gradients go into, as the optimizer has it."""
        if self._rates is None:  # read once: they are megabytes on the device
            self._rates = self.optimizer.learning_rate.learning_rate.asnumpy()
        return float(self._rates[int(self.optimizer.global_step.asnumpy()[0])])

    def construct(self, image, target, target_weight):
        loss = self.network(image, target, target_weight)
        sens = self.ones_like(loss) * self.loss_scale
        gradients = self.grad(self.network, self.weights)(image, target, target_weight, sens)
        if self.reducer is not None:
            gradients = self.reducer(gradients)
        if self.fast is not None:
            return loss, self.fast(gradients)
        if self.is_scaled:
            gradients = _map(ops.partial(_unscale, self.factor), gradients)
        # Not finite where an entry is not. (Not x * 0: MindSpore 1.10 replaces that by 0, whatever x is.)
        finite = self.is_finite(self.sum(self.vector(gradients)))
        if finite:
            loss = self.depend(loss, self.accumulate_or_update(gradients))
            if self.statistics:
                loss = self.depend(loss, ops.assign(self.good_statistics, self.vector(self.statistics)))
        return loss, finite

    def vector(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """Return all values of the tensors, one after the other."""
        return self.concat(_map(_flatten, tensors))

    def keep_statistics(self) -> None:
        """Take the statistics as they are now for good ones."""
        if self.statistics:
            self.good_statistics.set_data(Tensor(np.concatenate([p.asnumpy().ravel() for p in self.statistics])))

    def restore_statistics(self) -> None:
        """Put back the statistics after the last good step."""
        if self.statistics:
            ends = np.cumsum([p.size for p in self.statistics])[:-1]
            for parameter, values in zip(self.statistics, np.split(self.good_statistics.asnumpy(), ends)):
                parameter.set_data(Tensor(values.reshape(parameter.shape)))

    def accumulate_or_update(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """Update the network, or add the gradients to those that wait for further steps; return what to depend on."""
        if self.totals is None:
            return self.update(gradients)
        added = _map(_add_to, self.totals, gradients)
        waiting = ops.assign_add(self.waiting, 1)
        if waiting >= self.accumulate_steps:
            added = self.depend(added, self.update(self.totals))
            added = self.depend(added, _map(_clear, self.totals))
            waiting = ops.assign(self.waiting, 0)
        return self.depend(waiting, added)

    def update(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """Update the network and the moving averages once; return what to depend on."""
        if self.clip_norm:
            norm = ops.sqrt(self.sum(ops.square(self.vector(gradients))))
            gradients = _map(ops.partial(_unscale, ops.minimum(1.0, self.clip_norm / (norm + 1e-6))), gradients)
        updated = self.optimizer(gradients)
        if self.averages is not None:
            updates = self.depend(ops.assign_add(self.updates, 1.0), updated)
            share = 1 - ops.minimum(self.ema_decay, (1 + updates) / (10 + updates))
            updated = self.depend(updated, _map(ops.partial(_blend, share), self.averages, self.sources))
        return updated
