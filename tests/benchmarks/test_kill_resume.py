"""The benchmark of kills, with two of them."""
from __future__ import annotations

import pytest

from benchmarks.kill_resume import main


@pytest.mark.slow
def test_two_kills_cost_no_more_than_the_interval(capsys: pytest.CaptureFixture) -> None:
    assert main(['--kills', '2']) == 0
    assert capsys.readouterr().out.startswith('2 kills (0 while starting')
