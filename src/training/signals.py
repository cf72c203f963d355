"""SIGTERM, SIGINT and SIGUSR1 (mpirun hands it on) as a flag, read between two steps or batches of the evaluation."""
from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
from types import FrameType

from mindspore.train.callback import Callback, RunContext

GRACE = 60.0  # seconds after a signal in which a step, or a batch of the evaluation, has to end
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignals:
    """Keeps the first signal; a second one has its usual effect. Ends the process if no step ends after the first.

    The last is needed because Python's handlers wait for the main thread, which MindSpore may hold for ever.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal that came
        self._beats, self._process, self._before = 0, os.getpid(), {}
        self._pipe = os.pipe()

    def catch(self) -> None:
        """Set the handlers; to be called repeatedly, as MindSpore's data pipeline sets its own whenever it starts."""
        if not self._before:
            for end in self._pipe:
                os.set_blocking(end, False)
            self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            threading.Thread(target=self._watch, daemon=True).start()
        for number in SIGNALS:
            before = signal.signal(number, self._record)
            self._before.setdefault(number, before)

    def beat(self) -> None:
        """Count the end of a step or a batch, a sign of life."""
        self._beats += 1

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.number or os.getpid() != self._process:  # a second one, or inherited by a data worker
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number = number

    def _watch(self) -> None:
        while self._before or not self._beats:
            if not select.select([self._pipe[0]], [], [], 1)[0]:
                continue
            numbers = [n for n in os.read(self._pipe[0], 64) if n in SIGNALS]
            beats, end = self._beats, time.monotonic() + GRACE
            while numbers and beats == self._beats and time.monotonic() < end:
                time.sleep(0.2)
            if numbers and beats == self._beats and self._before:
                print(f'error: {signal.Signals(numbers[0]).name}, and no step ended within {GRACE:.0f} s: ended '
                      'without saving; pass --resume to continue from the newest state', file=sys.stderr, flush=True)
                os._exit(128 + numbers[0])

    def release(self) -> None:
        """Restore the handlers from before the first `catch`."""
        if self._before:
            signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class DeferSignals(Callback):
    """Holds these signals back from the first step on; stands first among the callbacks of every rank.

    Rank 0 saves and ends itself (`LeaveAfterSignal`); the others go on, as rank 0 needs them to finish its step, until
    the launcher ends them.
    """

    def __init__(self, signals: StopSignals) -> None:
        self.signals = signals

    def on_train_step_begin(self, run_context: RunContext) -> None:
        """Set the handlers."""
        self.signals.catch()

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Count the end of the step."""
        self.signals.beat()

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Set the handlers again, before checkpoints and evaluation."""
        self.signals.catch()

    def __exit__(self, *error: object) -> None:
        """Restore the handlers."""
        self.signals.release()


def exit_after_signal(number: int, step: int, saved: bool, logger: logging.Logger) -> None:
    """End the process with the exit status of a signal, and say what was saved."""
    logger.info(f'{signal.Signals(number).name} after step {step}: {"saved" if saved else "not saved"}; pass --resume '
                'to continue')
    sys.stdout.flush()
    os._exit(128 + number)  # at once: MindSpore may clear up for longer than whoever sent the signal waits
