"""The figures of a training as TensorBoard events, beside steps.csv and epochs.jsonl."""
from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
from mindspore.train.callback import Callback, RunContext

from src.common import epoch_log
from src.common.errors import InputError

FOLDER = 'tensorboard'


class TensorBoard(Callback):
    """Loss and learning rate of every step; at the end of an epoch, all of its figures in epochs.jsonl.

    It stands behind the callbacks that write to epochs.jsonl. Everything goes by the number of the step; a training
    that goes on hides what an earlier one wrote of the same steps.

    Args:
        folder: of the training; events go to `FOLDER` in it.
        learning_rates: float32 (steps,), of all steps.
        done: steps of an earlier run that this one goes on from.

    Raises:
        InputError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path, learning_rates: np.ndarray, done: int = 0) -> None:
        try:
            self.open = importlib.import_module('tensorboardX').SummaryWriter
        except ImportError as error:
            raise InputError(f'tensorboard: {error}; pip install tensorboardX, or leave --tensorboard away') from error
        self.folder, self.rates, self.step, self.writer = folder, learning_rates, done, None

    def on_train_begin(self, run_context: RunContext) -> None:
        """Opens the event file."""
        self.writer = self.open(str(self.folder / FOLDER), purge_step=self.step + 1, filename_suffix=f'.{self.step}')

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Notes the step; a skipped one has no loss."""
        loss, finite = run_context.original_args().net_outputs[:2]
        rate = float(self.rates[self.step])
        self.step += 1
        if bool(finite.asnumpy()):
            self.writer.add_scalar('step/loss', float(loss.asnumpy()), self.step)
        self.writer.add_scalar('step/learning_rate', rate, self.step)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Notes the epoch."""
        for key, value in epoch_log.read(self.folder / epoch_log.FILE)[-1].items():
            if value is not None:
                self.writer.add_scalar(f'epoch/{key}', value, self.step)
        self.writer.flush()

    def close(self) -> None:
        """Ends the event file; also after an error."""
        if self.writer:
            self.writer.close()
