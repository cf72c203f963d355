"""Published weights and detectors brought into the cache folder: once, whole, and compared with their checksum.

A download that was cut off goes on where it ended. On a machine without network, the environment variable
LITEHRNET_WEIGHTS_MIRROR names a folder, or the beginning of a URL, with files of the same names. Nothing that is
downloaded is run as code: weights are read by `src.weights.pickles`, detectors are graphs for onnxruntime.
"""
from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from src.common.errors import InputError, did_you_mean, first_line
from src.common.progress_bar import ProgressBar
from src.weights.published import PUBLISHED, Published, cached, find_published

MIRROR = 'LITEHRNET_WEIGHTS_MIRROR'
LIST = 'python tools/weights.py list'
SECONDS = 30.0  # without a byte, after which a server counts as gone
CHUNK = 1 << 16
HTML = 'an HTML page (a log-in or a warning, as Google Drive shows), not the file'


def locate(given: Path | str) -> Path:
    """Return the file that a user means by a path or by the name of published weights, which are downloaded if need be.

    Raises:
        InputError: a single word that is neither a file nor such a name; or see `fetch`.
    """
    path, weights = Path(given), find_published(given)
    if weights and not path.is_file():
        return fetch(weights)
    if not path.suffix and path.name == str(given) and not path.exists():
        require_name(str(given))
    return path


def require_name(name: str, table: Mapping[str, Published] = PUBLISHED) -> Published:
    """Return the published weights of a name.

    Raises:
        InputError: there are none.
    """
    if name not in table:
        hint = ' '.join(filter(None, (did_you_mean(name, table), f'`{LIST}` prints the names')))
        raise InputError(f'{name}: neither a file nor the name of published weights; {hint}')
    return table[name]


def fetch(weights: Published, mirror: str | None = None) -> Path:
    """Return the file of published weights in the cache folder, after bringing it there if it is absent.

    Args:
        mirror: folder or beginning of a URL to take the file from; by default what the environment variable says, else
            the weights' own URL.

    Raises:
        InputError: the file can't be had, or is not what was published; the message says how to get it by hand.
    """
    path = cached(weights)
    if not path.is_file():
        with _one_at_a_time(path):
            if not path.is_file():  # another process may have brought it meanwhile
                _bring(weights, path, mirror or os.environ.get(MIRROR))
                return path
    fault = _find_fault(path, weights)
    if fault:
        raise InputError(f'{path}: {fault}; remove it and run the command again')
    return path


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Let other processes wait until the block has ended: the ranks of a training start together."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name('.lock').open('w')
    except OSError as error:
        raise InputError(f'{path}: cannot be written ({error.strerror}); set XDG_CACHE_HOME') from error
    with lock as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _bring(weights: Published, path: Path, mirror: str | None) -> None:
    """Put the file of published weights at `path`, whole and checked or not at all."""
    partial = path.with_name(f'.{path.name}.part')
    folder = Path(mirror) if mirror and '://' not in mirror else None
    origin = str(folder / weights.file) if folder else f'{mirror.rstrip("/")}/{weights.file}' if mirror else weights.url
    by_hand = (f'by hand: save {"it" if origin == weights.url else weights.url} as {path}, or under that name in a '
               f'folder that {MIRROR} names')
    if folder:
        _copy(folder / weights.file, partial, by_hand)
    else:
        print(f'{weights.name}: downloading {origin}', file=sys.stderr)
        _download(origin, partial, by_hand)
    fault = _find_fault(partial, weights)
    if fault:
        partial.unlink()
        raise InputError(f'{origin}: {fault}; removed; {by_hand}')
    with partial.open('rb') as file:  # so that the name never stands for less than the whole after a power cut
        os.fsync(file.fileno())
    os.replace(partial, path)
    checked = 'SHA-256 as published' if weights.sha256 else 'not checked (no SHA-256 of it is published)'
    print(f'{weights.name}: {path}, {path.stat().st_size / 1e6:.1f} MB, {checked}', file=sys.stderr)


def _find_fault(path: Path, weights: Published) -> str | None:
    """Return what is wrong with a file that should be the published one."""
    content = path.read_bytes()
    if content[:1024].lstrip().lower().startswith((b'<!doctype html', b'<html')):
        return HTML
    digest = hashlib.sha256(content).hexdigest()
    if not digest.startswith(weights.sha256):
        return f'its SHA-256 begins with {digest[:len(weights.sha256)]}, the published one with {weights.sha256}'
    return None if content else 'empty'


def _copy(source: Path, partial: Path, by_hand: str) -> None:
    if not source.is_file():
        raise InputError(f'{source}: the mirror has no such file; {by_hand}')
    try:
        shutil.copyfile(source, partial)
    except OSError as error:
        raise InputError(f'{source}: cannot be copied to {partial.parent} ({error.strerror}); check both') from error


def _download(url: str, partial: Path, by_hand: str) -> None:
    """Bring what `partial` lacks of a file, or all of it where the server can't give a part."""
    if urlsplit(url).scheme not in ('http', 'https'):
        raise InputError(f'{url}: no http:// or https:// address; name one, or a folder')
    size = partial.stat().st_size if partial.is_file() else 0
    try:
        response = urlopen(Request(url, headers={'Range': f'bytes={size}-'} if size else {}), timeout=SECONDS)
    except HTTPError as error:
        if error.code != 416 or not size:
            raise InputError(f'{url}: the server says {error.code} {error.reason}; {by_hand}') from error
        if error.headers.get('Content-Range') != f'bytes */{size}':  # else it was whole already
            _start_anew(url, partial, by_hand)
        return
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(f'{url}: no connection ({getattr(error, "reason", error)}); {by_hand}') from error
    with response:
        if response.headers.get_content_type() == 'text/html':
            raise InputError(f'{url}: gave {HTML}; {by_hand}')
        if response.status != 206:
            size = 0
        elif size and not response.headers.get('Content-Range', '').startswith(f'bytes {size}-'):
            return _start_anew(url, partial, by_hand)
        _save(response, partial, size, url)


def _start_anew(url: str, partial: Path, by_hand: str) -> None:
    partial.unlink()
    _download(url, partial, by_hand)


def _save(response: HTTPResponse, partial: Path, start: int, url: str) -> None:
    """Write a response to `partial` from byte `start` on."""
    length = response.headers.get('Content-Length', '')
    expected = int(length) if length.isdecimal() else None
    came = 0
    try:
        with partial.open('ab') as file, ProgressBar(None if expected is None else expected // 1024, 'KiB') as bar:
            file.truncate(start)
            for chunk in _chunks(response, url):
                file.write(chunk)
                bar.update((came + len(chunk)) // 1024 - came // 1024)
                came += len(chunk)
    except OSError as error:
        raise InputError(f'{partial}: cannot be written ({error.strerror}); make room') from error
    if expected is not None and came < expected:
        raise InputError(f'{url}: ended after {start + came} of {start + expected} bytes; run the command again, it '
                         'goes on from there')


def _chunks(response: HTTPResponse, url: str) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise InputError(f'{url}: the connection broke ({first_line(error)}); run the command again, it goes on from '
                         'there') from error
