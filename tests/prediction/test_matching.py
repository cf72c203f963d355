"""Which source a file name means, where base names are shared."""
from __future__ import annotations

from pathlib import Path

import pytest

from src.common.errors import InputError
from src.prediction.matching import match_ids, match_names
from src.prediction.sources import Source, find_sources

FILE = Path('boxes.json')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two cameras with frames of the same names, and an image beside their folders."""
    for name in ('cam1/1.jpg', 'cam1/2.jpg', 'cam2/1.jpg', 'x.jpg'):
        path = tmp_path / 'data' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / 'data'


def sources_of(root: Path, *inputs: str) -> list[Source]:
    return find_sources([str(root / name) for name in inputs], root.parent / 'out')


def matched(root: Path, inputs: tuple[str, ...], *names: str) -> dict[str, str]:
    """Return {name: path below the root of the source that it means}."""
    found = match_names(names, sources_of(root, *inputs), FILE)
    assert all(len(sources) == 1 for sources in found.values())
    return {name: found[name][0].path.relative_to(root).as_posix() for name in names if name in found}


@pytest.mark.parametrize('inputs', [('',), ('cam1', 'cam2'), ('cam1/1.jpg', 'cam2/1.jpg'), ('*/*.jpg',)])
@pytest.mark.parametrize('spelling', [
    '{}/1.jpg', '/home/somebody/data/{}/1.jpg', r'{}\1.jpg', r'C:\data\{}\1.jpg', './{}/1.jpg'])
def test_equal_base_names_are_told_by_their_folders(root: Path, inputs: tuple[str, ...], spelling: str) -> None:
    names = [spelling.format(folder) for folder in ('cam1', 'cam2', 'cam9')]
    assert matched(root, inputs, *names) == {names[0]: 'cam1/1.jpg', names[1]: 'cam2/1.jpg'}


@pytest.mark.parametrize('inputs', [('cam1',), ('cam1/1.jpg', 'cam1/2.jpg'), ('',)])
def test_a_name_of_another_folder_fits_nothing_though_its_base_name_does(root: Path, inputs: tuple[str, ...]) -> None:
    """cam2/2.jpg is no image here; cam1/2.jpg has no name of its own."""
    assert matched(root, inputs, 'cam1/1.jpg', 'cam2/2.jpg') == {'cam1/1.jpg': 'cam1/1.jpg'}


def test_files_that_were_moved_are_known_by_what_they_are_called(root: Path) -> None:
    assert matched(root, ('',), 'old/cam1/1.jpg', 'old/cam2/1.jpg', 'old/x.jpg') == {
        'old/cam1/1.jpg': 'cam1/1.jpg', 'old/cam2/1.jpg': 'cam2/1.jpg', 'old/x.jpg': 'x.jpg'}
    assert matched(root, ('cam1',), 'images/1.jpg', 'images/2.jpg') == {
        'images/1.jpg': 'cam1/1.jpg', 'images/2.jpg': 'cam1/2.jpg'}


def test_the_longest_common_path_decides(root: Path) -> None:
    (root / '1.jpg').touch()
    assert matched(root, ('',), '1.jpg', 'cam2/1.jpg') == {'1.jpg': '1.jpg', 'cam2/1.jpg': 'cam2/1.jpg'}
    assert matched(root, ('x.jpg',), 'x.jpg', 'elsewhere/x.jpg') == {'x.jpg': 'x.jpg'}


def test_what_is_ambiguous_is_refused_and_both_are_named(root: Path) -> None:
    with pytest.raises(InputError, match=r'boxes.json: 1.jpg may be \S*cam1/1.jpg or \S*cam2/1.jpg'):
        matched(root, ('',), '1.jpg')
    with pytest.raises(InputError, match=r'boxes.json: train/2.jpg and val/2.jpg may both be \S*cam1/2.jpg'):
        matched(root, ('cam1',), 'train/2.jpg', 'val/2.jpg')
    assert matched(root, ('',), '2.jpg', '3.jpg', '') == {'2.jpg': 'cam1/2.jpg'}


def test_a_file_given_twice_is_meant_twice(root: Path) -> None:
    sources = sources_of(root, 'x.jpg', 'x.jpg', '')
    assert [source.name for source in sources] == ['x.jpg', 'x.jpg', 'cam1/1.jpg', 'cam1/2.jpg', 'cam2/1.jpg', 'x.jpg']
    assert match_names(['x.jpg'], sources, FILE)['x.jpg'] == [sources[0], sources[1], sources[5]]


def test_ids_of_any_kind_belong_to_one_image_each(root: Path) -> None:
    sources = sources_of(root, '')
    names = {2 ** 62: 'cam1/1.jpg', 'two': r'cam2\1.jpg', -3: 'x.jpg', 0: 'absent.jpg'}
    assert {source.name: image_id for source, image_id in match_ids(names, sources, FILE).items()} == {
        'cam1/1.jpg': 2 ** 62, 'cam2/1.jpg': 'two', 'x.jpg': -3}
    with pytest.raises(InputError, match=r"x.jpg is image -3 and image 'x'"):
        match_ids({**names, 'x': 'x.jpg'}, sources, FILE)
