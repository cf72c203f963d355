"""The report's lines, and the judgement of numbers, with programs that leave numbers made here."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from src.gpu_check import run
from src.gpu_check.run import Checks, NotChecked, Report, call
from src.gpu_check.versions import Device, Missing


def test_every_check_leaves_a_line_and_the_file_is_whole_after_each(tmp_path: Path) -> None:
    report = Report(tmp_path / 'report.txt')

    def raise_it(error: Exception) -> str:
        assert report.lines == report.path.read_text().splitlines()
        raise error

    report.check('first', lambda: 'fine')
    for error in (Missing('no driver'), NotChecked('one device'), ZeroDivisionError('a fault\nof the program')):
        report.check('next', lambda error=error: raise_it(error))
    assert report.path.read_text().splitlines() == [
        'ok: first: fine', 'FAIL: next: no driver', 'not checked: next: one device',
        'FAIL: next: ZeroDivisionError: a fault']
    assert report.failures == 2


@pytest.mark.parametrize(('error', 'in_gradients', 'told'), [
    (0.0, 0.0, 'heatmaps differ by 0.0e+00 of the largest'), (1e-3, 0.0, 'allowed are 1e-04 and 2e-02'),
    (0.0, 0.1, 'allowed are'), (np.nan, 0.0, 'allowed are'), (0.0, np.nan, 'allowed are')])
def test_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: float, in_gradients: float, told: str) -> None:
    def program(command: list[str], log: Path, **environment: str) -> str:
        device, file = command[3:5]
        assert environment == {'NVIDIA_TF32_OVERRIDE': '0'} and log.stem == f'numbers_{device}'
        wrong = device == 'GPU'
        np.savez(file, heatmaps=np.array([2.0, 1.0 + 2 * wrong * error]),
                 gradients=np.ones(9) * (1 + wrong * in_gradients))
        return ''

    monkeypatch.setattr(run, 'call', program)
    checks = Checks(Report(tmp_path / 'report.txt'), None, 20, [])
    with pytest.raises(NotChecked, match='no device'):
        checks.numbers()
    checks.found = [Device('a card', (7, 0))]
    checks.report.check('numbers', checks.numbers)
    assert told in checks.report.lines[0]
    assert checks.report.lines[0].startswith('ok' if error == in_gradients == 0 else 'FAIL')
    assert not list(checks.logs.glob('*.npz'))


def test_a_failed_program_is_told_by_its_error_and_its_log(tmp_path: Path) -> None:
    log = tmp_path / 'log'
    assert call([sys.executable, '-c', 'print(1)'], log) == '1\n'
    with pytest.raises(Missing, match=rf'exit status 3: error: no data \(all of it: {log}\)'):
        call([sys.executable, '-c', 'print("error: no data\\nmore"); raise SystemExit(3)'], log)
    with pytest.raises(Missing, match='exit status -9: no output'):
        call([sys.executable, '-c', 'import os; os.kill(os.getpid(), 9)'], log)


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, 'SECONDS', 0.2)
    with pytest.raises(Missing, match=r'exit status none after 0\.2 s'):
        call([sys.executable, '-c', 'import time; time.sleep(60)'], tmp_path / 'log')
