"""Clock, tables and lines of a training, played step by step; what train.py writes is tested where it runs."""
from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest

from src import callback as module
from src.callback import Console, EpochTable, Progress, StepTable
from src.common import epoch_log

LOGGER = logging.getLogger('callback')


class Play:
    """A training whose steps take as long as they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, progress: Progress, *callbacks: module.Callback) -> None:
        self.now, self.progress, self.callbacks = 0.0, progress, callbacks
        monkeypatch.setattr(module.time, 'time', lambda: self.now)
        self.notify('on_train_begin')

    def notify(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(None)

    def epoch(self, wait: float, seconds: list[float], loss: float = 0.5) -> None:
        """An epoch whose first batch comes after `wait` seconds."""
        self.progress.begin_epoch()
        self.notify('on_train_epoch_begin')
        self.now += wait
        for duration in seconds:
            self.now += duration
            self.progress.end_step(loss, True, 0.25)
            self.notify('on_train_step_end')
        self.progress.end_epoch()
        self.notify('on_train_epoch_end')


def test_time_between_epochs_and_for_compiling_is_omitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(2, 4, images_per_step=10)
    play = Play(monkeypatch, progress, EpochTable(tmp_path / epoch_log.FILE, progress, LOGGER))
    play.epoch(3, [50, 1])
    play.now += 100
    play.epoch(3, [1, 1])
    first, second = epoch_log.read(tmp_path / epoch_log.FILE)
    assert first['seconds'] == 1 and first['images_per_second'] == 10
    assert second['seconds'] == 5 and second['images_per_second'] == 4


def test_epochs_and_steps_in_them_are_counted_from_the_first_epoch() -> None:
    found = [(p.epoch, p.step_in_epoch) for p in (Progress(3, 9, first_epoch=4, step=step) for step in range(7))]
    assert found == [(4, 0), (5, 1), (5, 2), (5, 0), (6, 1), (6, 2), (6, 0)]


@pytest.mark.parametrize(('step', 'total', 'interval', 'due'), [
    (0, 9, 1, False), (3, 9, 1, True), (4, 9, 1, False), (4, 4, 1, True), (3, 9, 2, False), (6, 9, 2, True),
    (3, 9, 0, False), (4, 4, 0, False)])
def test_what_is_done_every_so_many_epochs_is_due_at_their_end(step: int, total: int, interval: int, due: bool) -> None:
    assert Progress(3, total, step=step).is_due(interval) == due


def test_without_a_terminal_there_is_a_line_every_30_seconds_and_one_per_epoch(
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress(6, 18, images_per_step=8)
    play = Play(monkeypatch, progress, Console(progress, LOGGER))
    with caplog.at_level(logging.INFO):
        play.epoch(1, [100, 20, 20, 20, 20, 20], loss=0.5)
        play.epoch(0, [0.01] * 6, loss=0.25)
    assert caplog.messages == [
        'first step: loss 0.500000, 101.0 s',
        'epoch 1, step 3/6: loss 0.500000, lr 0.25, 0.4 images/s, 5.0 min left',
        'epoch 1, step 5/6: loss 0.500000, lr 0.25, 0.4 images/s, 4.3 min left',
        'epoch 1: loss 0.500000, lr 0.25, 0.4 images/s, 4.0 min left',
        'epoch 2: loss 0.250000, lr 0.25, 800.0 images/s, 0.9 min left']


def test_an_epoch_of_the_first_step_alone_has_no_pace(monkeypatch: pytest.MonkeyPatch,
                                                      caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress(1, 1)
    with caplog.at_level(logging.INFO):
        Play(monkeypatch, progress, Console(progress, LOGGER)).epoch(1, [5], loss=0.5)
    assert caplog.messages[-1] == 'epoch 1: loss 0.500000, lr 0.25, 0.0 min left'


def test_a_resumed_training_keeps_the_rows_and_losses_of_the_steps_before(tmp_path: Path) -> None:
    path = tmp_path / 'steps.csv'
    path.write_text('epoch,step,loss,learning_rate,finite\n1,1,0.5,0.1,1\n1,2,0.4,0.1,1\n2,3,0.3,0.1,1\n'
                    '2,4,nan,0.1,0\n2,5,0.2,0.1,1\n2,6,0.1,0.1,1\n3,7,0.')
    progress = Progress(4, 8, step=6)
    table = StepTable(path, progress, LOGGER)
    table.on_train_begin(None)
    progress.begin_epoch()
    progress.end_step(0.05, True, 0.01)
    table.on_train_step_end(None)
    rows = list(csv.reader(path.open()))
    assert [row[1] for row in rows[1:]] == ['1', '2', '3', '4', '5', '6', '7'] and rows[-1][2:] == ['0.05', '0.01', '1']
    assert progress.losses == [0.2, 0.1, 0.05]
    progress.end_epoch()
    assert progress.figures['skipped_steps'] == 0


def test_a_new_training_starts_with_empty_tables(tmp_path: Path) -> None:
    path = tmp_path / 'steps.csv'
    path.write_text('epoch,step,loss,learning_rate,finite\n1,1,0.5,0.1,1\n')
    StepTable(path, Progress(2, 4), LOGGER).on_train_begin(None)
    assert path.read_text().splitlines() == ['epoch,step,loss,learning_rate,finite']


def test_a_table_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = EpochTable(tmp_path, Progress(1, 2), LOGGER)
    for epoch in (1, 2):
        table.add({'epoch': epoch})
    assert len(caplog.messages) == 1 and f'{tmp_path}: cannot be written (Is a directory)' in caplog.text
