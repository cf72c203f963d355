"""Files that are whole or absent, and lines that are."""
from __future__ import annotations

import resource
from pathlib import Path

import pytest

from src.common.errors import InputError
from src.common.files import append_line, atomic_path, require_writable


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ('\u00fc' * 125 + '.json')
    with atomic_path(path) as temporary:
        temporary.write_text('{}')
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(InputError, match='cannot be written'), atomic_path(tmp_path / f'{"x" * 300}.json'):
        pass


def test_a_folder_of_that_name_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / 'x.json').mkdir()
    with pytest.raises(InputError, match=r'x\.json: cannot be written \(Is a directory\)'):
        require_writable(tmp_path / 'x.json')
    assert not list((tmp_path).glob('.*'))


@pytest.mark.parametrize(('before', 'after'), [
    ('', 'new\n'), ('old\n', 'old\nnew\n'), ('old\nha', 'old\nnew\n'), ('ha', 'new\n'), ('a\r\nb\r', 'a\r\nnew\n')])
def test_a_line_takes_the_place_of_half_a_line(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / 'log'
    path.write_bytes(before.encode())
    append_line(path, 'new\n')
    assert path.read_bytes() == after.encode()


def test_a_line_that_a_full_disk_cut_is_gone_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / 'log'
    append_line(path, 'first\n')
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match='File too large'):
            append_line(path, 'second line\n')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == 'first\nseco'
    append_line(path, 'third\n')
    assert path.read_text() == 'first\nthird\n'
