"""How far a program is: a bar on a terminal, lines in a log."""
from __future__ import annotations

import sys
import time

from tqdm import tqdm

LINE_SECONDS = 30.0  # between two lines


class ProgressBar(tqdm):
    """tqdm's bar on a terminal; elsewhere, where it shows nothing, a line on stderr every `LINE_SECONDS` at most."""

    def __init__(self, total: int | None, unit: str) -> None:
        super().__init__(total=total, unit=unit, disable=None, file=sys.stderr)
        self._count, self._total, self._unit = 0, total, unit
        self._began = self._last_line = time.time()

    def update(self, n: int = 1) -> None:
        """Count `n` more."""
        super().update(n)
        self._count += n
        now = time.time()
        if not self.disable or now - self._last_line < LINE_SECONDS:
            return
        self._last_line = now
        rate = self._count / (now - self._began)
        of_total = f' of {self._total}' if self._total else ''
        left = f', {(self._total - self._count) / rate / 60:.1f} min left' if self._total else ''
        print(f'{self._unit} {self._count}{of_total}: {rate:.1f}/s{left}', file=sys.stderr, flush=True)
