"""TensorBoard events read back from their file."""
from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from src.callback import Progress
from src.common.errors import InputError
from src.training import tensorboard


def read_events(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], list[int]]:
    """({tag: [(step, value)]}, steps from which earlier events are hidden) of all event files, oldest first.

    The format is TFRecord: length (8 bytes), checksum (4), an Event message, checksum (4).
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    found: dict[str, list[tuple[int, float]]] = {}
    starts = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            length, = struct.unpack('<Q', data[:8])
            event = Event.FromString(data[12:12 + length])
            data = data[16 + length:]
            if event.session_log.status == SessionLog.START:
                starts.append(event.step)
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found, starts


def train(folder: Path, losses: list[float], done: int = 0) -> None:
    """Plays a training of two steps per epoch to the callback, each epoch evaluated."""
    pytest.importorskip('tensorboardX')
    progress = Progress(2, 10, step=done)
    callback = tensorboard.TensorBoard(folder, progress)
    callback.on_train_begin(None)
    for number, loss in enumerate(losses, done + 1):
        progress.end_step(loss, bool(np.isfinite(loss)), number / 10)
        callback.on_train_step_end(None)
        if number % 2 == 0:
            progress.end_epoch()
            progress.figures['AP'] = number / 100
            callback.on_train_epoch_end(None)
            progress.begin_epoch()
    callback.__exit__()


def test_steps_epochs_and_scores_are_events(tmp_path: Path) -> None:
    train(tmp_path, [0.5, float('nan'), 0.25, 0.125])
    found, starts = read_events(tmp_path / tensorboard.FOLDER)
    assert found['step/loss'] == [(1, 0.5), (3, 0.25), (4, 0.125)]
    assert [step for step, _ in found['step/learning_rate']] == [1, 2, 3, 4]
    assert [value for _, value in found['step/learning_rate']] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert found['epoch/loss'] == [(2, 0.5), (4, 0.1875)] and [step for step, _ in found['epoch/AP']] == [2, 4]
    assert found['epoch/epoch'] == [(2, 1), (4, 2)] and starts == [1]


def test_resuming_hides_the_steps_done_again(tmp_path: Path) -> None:
    train(tmp_path, [0.5, 0.4, 0.3])
    train(tmp_path, [0.25, 0.2], done=2)
    found, starts = read_events(tmp_path / tensorboard.FOLDER)
    assert [step for step, _ in found['step/loss']] == [1, 2, 3, 3, 4] and starts == [1, 3]


def test_a_missing_package_is_an_error_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'tensorboardX', None)
    with pytest.raises(InputError, match='pip install tensorboardX'):
        tensorboard.TensorBoard(tmp_path, Progress(1, 1))
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_before_the_beginning(tmp_path: Path) -> None:
    pytest.importorskip('tensorboardX')
    tensorboard.TensorBoard(tmp_path, Progress(1, 1)).__exit__()
    assert not list(tmp_path.iterdir())
