"""Where detectors say that persons are, and which boxes of a file are taken."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.prediction.boxes import BoxFile, hog_detector
from src.prediction.sources import Frame, Source, camera
from tests.prediction.figures import pedestrian

IMAGE, VIDEO = (Source(name, ('in', name), Path('in', name)) for name in ('a.jpg', 'clip.mp4'))


def entry(**more: Any) -> dict[str, Any]:
    return {'file_name': 'a.jpg', 'bbox': [1, 2, 30, 60], 'score': 0.9, **more}


def box_file(folder: Path, entries: Any, *, names: dict[Any, str] | None = None, categories: Any = (1,)) -> BoxFile:
    (folder / 'boxes.json').write_text('\ufeff' + json.dumps(entries), encoding='utf-8')  # as Windows writes it
    return BoxFile(folder / 'boxes.json', [IMAGE, VIDEO], names or {}, categories, 0.3)


def found(boxes: BoxFile, source: Source = IMAGE, number: int | None = None) -> list[tuple[float, Any]]:
    """Return (left side, category) of the boxes of a frame."""
    values, categories = boxes(Frame(np.zeros((9, 9, 3), np.uint8), source, number))
    assert values.shape == (len(categories), 5)
    return list(zip(values[:, 0].tolist(), categories))


@pytest.mark.parametrize(('wanted', 'given', 'taken'), [
    ([1], [1, None, 2], [1, None]),
    ([3], [3, '3', 1, None], [3, 3, None]),
    ([7, 'dog'], [7, 'dog', 1], [7, 'dog']),
    (None, [3, 3, None], [3, 3, None]),
    (None, [None], [None]),
])
def test_boxes_of_the_categories_of_the_keypoints_are_taken(tmp_path: Path, wanted: Any, given: list,
                                                            taken: list) -> None:
    boxes = box_file(tmp_path, [entry(**({} if category is None else {'category_id': category})) for category in given],
                     categories=wanted)
    assert [category for _, category in found(boxes)] == taken
    left = len(given) - len(taken)
    assert (f'{left} of {len(given)} boxes not used: {left} of another category' in boxes.remarks([])) == bool(left)


def test_several_categories_and_none_known_to_be_wanted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'boxes of the categories 1, 18, and .*; give --annotations'):
        box_file(tmp_path, [entry(category_id=1), entry(category_id=18)], categories=None)
    boxes = box_file(tmp_path, [entry(category_id=5), entry(category_id=18, file_name='other.jpg')], categories=None)
    assert found(boxes) == [(1, 5)]  # what is not for these inputs does not matter


def test_frames_may_be_numbers_of_any_kind(tmp_path: Path) -> None:
    boxes = box_file(tmp_path, [entry(file_name='clip.mp4', bbox=[n, 0, 9, 9], frame=frame)
                                for n, frame in enumerate((0, '1', 2.0, '03'))])
    assert [found(boxes, VIDEO, number) for number in range(5)] == [[(n, None)] for n in range(4)] + [[]]
    for frame in ('x', 1.5, [1]):
        with pytest.raises(InputError, match='detection 0 is malformed'):
            box_file(tmp_path, [entry(frame=frame)])


def test_what_is_not_used_is_counted_and_named(tmp_path: Path) -> None:
    boxes = box_file(tmp_path, [
        entry(), entry(file_name='b/x.jpg'), entry(file_name='c/y.jpg'), entry(frame=0), entry(category_id=18),
        entry(bbox=[0, 0, 0, 5]), entry(score=0.1), entry(score=float('nan')), entry(file_name='clip.mp4'),
        entry(file_name='clip.mp4', frame=0), entry(file_name='clip.mp4', frame=120)])
    assert len(found(boxes)) == len(found(boxes, VIDEO, 0)) == 1
    assert boxes.remarks([IMAGE, VIDEO]) == (
        f'{tmp_path}/boxes.json: 9 of 11 boxes not used: 2 fit no input (b/x.jpg), 1 of another category than 1 '
        '(category 18), 2 empty or not finite (a.jpg), 1 scored below 0.3 (a.jpg), 3 fit no frame that was looked at '
        '(a.jpg, frame 0)')
    assert 'no frame' not in boxes.remarks([]), 'an interrupted video may have had these frames'
    assert box_file(tmp_path, []).remarks([IMAGE]) == f'{tmp_path}/boxes.json: holds no box'
    assert box_file(tmp_path, [entry(file_name='b.jpg')]).remarks([]).endswith('1 fit no input (b.jpg)')
    used = box_file(tmp_path, [entry()])
    assert found(used) and used.remarks([IMAGE]) == ''


@pytest.mark.parametrize('image_id', [0, -1, '785', 2 ** 63, 1.5])
def test_image_ids_of_any_kind(tmp_path: Path, image_id: Any) -> None:
    boxes = box_file(tmp_path, [entry(file_name=None, image_id=image_id), entry(file_name=None, image_id='unknown')],
                     names={image_id: r'in\a.jpg', 'other': 'b.jpg'})
    assert len(found(boxes)) == 1 and "1 fit no input (image 'unknown')" in boxes.remarks([])


@pytest.mark.parametrize(('entries', 'words'), [
    ({}, 'not a list of detections'),
    ([entry(file_name=None)], 'detection 0 has no file_name; give --annotations'),
    ([entry(), entry(file_name=7)], 'detection 1 is malformed .*file_name is 7'),
    ([entry(bbox=[1, 2, 3])], 'detection 0 is malformed .*4 numbers'),
    ([{'file_name': 'a.jpg'}], "detection 0 has no key 'bbox'"),
    ([7], 'detection 0 is malformed'),
])
def test_files_of_another_kind(tmp_path: Path, entries: Any, words: str) -> None:
    with pytest.raises(InputError, match=f'boxes.json: .*{words}'):
        box_file(tmp_path, entries)


@pytest.mark.parametrize('factor', [0.3, 1, 3])
def test_hog_finds_an_upright_figure_at_any_size(factor: float) -> None:
    image = cv2.resize(pedestrian(), None, fx=factor, fy=factor)
    boxes = hog_detector()(Frame(image, camera(0)))
    (x, y, width, height, score), = boxes.values / ([factor] * 4 + [1])
    assert x < 150 and x + width > 210 and y < 110 and y + height > 380 and 0.5 < score <= 1
    assert boxes.categories == [None]


@pytest.mark.parametrize('shape', [(60, 30), (1, 2000), (2000, 1), (1, 1), (40, 640), (97, 640), (640, 31)])
def test_hog_finds_nobody_in_images_of_any_shape(shape: tuple[int, int]) -> None:
    boxes = hog_detector()(Frame(np.full((*shape, 3), 128, np.uint8), camera(0)))
    assert boxes.values.shape == (0, 5) and boxes.categories == []
