"""What happens beside the training steps: progress and metrics, checkpoints, the stop after bad steps."""
from __future__ import annotations

import csv
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import nn
from mindspore.train.callback import Callback, RunContext
from tqdm import tqdm

from src.checkpoint import save_network
from src.errors import InputError


class Progress(Callback):
    """Loss per step and per epoch (true means), learning rate, images/s, time left.

    Every step is a row of steps.csv; every epoch a line of the log. A terminal also sees a bar.

    Args:
        learning_rates: float32 (steps,), of the steps to come.
        steps_per_epoch: see name.
        first_epoch: number of the first epoch, from 0.
        images_per_step: over all devices.
        folder: where steps.csv goes; None on the ranks that only keep step with rank 0.
        logger: gets the lines.
        max_steps: end of the training, if it is to end before the last epoch.
        max_bad_steps: that many skipped steps in a row end the training.
        replaced: counter of pictures that could not be read (see `train_loader`).
    """

    def __init__(self, learning_rates: np.ndarray, steps_per_epoch: int, first_epoch: int, images_per_step: int,
                 folder: Path | None, logger: logging.Logger, max_steps: int | None, max_bad_steps: int,
                 replaced: Any = None) -> None:
        self.rates, self.per_epoch, self.first_epoch = learning_rates, steps_per_epoch, first_epoch
        self.images, self.folder, self.logger = images_per_step, folder, logger
        self.total = min(len(learning_rates), max_steps or len(learning_rates))
        self.max_bad, self.bad_in_row, self.bad, self.step = max_bad_steps, 0, 0, 0
        self.replaced = replaced
        self.losses: list[float] = []

    def on_train_begin(self, run_context: RunContext) -> None:
        """Opens steps.csv and the bar."""
        path = self.folder / 'steps.csv' if self.folder else Path(os.devnull)
        self.file = path.open('w', newline='', buffering=1)
        self.rows = csv.writer(self.file)
        self.rows.writerow(('epoch', 'step', 'loss', 'learning_rate', 'finite'))
        self.bar = tqdm(total=self.total, unit='step', disable=None if self.folder else True, file=sys.stderr)
        self.logger.info('compiling the training step (about a minute; the first step waits for it)')
        self.began = self.epoch_began = None

    def on_train_step_begin(self, run_context: RunContext) -> None:
        """Starts the clock."""
        if self.began is None:
            self.began = self.epoch_began = time.time()

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Writes the row, counts bad steps, stops where asked."""
        outputs = run_context.original_args().net_outputs
        loss, finite = float(outputs[0].asnumpy()), bool(outputs[1].asnumpy())
        epoch = self.first_epoch + self.step // self.per_epoch + 1
        self.rows.writerow((epoch, self.step + 1, loss, float(self.rates[self.step]), int(finite)))
        self.step += 1
        if self.step == 1:
            self.logger.info(f'first step: loss {loss:.6f}, compiled and run in {time.time() - self.began:.0f} s')
            self.began = self.epoch_began = time.time()
        self.bar.set_postfix(epoch=epoch, loss=f'{loss:.6f}', refresh=False)
        self.bar.update()
        if finite:
            self.losses.append(loss)
            self.bad_in_row = 0
        else:
            self.bad, self.bad_in_row = self.bad + 1, self.bad_in_row + 1
            self.logger.warning(f'step {self.step}: gradients are not finite, the step was skipped')
            if self.bad_in_row >= self.max_bad:
                raise InputError(f'{self.bad_in_row} steps in a row had non-finite gradients: stopped; the last '
                                 'checkpoint is whole, go on from it with a lower --learning_rate')
        if self.step >= self.total:
            run_context.request_stop()

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Logs the epoch."""
        now, steps = time.time(), (self.step - 1) % self.per_epoch + 1
        seconds = max(now - self.epoch_began, 1e-9)
        loss = float(np.mean(self.losses)) if self.losses else float('nan')
        # The very first step is left out of the clock: it holds the compilation.
        timed = steps - (self.step == steps)
        rate = timed * self.images / seconds if timed else float('nan')
        left = (self.total - self.step) * (now - self.began) / max(self.step - 1, 1)
        skipped = f', {self.bad} steps skipped' if self.bad else ''
        if self.replaced is not None and self.replaced.value:
            skipped += f', {self.replaced.value} unreadable pictures replaced'
        self.logger.info(f'epoch {self.first_epoch + (self.step - 1) // self.per_epoch + 1}: loss {loss:.6f}, '
                         f'lr {self.rates[self.step - 1]:.3g}, {rate:.1f} images/s, '
                         f'{left / 60:.1f} min left{skipped}')
        self.losses, self.epoch_began = [], now

    def close(self) -> None:
        """Ends bar and file; also after an error."""
        if hasattr(self, 'bar'):
            self.bar.close()
            self.file.close()


class Checkpoints(Callback):
    """Saves the network every `interval` epochs as <name>_epoch<n>.ckpt, and at the end as <name>.ckpt."""

    def __init__(self, network: nn.Cell, final: Path, interval: int, first_epoch: int,
                 logger: logging.Logger) -> None:
        self.network, self.final, self.interval, self.epoch, self.logger = network, final, interval, first_epoch, logger

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Saves if it is this epoch's turn."""
        self.epoch += 1
        if self.epoch % self.interval == 0:
            save_network(self.network, self.final.with_name(f'{self.final.stem}_epoch{self.epoch}.ckpt'))

    def on_train_end(self, run_context: RunContext) -> None:
        """Saves the final checkpoint."""
        save_network(self.network, self.final)
        self.logger.info(f'checkpoint: {self.final}')

    def close(self) -> None:
        """Nothing is open between epochs."""
