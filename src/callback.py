"""What is said and noted beside the training steps: progress, metrics, the stop after bad steps."""
from __future__ import annotations

import csv
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np
from mindspore.train.callback import Callback, RunContext
from tqdm import tqdm

from src.common import epoch_log
from src.common.errors import InputError
from src.common.files import atomic_path

COLUMNS = ('epoch', 'step', 'loss', 'learning_rate', 'finite')


def first_rows(path: Path, steps: int) -> list[list[str]]:
    """The rows of the first `steps` steps in a steps.csv; none of a file that is absent or none of ours."""
    if not steps or not path.is_file():
        return []
    with path.open(newline='', errors='replace') as file:
        return [row for row in csv.reader(file)
                if len(row) == len(COLUMNS) and row[1].isdecimal() and int(row[1]) <= steps]


def append_row(path: Path, row: Sequence[Any]) -> None:
    """Adds a row to a .csv file."""
    with path.open('a', newline='') as file:
        csv.writer(file).writerow(row)


class Progress(Callback):
    """Loss per step and per epoch (true means), learning rate, images/s, time left.

    Every step is a row of steps.csv; every epoch a line of epochs.jsonl and of the log. A terminal also sees a bar.

    Args:
        learning_rates: float32 (steps,), of the steps to come.
        steps_per_epoch: see name.
        first_epoch: number of the first epoch, from 0.
        images_per_step: over all devices.
        folder: where both files go; None on the ranks that only keep step with rank 0.
        logger: gets the lines.
        max_steps: end of the training, if it is to end before the last epoch.
        max_bad_steps: that many skipped steps in a row end the training.
        replaced: counter of pictures that could not be read (see `train_loader`).
        done: steps of an earlier run that this one goes on from; their rows stay.
    """

    def __init__(self, learning_rates: np.ndarray, steps_per_epoch: int, first_epoch: int, images_per_step: int,
                 folder: Path | None, logger: logging.Logger, max_steps: int | None, max_bad_steps: int,
                 replaced: Any = None, done: int = 0) -> None:
        self.rates, self.per_epoch, self.first_epoch = learning_rates, steps_per_epoch, first_epoch
        self.images, self.folder, self.logger = images_per_step, folder, logger
        self.total = min(len(learning_rates), max_steps or len(learning_rates))
        self.max_bad, self.bad_in_row, self.bad = max_bad_steps, 0, 0
        self.replaced, self.done, self.step = replaced, done, done
        self.losses: list[float] = []
        self.lacking: set[str] = set()

    def on_train_begin(self, run_context: RunContext) -> None:
        """Opens steps.csv and the bar."""
        rows = []
        if self.folder:
            rows = first_rows(self.folder / 'steps.csv', self.done)
            with atomic_path(self.folder / 'steps.csv') as path, path.open('w', newline='') as file:
                csv.writer(file).writerows([COLUMNS, *rows])
            epoch_log.restart(self.folder / epoch_log.FILE, self.first_epoch + self.done // self.per_epoch)
        for _, step, loss, _, finite in rows:
            self._count(float(loss), finite == '1')
            if int(step) % self.per_epoch == 0:
                self.losses = []
        self.bar = tqdm(total=self.total, initial=self.done, unit='step', disable=None if self.folder else True,
                        file=sys.stderr)
        self.began = None

    def on_train_epoch_begin(self, run_context: RunContext) -> None:
        """Starts the epoch's clock: what is done between two epochs (checkpoints, evaluation) is no time of either."""
        self.epoch_began = time.time()

    def on_train_step_begin(self, run_context: RunContext) -> None:
        """Starts the clock."""
        if self.began is None:
            self.began = time.time()

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Writes the row, counts bad steps, stops where asked."""
        outputs = run_context.original_args().net_outputs
        loss, finite = float(outputs[0].asnumpy()), bool(outputs[1].asnumpy())
        epoch = self.first_epoch + self.step // self.per_epoch + 1
        self._write(append_row, 'steps.csv', (epoch, self.step + 1, loss, float(self.rates[self.step]), int(finite)))
        self.step += 1
        if self.step == self.done + 1:
            self.logger.info(f'first step: loss {loss:.6f}, {time.time() - self.began:.1f} s')
            self.began = self.epoch_began = time.time()
        self.bar.set_postfix(epoch=epoch, loss=f'{loss:.6f}', refresh=False)
        self.bar.update()
        self._count(loss, finite)
        if not finite:
            self.logger.warning(f'step {self.step}: gradients are not finite, the step was skipped')
            if self.bad_in_row >= self.max_bad:
                raise InputError(f'{self.bad_in_row} steps in a row had non-finite gradients: stopped; the last '
                                 'checkpoint is whole, go on from it with --checkpoint_path, --start_epoch and a '
                                 'lower --learning_rate')
        if self.step >= self.total:
            run_context.request_stop()

    def _count(self, loss: float, finite: bool) -> None:
        if finite:
            self.losses.append(loss)
            self.bad_in_row = 0
        else:
            self.bad, self.bad_in_row = self.bad + 1, self.bad_in_row + 1

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Notes and logs the epoch."""
        now, steps = time.time(), (self.step - 1) % self.per_epoch + 1
        seconds = max(now - self.epoch_began, 1e-9)
        loss = float(np.mean(self.losses)) if self.losses else float('nan')
        # The very first step is left out of the clock: it holds the compilation.
        run = self.step - self.done
        timed = min(steps, run) - (run <= steps)
        rate = timed * self.images / seconds if timed else float('nan')
        left = (self.total - self.step) * (now - self.began) / max(run - 1, 1)
        epoch = self.first_epoch + (self.step - 1) // self.per_epoch + 1
        learning_rate = float(self.rates[self.step - 1])
        self._write(epoch_log.append, epoch_log.FILE, dict(
            epoch=epoch, loss=loss, learning_rate=learning_rate, images_per_second=rate, seconds=seconds,
            skipped_steps=steps - len(self.losses)))
        skipped = f', {self.bad} steps skipped' if self.bad else ''
        if self.replaced is not None and self.replaced.value:
            skipped += f', {self.replaced.value} unreadable pictures replaced'
        self.logger.info(f'epoch {epoch}: loss {loss:.6f}, lr {learning_rate:.3g}, {rate:.1f} images/s, '
                         f'{left / 60:.1f} min left{skipped}')
        self.losses = []

    def _write(self, write: Callable[[Path, Any], None], name: str, row: Any) -> None:
        if self.folder:
            try:
                write(self.folder / name, row)
            except OSError as error:
                if name not in self.lacking:
                    self.logger.warning(f'{self.folder / name}: cannot be written ({error.strerror}); rows will be '
                                        'missing, the training goes on')
                self.lacking.add(name)

    def close(self) -> None:
        """Ends the bar; also after an error."""
        if hasattr(self, 'bar'):
            self.bar.close()
