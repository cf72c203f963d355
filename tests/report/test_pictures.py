"""Which persons are shown, and that truth, prediction and rings stand where they belong."""
from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.mmpose.annotations import Annotation, Annotations, Image
from src.mmpose.dataset_info import DatasetInfo
from src.report.error_analysis import Persons, analyse
from src.report.pictures import GAP, KIND_COLOURS, PersonPictures, choose

INFO = DatasetInfo('two', ('left_hand', 'right_hand'), ((0, 1),), ((0, 1),), (0.05, 0.05), ())
TRUE = np.array([[30.0, 40, 2], [70, 40, 2]])


def annotations(count: int, file_name: str = 'a.png', size: tuple[int, int] | None = (700, 100)) -> Annotations:
    """One image with so many persons beside each other."""
    return Annotations(Path('gt.json'), {1: Image(1, file_name, size)}, [1], [
        Annotation(i + 1, i, 1, 1, TRUE + (200 * i, 0, 0), np.array([200 * i, 0, 100, 80 + i], float), 5000.0, False)
        for i in range(count)])


def analysed(*shifts: float) -> Persons:
    """One image with a person for every shift, found by that many pixels beside it (not-a-number: missed)."""
    truth = annotations(len(shifts))
    results = [dict(image_id=1, score=0.9, keypoints=(person.keypoints + (0, shift, 0)).ravel().tolist())
               for person, shift in zip(truth.persons, shifts) if np.isfinite(shift)]
    return analyse(truth, results, INFO)


def decoded(jpeg: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR)


def pictures(folder: Path, persons: Persons) -> PersonPictures:
    cv2.imwrite(str(folder / 'a.png'), np.full((100, 700, 3), 60, np.uint8))
    return PersonPictures(persons, INFO, folder, annotations(0))


def near(image: np.ndarray, colour: str) -> int:
    """Number of pixels of about that colour."""
    bgr = [int(colour[i:i + 2], 16) for i in (5, 3, 1)]
    return int((abs(image.astype(int) - bgr).max(2) < 40).sum())


def test_best_worst_and_missed_are_chosen() -> None:
    persons = analysed(6, 0, float('nan'), 3, float('nan'))
    assert choose(persons, 1) == {'best': [1], 'worst': [0], 'missed': [4]}
    assert choose(persons, 2) == {'best': [1, 3], 'worst': [0], 'missed': [4, 2]}
    assert choose(persons, 0) == {'best': [], 'worst': [], 'missed': []}


def test_best_have_half_of_their_joints_labelled_where_there_are_such() -> None:
    persons = analysed(2, 0)
    persons.truth[1, :, 2] = 0
    assert choose(persons, 1)['best'] == [0]


@pytest.mark.parametrize(('shift', 'kind'), [(0, None), (6, 'jitter'), (15, 'miss')])
def test_rings_stand_around_what_is_wrong(shift: float, kind: str | None, tmp_path: Path) -> None:
    picture = pictures(tmp_path, analysed(shift)).person(0)
    image = decoded(picture.jpeg)
    assert image.shape[:2] == (picture.height, picture.width)
    middle = (picture.width - GAP) // 2
    for name, colour in KIND_COLOURS.items():
        if name in ('jitter', 'miss'):
            assert near(image[:, :middle], colour) < 20
            assert (near(image[:, middle + GAP:], colour) > 60) == (name == kind)
    assert (kind or 'all keypoints good') in picture.caption and picture.caption in picture.alt


def test_missed_persons_and_background(tmp_path: Path) -> None:
    persons = analysed(float('nan'))
    drawer = pictures(tmp_path, persons)
    image = decoded(drawer.person(0).jpeg)
    middle = (image.shape[1] - GAP) // 2
    assert np.ptp(image[:, :middle - 8]) > 100 > np.ptp(image[:, middle + GAP + 8:])
    lonely = drawer.background(dict(image_id=1, score=0.5, keypoints=[650.0, 90, 1, 720, 130, 1]))
    assert 'score 0.50' in lonely.caption and decoded(lonely.jpeg).size


def test_missing_images_and_those_of_another_size_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'b\.png'):
        PersonPictures(analysed(0), INFO, tmp_path, annotations(0, 'b.png')).person(0)
    drawer = pictures(tmp_path, analysed(0))
    drawer.annotations = annotations(0, size=(100, 700))
    with pytest.raises(InputError, match=r'a\.png: 700 x 100 pixels, but 100 x 700 by gt\.json'):
        drawer.person(0)
