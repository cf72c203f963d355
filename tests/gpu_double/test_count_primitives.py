"""Launches of a step and of a forward pass, counted in the double of CUDA."""
from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import count_primitives
from tests.benchmarks.test_run import tiny
from tests.gpu_double.test_double import pytestmark as needs_double

pytestmark = [needs_double, pytest.mark.slow]


def test_launches_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert count_primitives.main(['--model_config', tiny(tmp_path)]) == 0
    rows = {line.split('  ')[0]: line.split()[-2:] for line in capfd.readouterr().out.splitlines()}
    step, forward = map(int, rows['all launches'])
    assert 50 < forward < step / 3
    assert int(rows['ApplyAdam'][0]) > 50 and rows['ApplyAdam'][1] == '0'
    assert rows['copies, device to host'] == ['2', '1']
