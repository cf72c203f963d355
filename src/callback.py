"""Callbacks of a training: per-step CSV, epoch log, console, and the stop after repeated bad steps.

All of them read where the training is, and what its last step gave, from one `Progress`, which `fit` keeps.
"""
from __future__ import annotations

import csv
import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore.train.callback import Callback, RunContext
from tqdm import tqdm

from src.common import epoch_log
from src.common.errors import InputError
from src.common.files import append_line, atomic_path
from src.common.progress_bar import LINE_SECONDS

COLUMNS = ('epoch', 'step', 'loss', 'learning_rate', 'finite')


@dataclass
class Progress:
    """Where a training is, and what its last step and epoch gave."""

    steps_per_epoch: int
    total_steps: int  # number of the step after which the training ends
    images_per_step: int = 1  # batch size over all devices
    first_epoch: int = 0  # number of the epoch, from 0, that step 0 belongs to
    step: int = 0  # steps done, skipped ones and those of an earlier, resumed run included
    loss: float = float('nan')  # of the last step
    finite: bool = True  # whether the last step's gradients were finite; otherwise it was skipped
    learning_rate: float = float('nan')  # of the update that the last step belongs to
    losses: list[float] = field(default_factory=list)  # of the epoch's steps so far, without skipped ones
    skipped: int = 0  # steps skipped in this run
    # Of the last epoch, or of what was done of it: its row of epochs.jsonl. Evaluation adds its scores.
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.start = self.step  # of this run
        self._run_began = self._epoch_began = time.time()
        self._timed_steps = 0  # of the epoch; the first step of a run is none of them, because it holds the compilation

    @property
    def epoch(self) -> int:
        """Return the number, from 1, of the last step's epoch; at the end of an epoch, of epochs done."""
        return self.first_epoch + -(-self.step // self.steps_per_epoch)

    @property
    def step_in_epoch(self) -> int:
        """Return the number of steps done of an unfinished epoch; 0 at the end of one."""
        return self.step % self.steps_per_epoch

    def is_due(self, interval: int) -> bool:
        """Return whether an epoch, or the training within it, ends here whose number is a multiple of `interval`."""
        ends = self.step and (not self.step_in_epoch or self.step >= self.total_steps)
        return bool(interval and ends and self.epoch % interval == 0)

    def begin_epoch(self) -> None:
        """Start the epoch's clock, so that checkpoints and evaluation between two epochs are no time of either."""
        self._epoch_began, self._timed_steps = time.time(), 0
        if not self.step_in_epoch:
            self.losses = []

    def end_step(self, loss: float, finite: bool, learning_rate: float) -> None:
        """Count a step that has just ended."""
        self.step += 1
        self.loss, self.finite, self.learning_rate = loss, finite, learning_rate
        self.losses += [loss] * finite
        self.skipped += not finite
        if self.step == self.start + 1:
            self._run_began = self._epoch_began = time.time()
        else:
            self._timed_steps += 1

    def end_epoch(self) -> None:
        """Put the epoch's figures together."""
        seconds = max(time.time() - self._epoch_began, 1e-9)
        rate = self._timed_steps * self.images_per_step / seconds if self._timed_steps else float('nan')
        self.figures = {'epoch': self.epoch, 'loss': mean(self.losses), 'learning_rate': self.learning_rate,
                        'images_per_second': rate, 'seconds': seconds,
                        'skipped_steps': (self.step_in_epoch or self.steps_per_epoch) - len(self.losses)}

    def minutes_left(self) -> float:
        """Return the minutes to the end of the training at the pace of this run."""
        seconds = (time.time() - self._run_began) / max(self.step - self.start - 1, 1)
        return (self.total_steps - self.step) * seconds / 60


def mean(values: list[float]) -> float:
    """Return the arithmetic mean; nan of no values."""
    return float(np.mean(values)) if values else float('nan')


class _Table(Callback):
    """A file that `_append` adds rows to; where that fails, it is said once and training continues."""

    def __init__(self, path: Path, progress: Progress, logger: logging.Logger) -> None:
        self.path, self.progress, self.logger, self.failed = path, progress, logger, False

    def add(self, row: Any) -> None:
        """Append a row."""
        try:
            self._append(row)
        except OSError as error:
            if not self.failed:
                self.logger.warning(f'{self.path}: cannot be written ({error.strerror}); rows will be missing, '
                                    'training continues')
            self.failed = True


class StepTable(_Table):
    """steps.csv: a row of `COLUMNS` per step. A resumed training keeps the rows of the steps done before."""

    def on_train_begin(self, run_context: RunContext) -> None:
        """Write the rows to keep, and take up the losses of an epoch that was interrupted."""
        rows = [row for row in self._rows() if int(row[1]) <= self.progress.step]
        with atomic_path(self.path) as path, path.open('w', newline='') as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        first = self.progress.step - self.progress.step_in_epoch
        self.progress.losses = [float(loss) for _, step, loss, _, finite in rows if int(step) > first and finite == '1']

    def _rows(self) -> list[list[str]]:
        if not self.progress.step or not self.path.is_file():
            return []
        with self.path.open(newline='', errors='replace') as file:
            return [row for row in csv.reader(file) if len(row) == len(COLUMNS) and row[1].isdecimal()]

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Add the step's row."""
        p = self.progress
        self.add((p.epoch, p.step, p.loss, p.learning_rate, int(p.finite)))

    def _append(self, row: tuple[Any, ...]) -> None:
        append_line(self.path, ','.join(map(str, row)) + '\r\n')


class EpochTable(_Table):
    """epochs.jsonl: a line per epoch (see src/common/epoch_log.py), and those that others add to it."""

    def on_train_begin(self, run_context: RunContext) -> None:
        """Drop the lines of epochs that will be done again."""
        p = self.progress
        if p.step < p.total_steps:
            epoch_log.restart(self.path, p.first_epoch + p.step // p.steps_per_epoch)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Add the epoch's figures."""
        self.add(self.progress.figures)

    def _append(self, row: dict[str, Any]) -> None:
        epoch_log.append(self.path, row)


class Console(Callback):
    """A bar on a terminal; elsewhere a line every `LINE_SECONDS` at most. A line after the first step and every epoch.

    Args:
        replaced: counter of images that could not be read (see `train_loader`), or None.
    """

    def __init__(self, progress: Progress, logger: logging.Logger, replaced: Any = None) -> None:
        self.progress, self.logger, self.replaced = progress, logger, replaced
        self.bar: tqdm | None = None

    def on_train_begin(self, run_context: RunContext) -> None:
        """Open the bar."""
        self.bar = tqdm(total=self.progress.total_steps, initial=self.progress.step, unit='step', disable=None,
                        file=sys.stderr)

    def on_train_epoch_begin(self, run_context: RunContext) -> None:
        """Start the clock of the lines."""
        self._restart()

    def _restart(self) -> None:
        self._began, self._first, self._losses = time.time(), self.progress.step, []

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Move the bar, or write a line where it is time for one."""
        p = self.progress
        if p.step == p.start + 1:
            self.logger.info(f'first step: loss {p.loss:.6f}, {time.time() - self._began:.1f} s')
            self._restart()
        self._losses += [p.loss] * p.finite
        self.bar.set_postfix(epoch=p.epoch, loss=f'{p.loss:.6f}', refresh=False)
        self.bar.update()
        seconds = time.time() - self._began
        if self.bar.disable and seconds >= LINE_SECONDS and p.step_in_epoch:
            rate = (p.step - self._first) * p.images_per_step / seconds
            self.logger.info(f'epoch {p.epoch}, step {p.step_in_epoch}/{p.steps_per_epoch}: '
                             f'{self._describe(mean(self._losses), rate)}')
            self._restart()

    def _describe(self, loss: float, rate: float) -> str:
        pace = '' if np.isnan(rate) else f'{rate:.1f} images/s, '  # an epoch of the first step alone has none
        return (f'loss {loss:.6f}, lr {self.progress.learning_rate:.3g}, {pace}'
                f'{self.progress.minutes_left():.1f} min left')

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Write the epoch's line."""
        figures = self.progress.figures
        notes = f', {self.progress.skipped} steps skipped' if self.progress.skipped else ''
        if self.replaced is not None and self.replaced.value:
            notes += f', {self.replaced.value} unreadable images replaced'
        self.logger.info(f'epoch {self.progress.epoch}: '
                         f'{self._describe(figures["loss"], figures["images_per_second"])}{notes}')

    def __exit__(self, *error: object) -> None:
        """End the bar."""
        if self.bar is not None:
            self.bar.close()


class BadStepGuard(Callback):
    """Ends the training after `limit` skipped steps in a row."""

    def __init__(self, progress: Progress, limit: int, logger: logging.Logger) -> None:
        self.progress, self.limit, self.logger, self.in_a_row = progress, limit, logger, 0

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Count skipped steps."""
        if self.progress.finite:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        self.logger.warning(f'step {self.progress.step}: gradients are not finite, the step was skipped')
        if self.in_a_row >= self.limit:
            raise InputError(f'{self.in_a_row} steps in a row had non-finite gradients: stopped; start from the last '
                             'checkpoint with --checkpoint_path, --start_epoch and a lower --learning_rate')
