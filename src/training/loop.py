"""The loop over epochs and steps: MindSpore's `Model.train`, heard by callbacks as one training."""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from mindspore import Model
from mindspore.dataset import Dataset
from mindspore.train.callback import Callback, RunContext

from src.callback import Progress
from src.common.errors import behind
from src.training.train_step import TrainStep


class CallbackRelay(Callback):
    """Makes two calls of `Model.train` one training to the callbacks, and keeps its `Progress`.

    Callbacks hear of the data's epochs: in sink mode of one step MindSpore takes every step for an epoch.
    """

    def __init__(self, step: TrainStep, progress: Progress, callbacks: Sequence[Callback]) -> None:
        self.step, self.progress, self.callbacks = step, progress, callbacks
        self.context: RunContext | None = None
        self.in_epoch, self.learning_rate = False, 0.0

    @property
    def stopped(self) -> bool:
        """Return whether a callback asked for the end."""
        return self.context is not None and self.context.get_stop_requested()

    def notify(self, event: str, run_context: RunContext | None) -> None:
        """Call one method of every callback."""
        for callback in self.callbacks:
            getattr(callback, event)(run_context)

    def on_train_begin(self, run_context: RunContext) -> None:
        """Pass on the first begin."""
        if self.context is None:
            self.notify('on_train_begin', run_context)
        self.context = run_context

    def on_train_epoch_begin(self, run_context: RunContext) -> None:
        """Pass on the begin of an epoch of the data."""
        if not self.in_epoch:
            self.in_epoch = True
            self.progress.begin_epoch()
            self.notify('on_train_epoch_begin', run_context)

    def on_train_step_begin(self, run_context: RunContext) -> None:
        """Read the learning rate before the step counts itself."""
        self.learning_rate = self.step.learning_rate
        self.notify('on_train_step_begin', run_context)

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Mend the statistics first, so that no callback sees spoilt ones; stop after the last step."""
        loss, finite = (output.asnumpy() for output in run_context.original_args().net_outputs)
        if not finite:
            self.step.restore_statistics()
        self.progress.end_step(float(loss), bool(finite), self.learning_rate)
        self.notify('on_train_step_end', run_context)
        if self.progress.step >= self.progress.total_steps:
            run_context.request_stop()

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Pass on the end of an epoch of the data, or of the training within one."""
        if not self.progress.step_in_epoch or run_context.get_stop_requested():
            self.in_epoch = False
            self.progress.end_epoch()
            self.notify('on_train_epoch_end', run_context)


def fit(step: TrainStep, progress: Progress, loader: Dataset, callbacks: Sequence[Callback],
        remainder: Dataset | None = None, sink: bool = False) -> None:
    """Train from `progress.step` to `progress.total_steps`; callbacks are left (`__exit__`) whatever happens.

    Args:
        progress: where the training begins; kept up to date.
        callbacks: of MindSpore's kind.
        remainder: batches left of an epoch that an earlier run began; they come first.
        sink: MindSpore's sink mode, a step at a time, so that callbacks hear of every step; not for the CPU.

    Raises:
        InputError: an image can't be read, or a callback ends the training.
    """
    step.set_train()
    step.keep_statistics()
    model, relay = Model(step), CallbackRelay(step, progress, callbacks)
    with ExitStack() as stack:
        for callback in callbacks:
            stack.enter_context(callback)
        try:
            for batches in (loader,) if remainder is None else (remainder, loader):
                size = batches.get_dataset_size()
                epochs = -(-(progress.total_steps - progress.step) // size) if batches is loader else 1
                if epochs > 0 and not relay.stopped:
                    model.train(epochs * size if sink else epochs, batches, [relay], dataset_sink_mode=sink,
                                sink_size=1 if sink else -1)
        except RuntimeError as error:
            cause = behind(error)
            if cause is error:
                raise
            raise cause from error
        if relay.context is None:  # nothing was left to train
            relay.notify('on_train_begin', None)
        relay.notify('on_train_end', relay.context)
