"""Files that are either whole or absent."""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.errors import InputError


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` on success, removes it on failure.

    The suffix is kept, because writers choose their format by it. Missing folders are made.

    Raises:
        InputError: the folder can't be made or written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')
        temporary.touch()
    except OSError as error:
        raise InputError(f'{path}: cannot be written ({error.strerror}); choose another folder') from error
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
