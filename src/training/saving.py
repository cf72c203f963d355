"""Checkpoints and training states: what is saved beside the training steps, when, and how it is found again."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mindspore.train.callback import Callback, RunContext

from src.callback import Progress
from src.common.errors import InputError
from src.common.files import drop_digest
from src.training.signals import StopSignals, exit_after_signal
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

KEPT_STATES = 2  # the newest


def find_valid_states(final: Path, logger: logging.Logger) -> list[Path]:
    """Return the undamaged states beside the checkpoint `final`, the newest last; the others are named in the log.

    A later training in the same folder is newer than all of an earlier one.
    """
    found = []
    for path in final.parent.glob(f'{final.stem}_epoch*.state'):
        try:
            state = read_state(path)
            found.append((state.start_time, state.step, path))
        except InputError as error:
            logger.warning(f'skipped {error}')
    return [path for _, _, path in sorted(found)]


def find_start(step: TrainStep, states: list[Path], resume: str, settings: dict[str, Any], folder: Path,
               logger: logging.Logger) -> TrainingState:
    """Return where a training begins: the newest state, whose arrays are put into `step`, or step 0.

    Args:
        step: what is trained.
        states: what `find_valid_states` found.
        resume: 'no', 'yes' (there must be a state) or 'auto'.
        settings: as from `settings_affecting_results`.
        folder: where the states were looked for.
        logger: gets the lines.

    Raises:
        InputError: a state is asked for and there is none, or it is of another training.
    """
    if states and resume != 'no':
        state = read_state(states[-1])
        require_same_settings(state.settings, settings, states[-1])
        fill_step(step, state, states[-1])
        logger.info(f'resuming from {states[-1]} at step {state.step}')
        return state
    if resume == 'yes':
        raise InputError(f'--resume: {folder} has no valid training state; check --experiment_tag and --model_config, '
                         'or pass --resume auto to start without one')
    if states:
        logger.warning(f'starting a new run beside {states[-1]} of an earlier one; pass --resume to continue that')
    return TrainingState(time.time(), 0, settings, {})


class Checkpoints(Callback):
    """Saves every `interval` epochs, at the end and on SIGTERM or SIGINT; stands last among the callbacks.

    The network goes to <name>_epoch<n>.ckpt and at the end to <name>.ckpt; the whole training state to
    <name>_epoch<n>.state or, within an epoch, <name>_epoch<n>_step<k>.state. A file that can't be saved is reported
    and the training goes on; without the final checkpoint it ends with an error.

    Args:
        step: what is trained.
        progress: of the training.
        final: path <name>.ckpt.
        start: where the training begins; its arrays are not used.
        interval: epochs.
        keep: number of the newest <name>_epoch<n>.ckpt to keep; 0: all.
        states: what `find_valid_states` found.
        logger: gets the lines.
    """

    def __init__(self, step: TrainStep, progress: Progress, final: Path, start: TrainingState, *, interval: int,
                 keep: int, states: list[Path], logger: logging.Logger) -> None:
        self.step, self.progress, self.final, self.state = step, progress, final, start
        self.interval, self.keep, self.states, self.logger = interval, keep, states, logger
        self.saved_step, self.signals = start.step, StopSignals()
        for leftover in final.parent.glob(f'.{final.stem}*.part.*'):  # of a run that was killed while it saved
            leftover.unlink()

    def on_train_step_begin(self, run_context: RunContext) -> None:
        """From here on SIGTERM and SIGINT wait for the end of the step."""
        self.signals.catch()

    def on_train_step_end(self, run_context: RunContext) -> None:
        """After a signal save the state and exit, unless the step is the last of an epoch, whose end comes first."""
        self.signals.beat()
        if self.signals.number:
            self._save_state()
            if self.progress.step_in_epoch:
                self._exit()

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Save if it is this epoch's turn."""
        self.signals.catch()
        if not self.progress.step_in_epoch and self.progress.epoch % self.interval == 0:
            self._save_checkpoint()
            self._save_state()
        if self.signals.number:
            self._exit()

    def on_train_end(self, run_context: RunContext) -> None:
        """Save the final checkpoint.

        Raises:
            InputError: it could not be saved.
        """
        self.finish()

    def finish(self) -> None:
        """Save the final checkpoint, also of a training that has nothing left to do.

        Raises:
            InputError: it could not be saved.
        """
        self._save_state()
        if not self._try_save(self.final, lambda: save_network(self.step.result, self.final)):
            raise InputError(f'{self.final}: the final checkpoint could not be saved; make room and pass --resume')
        self.logger.info(f'checkpoint: {self.final}')

    def _save_checkpoint(self) -> None:
        path = self.final.with_name(f'{self.final.stem}_epoch{self.progress.epoch}.ckpt')
        if self._try_save(path, lambda: save_network(self.step.result, path)) and self.keep:
            checkpoints = sorted(path.parent.glob(f'{self.final.stem}_epoch*.ckpt'),
                                 key=lambda p: (p == path, p.stat().st_mtime_ns))
            for old in checkpoints[:-self.keep]:
                drop_digest(old)
                old.unlink()

    def _save_state(self) -> None:
        p = self.progress
        if p.step == self.saved_step:
            return
        name = (f'{self.final.stem}_epoch{p.epoch - 1}_step{p.step_in_epoch}' if p.step_in_epoch
                else f'{self.final.stem}_epoch{p.epoch}')
        path = self.final.with_name(f'{name}.state')
        state = replace(self.state, step=p.step, arrays=state_of(self.step))
        if self._try_save(path, lambda: write_state(state, path)):
            self.saved_step = p.step
            self.states = [*(p for p in self.states if p != path), path]
            for old in self.states[:-KEPT_STATES]:
                old.unlink(missing_ok=True)
            del self.states[:-KEPT_STATES]

    def _try_save(self, path: Path, save: Callable[[], Any]) -> bool:
        try:
            save()
        except (OSError, RuntimeError, InputError) as error:
            reason = str(error).strip().splitlines()[-1]
            self.logger.warning(f'{path}: not saved ({reason}); earlier files are whole, the training goes on')
            return False
        return True

    def _exit(self) -> None:
        exit_after_signal(self.signals.number, self.progress.step, self.saved_step == self.progress.step, self.logger)

    def __exit__(self, *error: object) -> None:
        """Restore the handlers of the signals."""
        self.signals.release()
