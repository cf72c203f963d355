"""epochs.jsonl: the figures of a training, a JSON object with the number of its epoch per line.

An epoch may have several lines (training first, evaluation later). Read back they are one row, in which the later line
counts where both have a key. A training that starts or resumes drops the lines of the epochs that it will do.
"""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from src.common.errors import InputError
from src.common.files import append_line, atomic_path

FILE = 'epochs.jsonl'


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row, which has the whole number `epoch`, from 1; values that are not finite become null."""
    values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    append_line(path, json.dumps(values, allow_nan=False) + '\n')


def read(path: Path, skip_damaged: bool = False) -> list[dict[str, Any]]:
    """Return one row per epoch, ordered by epoch, without an unfinished last line (the machine stopped).

    Raises:
        InputError: the file can't be read; or a line is no JSON object with an `epoch`, unless `skip_damaged`.
    """
    try:
        lines = path.read_text(errors='replace').split('\n')[:-1]
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); train.py writes it') from error
    epochs: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row = {**row, 'epoch': int(row['epoch'])}
        except (KeyError, TypeError, ValueError) as error:
            if not skip_damaged:
                raise InputError(f'{path}, line {number}: not an object with an epoch; delete the line') from error
            continue
        epochs.setdefault(row['epoch'], {}).update(row)
    return [epochs[epoch] for epoch in sorted(epochs)]


def restart(path: Path, epochs: int) -> None:
    """Keep the rows of the first `epochs` epochs, as a training does that resumes after them; 0 empties the file.

    Damaged lines (of a full disk, for instance) go: a log must not stop a training.
    """
    rows = read(path, skip_damaged=True) if epochs and path.is_file() else []
    with atomic_path(path) as temporary:
        temporary.write_text(''.join(json.dumps(row) + '\n' for row in rows if row['epoch'] <= epochs))
