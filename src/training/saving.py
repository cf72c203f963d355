"""Checkpoints and training states: what is saved beside the training steps, when, and how it is found again."""
from __future__ import annotations

import glob
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mindspore.train.callback import Callback, RunContext

from src.callback import Progress
from src.common.errors import InputError, first_line
from src.common.files import drop_digest
from src.common.inputs import load_json
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
    for path in final.parent.glob(f'{glob.escape(final.stem)}_epoch*.state'):
        try:
            state = read_state(path)
            found.append((state.start_time, state.step, path))
        except InputError as error:
            logger.warning(f'skipped {error}')
    return [path for _, _, path in sorted(found)]


def is_of_last_training(state: TrainingState, folder: Path) -> bool:
    """Return whether a state is of the training that wrote config.json, and that may have been killed without any."""
    file = folder / 'config.json'
    began = load_json(file).get('start_time') if file.is_file() else None  # earlier versions didn't say
    return began in (None, state.start_time)


def find_start(step: TrainStep, states: list[Path], resume: str, settings: dict[str, Any], folder: Path,
               logger: logging.Logger) -> TrainingState:
    """Return where a training begins: the newest state, whose arrays are put into `step`, or step 0.

    Args:
        states: what `find_valid_states` found.
        resume: 'no', 'yes' (there must be a state) or 'auto'.
        settings: as from `settings_affecting_results`.

    Raises:
        InputError: a state is asked for and there is none, or it is of another training.
    """
    if states and resume != 'no':
        state = read_state(states[-1])
        if is_of_last_training(state, folder):
            require_same_settings(state.settings, settings, states[-1])
            fill_step(step, state, states[-1])
            logger.info(f'resuming from {states[-1]} at step {state.step}')
            return state
        logger.warning(f'{states[-1]} is of a training before the last one, which saved no state')
    if resume == 'yes':
        raise InputError(f'--resume: {folder} has no valid training state; check --experiment_tag and --model_config, '
                         'or pass --resume auto to start without one')
    if states and resume == 'no':
        logger.warning(f'starting a new run beside {states[-1]} of an earlier one; pass --resume to continue that')
    return TrainingState(time.time(), 0, settings, {})


class Checkpoints(Callback):
    """Saves every `interval` epochs, before every evaluation, and at the end; stands before the evaluation.

    The network goes to <name>_epoch<n>.ckpt and at the end to <name>.ckpt; the whole training state to
    <name>_epoch<n>.state or, within an epoch, <name>_epoch<n>_step<k>.state. A file that can't be saved is reported
    and training continues; without the final checkpoint it ends with an error.

    Args:
        final: path <name>.ckpt.
        start: where the training begins; its arrays are not used.
        interval: epochs from one checkpoint and state to the next.
        eval_interval: epochs from one evaluation to the next, before which the state is saved; 0: no evaluation.
        keep: number of the newest <name>_epoch<n>.ckpt to keep; 0: all.
    """

    def __init__(self, step: TrainStep, progress: Progress, final: Path, start: TrainingState, *, interval: int,
                 eval_interval: int, keep: int, states: list[Path], logger: logging.Logger) -> None:
        self.step, self.progress, self.final, self.state = step, progress, final, start
        self.interval, self.keep, self.states, self.logger = interval, keep, states, logger
        self.eval_interval, self.saved_step = eval_interval, start.step
        for leftover in final.parent.glob(f'.{glob.escape(final.stem)}*.part.*'):  # of a run killed while it saved
            leftover.unlink()

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Save if it is this epoch's turn."""
        p = self.progress
        if p.is_due(self.interval) and not p.step_in_epoch:
            self._save_checkpoint()
        if p.is_due(self.interval) or p.is_due(self.eval_interval):
            self.save_state()

    def on_train_end(self, run_context: RunContext) -> None:
        """Save the final checkpoint."""
        self.save_state()
        if not self._try_save(self.final, lambda: save_network(self.step.result, self.final)):
            raise InputError(f'{self.final}: the final checkpoint could not be saved; make room and pass --resume')
        self.logger.info(f'checkpoint: {self.final}')

    def _save_checkpoint(self) -> None:
        path = self.final.with_name(f'{self.final.stem}_epoch{self.progress.epoch}.ckpt')
        if self._try_save(path, lambda: save_network(self.step.result, path)) and self.keep:
            checkpoints = sorted(path.parent.glob(f'{glob.escape(self.final.stem)}_epoch*.ckpt'),
                                 key=lambda p: (p == path, p.stat().st_mtime_ns))
            for old in checkpoints[:-self.keep]:
                drop_digest(old)
                old.unlink()

    def save_state(self) -> bool:
        """Save the training state, unless it is saved; return whether it is."""
        p = self.progress
        if p.step == self.saved_step:
            return True
        name = (f'{self.final.stem}_epoch{p.epoch - 1}_step{p.step_in_epoch}' if p.step_in_epoch
                else f'{self.final.stem}_epoch{p.epoch}')
        path = self.final.with_name(f'{name}.state')
        state = replace(self.state, step=p.step, arrays=state_of(self.step))
        if not self._try_save(path, lambda: write_state(state, path)):
            return False
        self.saved_step = p.step
        self.states = [*(old for old in self.states if old != path), path]
        for old in self.states[:-KEPT_STATES]:
            old.unlink(missing_ok=True)
        del self.states[:-KEPT_STATES]
        return True

    def _try_save(self, path: Path, save: Callable[[], Any]) -> bool:
        try:
            save()
        except (OSError, RuntimeError, InputError) as error:
            self.logger.warning(f'{path}: not saved ({first_line(error)}); earlier files are whole, training '
                                'continues')
            return False
        return True


class LeaveAfterSignal(Callback):
    """Ends the process, its state saved, after a signal; stands last among the callbacks of rank 0."""

    def __init__(self, signals: StopSignals, progress: Progress, checkpoints: Checkpoints,
                 logger: logging.Logger) -> None:
        self.signals, self.progress, self.checkpoints, self.logger = signals, progress, checkpoints, logger

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Leave within an epoch; the last step of one leaves at the epoch's end."""
        if self.progress.step_in_epoch:
            self.on_train_epoch_end(run_context)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Leave."""
        if self.signals.number:
            saved = self.checkpoints.save_state()
            exit_after_signal(self.signals.number, self.progress.step, saved, self.logger)
