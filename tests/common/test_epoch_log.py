"""epochs.jsonl: lines of one epoch come together, redone epochs lose their lines."""
from __future__ import annotations

from pathlib import Path

import pytest

from src.common import epoch_log
from src.common.errors import InputError


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / epoch_log.FILE
    epoch_log.append(path, dict(epoch=1, loss=0.5))
    epoch_log.append(path, dict(epoch=2, loss=float('nan')))
    epoch_log.append(path, dict(epoch=1, AP=0.25))
    return path


def test_lines_of_an_epoch_are_one_row_and_what_is_not_finite_is_null(written: Path) -> None:
    assert epoch_log.read(written) == [dict(epoch=1, loss=0.5, AP=0.25), dict(epoch=2, loss=None)]


def test_the_later_line_counts(written: Path) -> None:
    epoch_log.append(written, dict(epoch=2, loss=0.125))
    assert epoch_log.read(written)[1] == dict(epoch=2, loss=0.125)


@pytest.mark.parametrize(('epochs', 'left'), [(0, []), (1, [1]), (5, [1, 2])])
def test_restart_drops_the_epochs_to_be_done_anew(written: Path, epochs: int, left: list[int]) -> None:
    epoch_log.restart(written, epochs)
    assert [row['epoch'] for row in epoch_log.read(written)] == left


def test_restart_makes_the_file(tmp_path: Path) -> None:
    epoch_log.restart(tmp_path / epoch_log.FILE, 3)
    assert epoch_log.read(tmp_path / epoch_log.FILE) == []


def test_a_half_line_of_a_full_disk_stops_neither_the_log_nor_a_resumed_training(written: Path) -> None:
    with written.open('a') as file:
        file.write('{"epoch": 3, "lo')
    epoch_log.append(written, dict(epoch=4, loss=0.1))
    assert [row['epoch'] for row in epoch_log.read(written)] == [1, 2, 4]
    with written.open('a') as file:  # as earlier versions joined them
        file.write('{"epoch": 5, "lo{"epoch": 6, "loss": 0.5}\n')
    with pytest.raises(InputError, match=r'epochs\.jsonl, line 5'):
        epoch_log.read(written)
    assert [row['epoch'] for row in epoch_log.read(written, skip_damaged=True)] == [1, 2, 4]
    epoch_log.restart(written, 5)
    assert [row['epoch'] for row in epoch_log.read(written)] == [1, 2, 4]


def test_unfinished_last_line_is_omitted_and_goes_at_the_restart(written: Path) -> None:
    with written.open('a') as file:
        file.write('{"epoch": 3, "lo')
    assert len(epoch_log.read(written)) == 2
    epoch_log.restart(written, 2)
    epoch_log.append(written, dict(epoch=3, loss=0.1))
    assert epoch_log.read(written)[2] == dict(epoch=3, loss=0.1)


@pytest.mark.parametrize('line', ['[1, 2]', '{"loss": 1}', 'epoch', '{"epoch": "x"}', 'null'])
def test_what_is_no_row_is_named_by_file_and_line(written: Path, line: str) -> None:
    with written.open('a') as file:
        file.write(f'{line}\n')
    with pytest.raises(InputError, match=r'epochs\.jsonl, line 4'):
        epoch_log.read(written)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='cannot be read'):
        epoch_log.read(tmp_path / 'none')
