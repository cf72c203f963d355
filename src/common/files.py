"""Files that are either whole or absent, and files that grow by whole lines."""
from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from src.common.errors import InputError


def cache_folder() -> Path:
    """Return the folder of what is compiled and downloaded: $XDG_CACHE_HOME/litehrnet, by default under ~/.cache."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'litehrnet'


def require_writable(path: Path | str) -> None:
    """Make sure, before the work whose result it is to hold, that a file can be written; missing folders are made.

    Raises:
        InputError: the folder can't be made or written to.
    """
    create_temporary(Path(path)).unlink()


def create_temporary(path: Path) -> Path:
    """Return a new hidden file beside `path`, with its suffix and, unless that is too long, its name.

    Raises:
        InputError: the folder can't be made or written to.
    """
    stem = path.stem if len(os.fsencode(path.name)) < 230 else path.stem[:50]  # 255 bytes are the limit
    temporary = path.with_name(f'.{stem}.{token_hex(4)}.part{path.suffix}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary.touch()
    except OSError as error:
        raise InputError(f'{path}: cannot be written ({error.strerror}); choose another folder') from error
    return temporary


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    The suffix is kept, because writers choose their format by it. Missing folders are made.

    Raises:
        InputError: the folder can't be made or written to, or the disk is full.
    """
    path = Path(path)
    temporary = create_temporary(path)
    try:
        yield temporary
        with temporary.open('rb') as file:  # so that the name never stands for less than the whole after a power cut
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f'{path}: cannot be written ({error.strerror}); make room or choose another folder') from error
    finally:
        temporary.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add `line`, which ends in a line break, to a text file, in place of a half line that a full disk left."""
    with path.open('a+b') as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b'\n':
                file.seek(0)
                file.truncate(file.read().rfind(b'\n') + 1)
        file.write(line.encode())


def _digest_path(path: Path) -> Path:
    return path.with_name(f'{path.name}.sha256')


def write_digest(path: Path) -> None:
    """Write the SHA-256 of a file beside it, as `sha256sum` writes and checks it."""
    with atomic_path(_digest_path(path)) as temporary:
        temporary.write_text(f'{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n')


def drop_digest(path: Path) -> None:
    """Remove the SHA-256 beside a file, before the file is replaced or removed, so that it is never another's."""
    _digest_path(path).unlink(missing_ok=True)


def check_digest(path: Path) -> None:
    """Compare a file with the SHA-256 beside it, if there is one.

    Raises:
        InputError: they differ.
    """
    if _digest_path(path).is_file():
        expected = _digest_path(path).read_text(errors='replace').partition(' ')[0]
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise InputError(f'{path}: damaged (its checksum is not that of {_digest_path(path).name}); take another '
                             f'checkpoint, or remove {_digest_path(path).name} if you changed the file yourself')
