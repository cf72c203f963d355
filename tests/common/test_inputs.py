"""Files from outside: what is wrong is named in one line."""
from __future__ import annotations

from pathlib import Path

import pytest

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json, numbers, require_exists


def test_the_first_missing_part_of_a_path_is_named(tmp_path: Path) -> None:
    assert require_exists(tmp_path) == tmp_path
    with pytest.raises(InputError, match=f'{tmp_path}/a does not exist'):
        require_exists(tmp_path / 'a' / 'b' / 'c.json')


@pytest.mark.parametrize('raw', [b'', b'{', b'\xff\xfe\xff', b'[' * 100_000, b'1' * 5000],
                         ids=['empty', 'cut', 'bytes', 'deep', 'long'])
def test_what_is_no_json_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / 'a.json').write_bytes(raw)
    with pytest.raises(InputError, match=r'a\.json: not a JSON file') as caught:
        load_json(tmp_path / 'a.json')
    assert '\n' not in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='cannot be read'):
        load_json(tmp_path)


@pytest.mark.parametrize(('read', 'words'), [
    (lambda: {}['score'], "box 3 has no key 'score'"), (lambda: float('x'), 'box 3 is malformed'),
    (lambda: len(5), 'box 3 is malformed'), (lambda: float(10 ** 400), 'box 3 is malformed')])
def test_faults_of_an_entry_name_file_and_entry(read, words: str) -> None:
    with pytest.raises(InputError, match=f'^a.json: {words}'), as_input_error(Path('a.json'), 'box 3'):
        read()


def test_faults_of_the_program_pass() -> None:
    with pytest.raises(ZeroDivisionError), as_input_error(Path('a.json'), 'box 3'):
        raise ZeroDivisionError


def test_numbers_are_a_flat_list_of_so_many() -> None:
    assert numbers([1, 2.5], 2).tolist() == [1, 2.5]
    for values, words in (([1], 'are 1$'), ([[1, 2]], 'are 2 in nested lists'), (7, 'are 1$')):
        with pytest.raises(ValueError, match=f'2 numbers expected where there {words}'):
            numbers(values, 2)
