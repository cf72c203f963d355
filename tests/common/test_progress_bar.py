"""Signs of life where there is no terminal."""
from __future__ import annotations

import pytest

from src.common import progress_bar
from src.common.progress_bar import ProgressBar


@pytest.mark.parametrize(('total', 'lines'), [
    (100, ['box 3 of 100: 0.1/s, 16.2 min left', 'box 6 of 100: 0.1/s, 15.7 min left']),
    (None, ['box 3: 0.1/s', 'box 6: 0.1/s'])])
def test_a_line_every_30_seconds(total: int, lines: list[str], monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_bar.time, 'time', lambda: now[0])
    with ProgressBar(total, 'box') as bar:
        for _ in range(8):
            now[0] += 10
            bar.update()
            bar.update(0)
    assert capsys.readouterr().err.splitlines() == lines
