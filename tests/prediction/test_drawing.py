"""Drawn skeletons stand where the joints are, in the colours of their sides, and sheets keep every picture."""
from __future__ import annotations

import numpy as np
import pytest

from src.mmpose.dataset_info import DatasetInfo
from src.prediction.drawing import LEFT, MIDDLE, RIGHT, Style, contact_sheet, draw_poses

NAMES = ('left_hip', 'right_hip', 'left_knee', 'right_knee', 'nose')
SKELETON = ((0, 1), (0, 2), (1, 3))
PERSON = np.array([[160, 40, 1], [40, 40, 1], [160, 160, 1], [40, 160, 1], [100, 10, 1]], np.float32)


@pytest.fixture
def image() -> np.ndarray:
    return np.full((200, 200, 3), 7, np.uint8)


def test_joints_and_bones_have_the_colour_of_their_side(image: np.ndarray) -> None:
    drawn = draw_poses(image, PERSON[None], SKELETON, NAMES)
    expected = {(160, 40): LEFT, (160, 160): LEFT, (160, 100): LEFT, (40, 40): RIGHT, (40, 100): RIGHT,
                (100, 40): MIDDLE, (100, 10): MIDDLE}
    assert {(x, y): tuple(drawn[y, x].tolist()) for x, y in expected} == expected
    assert (drawn[100, 60:140] == 7).all(), 'something was drawn between the legs'
    assert (image == 7).all(), 'the picture that was handed in has changed'


def test_joints_below_the_threshold_and_their_bones_are_left_out(image: np.ndarray) -> None:
    person = PERSON.copy()
    person[2, 2] = 0.2
    drawn = draw_poses(image, person[None], SKELETON, NAMES, score_threshold=0.2)
    assert (drawn[60:, 100:] == 7).all()
    assert tuple(drawn[100, 40]) == RIGHT
    assert tuple(draw_poses(image, person[None], SKELETON, NAMES, 0.1)[100, 160]) == LEFT


def test_lines_grow_with_the_person(image: np.ndarray) -> None:
    large = np.full((900, 900, 3), 7, np.uint8)
    thin = draw_poses(image, PERSON[None], SKELETON, NAMES)[100]
    thick = draw_poses(large, PERSON[None] * [4, 4, 1], SKELETON, NAMES)[400]
    assert np.sum(thick[:, 0] != 7) > 2 * np.sum(thin[:, 0] != 7)


@pytest.mark.parametrize('people', [np.zeros((0, 5, 3)), np.zeros((2, 5, 3))], ids=['nobody', 'no joint seen'])
def test_nobody_to_draw_leaves_a_copy(image: np.ndarray, people: np.ndarray) -> None:
    drawn = draw_poses(image, people, SKELETON, NAMES)
    assert (drawn == image).all() and drawn is not image


def test_joints_outside_the_picture_do_no_harm(image: np.ndarray) -> None:
    drawn = draw_poses(image, PERSON[None] - [100, 100, 0], SKELETON, NAMES)
    assert tuple(drawn[60, 60]) == LEFT


def test_contact_sheet_fits_and_centres_each_picture() -> None:
    wide, high = np.full((10, 40, 3), 200, np.uint8), np.full((80, 20, 3), 50, np.uint8)
    sheet = contact_sheet([wide, high, wide], columns=2, tile_size=(40, 40))
    assert sheet.shape == (80, 80, 3)
    assert (sheet[15:25, :40] == 200).all() and (sheet[:15, :40] == 128).all() and (sheet[25:40, :40] == 128).all()
    assert (sheet[:40, 55:65] == 50).all() and (sheet[:40, 40:55] == 128).all() and (sheet[:40, 65:] == 128).all()
    assert (sheet[55:65, :40] == 200).all() and (sheet[40:, 40:] == 128).all()


def test_persons_are_counted_and_named_and_stand_on_black(image: np.ndarray) -> None:
    info = DatasetInfo('five', NAMES, (), SKELETON, (0.05,) * 5, ())
    person = {'keypoints': PERSON.ravel().tolist(), 'track_id': 12}
    plain = Style().draw(image, [person], info)
    np.testing.assert_array_equal(plain, draw_poses(image, PERSON[None], SKELETON, NAMES, 0.3))
    black = Style(black_background=True).draw(image, [person], info)
    np.testing.assert_array_equal(black, draw_poses(np.zeros_like(image), PERSON[None], SKELETON, NAMES, 0.3))
    changed = (Style(labels=True).draw(image, [person], info) != plain).any(2)
    assert changed[:30, :90].any() and changed[:12, 95:130].any() and not changed[60:].any()
    unnamed = Style(labels=True).draw(image, [{'keypoints': person['keypoints']}], info)
    assert (unnamed != Style(labels=True).draw(image, [person], info)).any()
