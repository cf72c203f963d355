"""The figures of a training as TensorBoard events, beside steps.csv and epochs.jsonl."""
from __future__ import annotations

import importlib
import math
from pathlib import Path

from mindspore.train.callback import Callback, RunContext

from src.callback import Progress
from src.common.errors import InputError

FOLDER = 'tensorboard'


class TensorBoard(Callback):
    """Loss and learning rate of every step; at the end of an epoch all of its figures.

    It stands behind the evaluation, which adds scores to the figures. Events go by the number of the step; those that
    an earlier run wrote of the steps to come are hidden.

    Raises:
        InputError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        try:
            self.open = importlib.import_module('tensorboardX').SummaryWriter
        except ImportError as error:
            raise InputError(f'tensorboard: {error}; pip install tensorboardX, or omit --tensorboard') from error
        self.folder, self.progress, self.writer = folder, progress, None

    def on_train_begin(self, run_context: RunContext) -> None:
        """Open the event file."""
        step = self.progress.step
        self.writer = self.open(str(self.folder / FOLDER), purge_step=step + 1, filename_suffix=f'.{step}')

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Write the step; a skipped one has no loss."""
        p = self.progress
        if p.finite:
            self.writer.add_scalar('step/loss', p.loss, p.step)
        self.writer.add_scalar('step/learning_rate', p.learning_rate, p.step)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Write the epoch."""
        for key, value in self.progress.figures.items():
            if math.isfinite(value):
                self.writer.add_scalar(f'epoch/{key}', value, self.progress.step)
        self.writer.flush()

    def __exit__(self, *error: object) -> None:
        """Close the event file."""
        if self.writer:
            self.writer.close()
