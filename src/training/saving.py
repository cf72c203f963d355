"""What is saved beside the training steps, when, and how it is found again."""
from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mindspore.train.callback import Callback, RunContext

from src.common.errors import InputError
from src.common.files import drop_digest
from src.training.signals import StopSignals
from src.training.state import (
    TrainingState,
    fill_step,
    read_state,
    require_same_settings,
    state_of,
    write_state,
)
from src.training.train_step import TrainStep
from src.weights.checkpoint import save_network

STATES = 2  # the newest that are kept


def whole_states(final: Path, logger: logging.Logger) -> list[Path]:
    """States beside the checkpoint `final` that can be gone on from, the newest last; says which are damaged.

    A later training in the same folder is newer than all of an earlier one.
    """
    found = []
    for path in final.parent.glob(f'{final.stem}_epoch*.state'):
        try:
            state = read_state(path)
            found.append((state.begun, state.done, path))
        except InputError as error:
            logger.warning(f'{error}; left aside')
    return [path for _, _, path in sorted(found)]


def find_start(step: TrainStep, states: list[Path], resume: str, settings: dict[str, Any], folder: Path,
               logger: logging.Logger) -> TrainingState:
    """Where a training begins: the newest state, put into `step`, or nothing done.

    Args:
        step: what is trained.
        states: what `whole_states` found.
        resume: 'no', 'yes' (there must be a state) or 'auto'.
        settings: as from `settings_that_count`.
        folder: where the states were looked for.
        logger: gets the lines.

    Raises:
        InputError: a state is asked for and there is none, or it is of another training.
    """
    if states and resume != 'no':
        state = read_state(states[-1])
        require_same_settings(state.settings, settings, states[-1])
        fill_step(step, state, states[-1])
        logger.info(f'goes on from {states[-1]}: {state.done} steps done')
        return state
    if resume == 'yes':
        raise InputError(f'--resume: {folder} has no whole training state; check --experiment_tag and --model_config, '
                         'or pass --resume auto to begin')
    if states:
        logger.warning(f'begins anew, beside {states[-1]} of an earlier run that --resume would go on from')
    return TrainingState(time.time(), 0, settings, {})


class Checkpoints(Callback):
    """Saves every `interval` epochs, at the end and on SIGTERM or SIGINT; stands last among the callbacks.

    The network goes to <name>_epoch<n>.ckpt and at the end to <name>.ckpt; the whole training state to
    <name>_epoch<n>.state or, within an epoch, <name>_epoch<n>_step<k>.state. A file that can't be saved is told and
    the training goes on; without the final checkpoint it ends with an error.

    Args:
        step: what is trained.
        final: path <name>.ckpt.
        start: where the training begins or goes on; its arrays are not used.
        interval: epochs.
        keep: newest <name>_epoch<n>.ckpt that stay; 0: all.
        steps_per_epoch: see name.
        first_epoch: number of the epoch in which `start.done` was 0.
        states: what `whole_states` found.
        logger: gets the lines.
    """

    def __init__(self, step: TrainStep, final: Path, start: TrainingState, *, interval: int, keep: int,
                 steps_per_epoch: int, first_epoch: int, states: list[Path], logger: logging.Logger) -> None:
        self.step, self.final, self.state, self.interval, self.keep = step, final, start, interval, keep
        self.per_epoch, self.first_epoch, self.states, self.logger = steps_per_epoch, first_epoch, states, logger
        self.done, self.saved, self.signals = start.done, start.done, StopSignals()
        for left in final.parent.glob(f'.{final.stem}*.part.*'):  # by a run that was killed while it saved
            left.unlink()

    def on_train_step_begin(self, run_context: RunContext) -> None:
        """From here on SIGTERM and SIGINT wait for the end of the step."""
        self.signals.catch()

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Counts; after a signal saves the state and ends, but for the last step of an epoch, whose end comes first."""
        self.done += 1
        self.signals.beat()
        if self.signals.number:
            self._save_state()
            if self.done % self.per_epoch:
                self._leave()

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Saves if it is this epoch's turn."""
        self.signals.catch()
        epoch, further = divmod(self.done, self.per_epoch)
        epoch += self.first_epoch
        if not further and epoch % self.interval == 0:
            path = self.final.with_name(f'{self.final.stem}_epoch{epoch}.ckpt')
            if self._attempt(path, lambda: save_network(self.step.result, path)) and self.keep:
                checkpoints = sorted(path.parent.glob(f'{self.final.stem}_epoch*.ckpt'),
                                     key=lambda p: (p == path, p.stat().st_mtime_ns))
                for old in checkpoints[:-self.keep]:
                    drop_digest(old)
                    old.unlink()
            self._save_state()
        if self.signals.number:
            self._leave()

    def on_train_end(self, run_context: RunContext) -> None:
        """Saves the final checkpoint.

        Raises:
            InputError: it could not be saved.
        """
        self.finish()

    def finish(self) -> None:
        """See `on_train_end`; also for a training that has nothing left to do."""
        self._save_state()
        if not self._attempt(self.final, lambda: save_network(self.step.result, self.final)):
            raise InputError(f'{self.final}: the final checkpoint could not be saved; make room and pass --resume')
        self.logger.info(f'checkpoint: {self.final}')

    def _save_state(self) -> None:
        if self.done == self.saved:
            return
        epoch, further = divmod(self.done, self.per_epoch)
        name = f'{self.final.stem}_epoch{self.first_epoch + epoch}' + (f'_step{further}' if further else '')
        path = self.final.with_name(f'{name}.state')
        state = replace(self.state, done=self.done, arrays=state_of(self.step))
        if self._attempt(path, lambda: write_state(state, path)):
            self.saved = self.done
            self.states = [*(p for p in self.states if p != path), path]
            for old in self.states[:-STATES]:
                old.unlink(missing_ok=True)
            del self.states[:-STATES]

    def _attempt(self, path: Path, save: Callable[[], Any]) -> bool:
        try:
            save()
        except (OSError, RuntimeError, InputError) as error:
            reason = str(error).strip().splitlines()[-1]
            self.logger.warning(f'{path}: not saved ({reason}); earlier files are whole, the training goes on')
            return False
        return True

    def _leave(self) -> None:
        number = self.signals.number
        self.logger.info(f'{signal.Signals(number).name} after step {self.done}: '
                         f'{"saved" if self.saved == self.done else "not saved"}, --resume goes on from here')
        sys.stdout.flush()
        # MindSpore 1.10's data workers outlive this process until it is waited for; later releases would call their end
        # an error.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for worker in multiprocessing.active_children():
            worker.kill()
        # Not by an exception: where a data worker has died, MindSpore waits for it for ever while it clears up.
        os._exit(128 + number)

    def close(self) -> None:
        """Gives the signals back."""
        self.signals.release()
