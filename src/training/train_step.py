"""One training step as a cell: forward, loss, scaled gradients, all-reduce, unscale, overflow check, update.

`mindspore.Model`'s own loss-scale managers refuse the CPU, and its AdamWeightDecay cannot unscale, so the step is
written out here; it is the same on CPU, GPU and Ascend.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mindspore import Model, Parameter, ParameterTuple, Tensor, float32, int32, nn, ops
from mindspore.dataset import Dataset
from mindspore.train.callback import Callback, RunContext

from src.common.errors import from_worker

_map = ops.HyperMap()
_unscale = ops.MultitypeFuncGraph('unscale')
_probe = ops.MultitypeFuncGraph('probe')
_square = ops.MultitypeFuncGraph('square')
_add_to = ops.MultitypeFuncGraph('add_to')
_blend = ops.MultitypeFuncGraph('blend')
_clear = ops.MultitypeFuncGraph('clear')


@_unscale.register('Tensor', 'Tensor')
def _unscale_tensor(factor, gradient):
    return gradient * factor


@_probe.register('Tensor')
def _probe_tensor(gradient):
    # Infinite or not-a-number where an entry is. (Not x * 0: MindSpore 1.10 replaces that by 0, whatever x is.)
    return ops.ReduceSum()(gradient)


@_square.register('Tensor')
def _square_tensor(gradient):
    return ops.ReduceSum()(gradient * gradient)


@_add_to.register('Tensor', 'Tensor')
def _add_to_tensor(total, gradient):
    return ops.assign_add(total, gradient)


@_blend.register('Tensor', 'Tensor', 'Tensor')
def _blend_tensor(share, average, value):
    return ops.assign(average, average + (value - average) * share)


@_clear.register('Tensor')
def _clear_tensor(total):
    return ops.assign(total, ops.zeros_like(total))


class TrainStep(nn.Cell):
    """(pictures, targets, weights) to (loss, finite); updates the network only when every gradient is finite.

    All that the next step depends on is a parameter of this cell: weights, BN statistics, the optimizer's state, sums
    of gradients (`accumulated.*`) and moving averages (`ema.*`).

    Args:
        network: cell whose output is the scalar loss, with the trained network as `network`.
        optimizer: gets the unscaled gradients; its `parameters` are the ones trained.
        loss_scale: the loss is multiplied by it before back-propagation, the gradients divided by it after.
        ranks: devices whose gradients are averaged.
        clip_norm: where the norm of all gradients together is larger, they are scaled down to it; 0: never.
        accumulate: steps whose mean gradient makes one update; skipped steps don't count among them.
        ema: network like the trained one, with the same values; after each update its parameters (BN statistics too)
            become the moving averages of the trained one's.
        ema_decay: share of the old average that is kept; early on less, (1 + n) / (10 + n) at update n, so that the
            initial weights are soon forgotten.
        fused: gradients of the scaled loss -> finite; checks them and does the optimizer's step. For neither clipping
            nor accumulation nor averages.
    """

    def __init__(self, network: nn.Cell, optimizer: nn.Optimizer, loss_scale: float = 1.0, ranks: int = 1, *,
                 clip_norm: float = 0.0, accumulate: int = 1, ema: nn.Cell | None = None,
                 ema_decay: float = 0.0, fused: nn.Cell | None = None) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.network.set_grad()
        self.optimizer = optimizer
        self.weights = optimizer.parameters
        self.grad = ops.GradOperation(get_by_list=True, sens_param=True)
        self.loss_scale = float(loss_scale)
        self.factor = Tensor([1.0 / (loss_scale * accumulate)], float32)
        self.fused = fused
        self.reducer = nn.DistributedGradReducer(self.weights, True, ranks) if ranks > 1 else None
        self.ones_like = ops.OnesLike()
        self.add_n = ops.AddN()
        self.is_finite = ops.IsFinite()
        self.depend = ops.Depend()
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.ema_decay = ema_decay
        self.totals = self.averages = None
        self._result = (network.network,)
        if accumulate > 1:
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
        """The network to evaluate and save: that of the moving averages where there is one, else the trained one."""
        return self._result[0]

    def construct(self, image, target, target_weight):
        loss = self.network(image, target, target_weight)
        sens = self.ones_like(loss) * self.loss_scale
        gradients = self.grad(self.network, self.weights)(image, target, target_weight, sens)
        if self.reducer is not None:
            gradients = self.reducer(gradients)
        if self.fused is not None:
            return loss, self.fused(gradients)
        gradients = _map(ops.partial(_unscale, self.factor), gradients)
        finite = self.is_finite(self.add_n(_map(_probe, gradients)))
        if finite:
            loss = self.depend(loss, self.use(gradients))
        return loss, finite

    def use(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """Updates the network, or first waits for the gradients of further steps."""
        if self.totals is None:
            return self.update(gradients)
        done = _map(_add_to, self.totals, gradients)
        waiting = ops.assign_add(self.waiting, 1)
        if waiting >= self.accumulate:
            done = self.depend(done, self.update(self.totals))
            done = self.depend(done, _map(_clear, self.totals))
            waiting = ops.assign(self.waiting, 0)
        return self.depend(waiting, done)

    def update(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """One update of the network, and of the moving averages."""
        if self.clip_norm:
            norm = ops.sqrt(self.add_n(_map(_square, gradients)))
            gradients = _map(ops.partial(_unscale, ops.minimum(1.0, self.clip_norm / (norm + 1e-6))), gradients)
        done = self.optimizer(gradients)
        if self.averages is not None:
            updates = self.depend(ops.assign_add(self.updates, 1.0), done)
            share = 1 - ops.minimum(self.ema_decay, (1 + updates) / (10 + updates))
            done = self.depend(done, _map(ops.partial(_blend, share), self.averages, self.sources))
        return done


class Statistics:
    """BN's running statistics after the last good step, to be put back after a bad one.

    They move with the forward pass, before anything is known of the gradients: one picture that is not finite would
    spoil them for ever. The copies are the host's: 408 small ones for Lite-HRNet-18, some milliseconds.
    """

    def __init__(self, network: nn.Cell) -> None:
        self.parameters = [p for p in network.get_parameters() if p.name.endswith(('moving_mean', 'moving_variance'))]
        self.kept = [p.asnumpy().copy() for p in self.parameters]

    def settle(self, finite: bool) -> None:
        """Takes new copies after a good step, puts the old ones back after a bad one."""
        for parameter, kept in zip(self.parameters, self.kept):
            if finite:
                np.copyto(kept, parameter.asnumpy())
            else:
                parameter.set_data(Tensor(kept))


class _Whole(Callback):
    """Makes two calls of `Model.train` look like one to the callbacks; `fit` tells them the end.

    Before they hear of a step, the statistics are settled. In sink mode MindSpore takes every step for an epoch: they
    hear of the data's epochs alone, `left` of whose steps are to come.
    """

    def __init__(self, callbacks: Sequence[Callback], statistics: Statistics) -> None:
        self.callbacks, self.statistics, self.context = callbacks, statistics, None
        self.size = self.left = 0

    def on_train_begin(self, run_context: RunContext) -> None:
        if self.context is None:
            self.tell('on_train_begin', run_context)
        self.context = run_context

    def tell(self, event: str, run_context: RunContext) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(run_context)

    def on_train_epoch_begin(self, run_context: RunContext) -> None:
        if not self.left:
            self.left = self.size
            self.tell('on_train_epoch_begin', run_context)

    def on_train_step_begin(self, run_context: RunContext) -> None:
        self.tell('on_train_step_begin', run_context)

    def on_train_step_end(self, run_context: RunContext) -> None:
        self.statistics.settle(bool(run_context.original_args().net_outputs[1].asnumpy()))
        self.left -= 1
        self.tell('on_train_step_end', run_context)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        if not self.left or run_context.get_stop_requested():
            self.tell('on_train_epoch_end', run_context)


def fit(step: TrainStep, loader: Dataset, epochs: int, callbacks: Sequence[Callback],
        remainder: Dataset | None = None, sink: bool = False) -> None:
    """Runs `epochs` epochs of steps; callbacks are closed (`close()`) whatever happens.

    Args:
        step: see `TrainStep`.
        loader: batches of one epoch.
        epochs: how often.
        callbacks: of MindSpore's kind.
        remainder: batches left of an epoch that was begun earlier; they come first.
        sink: MindSpore's sink mode, a step at a time, so that callbacks hear of every step; not for the CPU.

    Raises:
        InputError: a picture can't be read, or a callback refuses to go on.
    """
    step.set_train()
    model, whole = Model(step), _Whole(callbacks, Statistics(step.network))
    try:
        for batches, times in ((remainder, 1), (loader, epochs)):
            if batches is not None and times and not (whole.context and whole.context.get_stop_requested()):
                whole.size, whole.left = batches.get_dataset_size(), 0
                model.train(times * whole.size if sink else times, batches, [whole], dataset_sink_mode=sink,
                            sink_size=1 if sink else -1)
        whole.tell('on_train_end', whole.context)
    except RuntimeError as error:
        raise from_worker(error) from error
    finally:
        for callback in callbacks:
            callback.close()
