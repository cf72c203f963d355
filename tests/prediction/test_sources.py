"""What paths, folders and patterns lead to."""
from __future__ import annotations

from pathlib import Path

import pytest

from src.prediction.sources import find_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one more in a folder below, and what is no image."""
    for name in ('a.jpg', 'b.png', 'deeper/a.jpg', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_sources_of_a_folder_are_sorted_and_named_by_their_place(folder: Path) -> None:
    assert [source.name for source in find_sources([str(folder)])] == ['a.jpg', 'b.png', 'deeper/a.jpg']
    assert [source.name for source in find_sources([f'{folder}/**/a.jpg'])] == ['a.jpg', 'a.jpg']
