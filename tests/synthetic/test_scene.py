"""Scenes: what is written down about a person agrees with the pixels."""
from __future__ import annotations

import numpy as np
import pytest

from src.synthetic import scene
from src.synthetic.figure import KEYPOINTS
from src.synthetic.scene import PARTS, STRIDE, Person, random_scene

SIZE = (200, 160)


@pytest.fixture(scope='module')
def scenes() -> list[tuple[np.ndarray, list[Person]]]:
    return [random_scene(np.random.default_rng(seed), SIZE, 3) for seed in range(40)]


def test_images_are_textured_and_of_the_size_asked_for(scenes: list) -> None:
    for image, people in scenes:
        assert image.shape == (160, 200, 3) and image.dtype == np.uint8
        assert image.std() > 5
        assert 1 <= len(people) <= 3
    assert {len(people) for _, people in scenes} == {1, 2, 3}


def test_keypoints_boxes_and_areas_are_consistent(scenes: list) -> None:
    for person in (person for _, people in scenes for person in people):
        x, y, width, height = person.box
        assert x >= 0 and y >= 0 and x + width <= SIZE[0] and y + height <= SIZE[1]
        assert 0 < person.area <= width * height
        points, seen = person.keypoints[:, :2], person.keypoints[:, 2]
        assert np.sum(seen > 0) >= scene.MIN_KEYPOINTS
        assert (person.keypoints[seen == 0] == 0).all()
        assert (points >= 0).all() and (points <= np.array(SIZE) - 1).all()
        # A keypoint that can be seen lies on the person's pixels, so inside their box.
        visible = points[seen == 2]
        assert (visible >= np.array([x, y]) - 0.5).all() and (visible <= np.array([x + width, y + height]) - 0.5).all()


def test_every_visibility_occurs_and_most_keypoints_are_seen(scenes: list) -> None:
    counts = np.bincount(np.concatenate([person.keypoints[:, 2] for _, people in scenes for person in people])
                         .astype(int), minlength=3)
    assert (counts > 0).all() and counts[2] > 0.7 * counts.sum()


def test_visibility_is_read_off_the_pixel_under_the_keypoint() -> None:
    actor = scene._gather(np.random.default_rng(3), SIZE, 1)[0]
    actor.keypoints[:] = 50
    actor.keypoints[KEYPOINTS.index('left_wrist')] = 300, 20
    owners = np.full((160, 200), STRIDE + PARTS.index('left_forearm'), np.int16)
    seen = dict(zip(KEYPOINTS, scene.describe(owners, actor, 1).keypoints[:, 2]))
    assert seen.pop('left_wrist') == 0
    assert seen.pop('left_elbow') == 2
    assert set(seen.values()) == {1}, 'a keypoint shows through a part that it is not on'
    assert set(scene.describe(owners, actor, 2).keypoints[:, 2]) == {0, 1}, 'a keypoint shows through another person'


def test_an_object_hides_keypoints() -> None:
    rng = np.random.default_rng(0)
    actor = scene._gather(rng, SIZE, 1)[0]
    image, owners = np.zeros((160, 200, 3), np.uint8), np.zeros((160, 200), np.int16)
    scene.draw(rng, image, owners, actor, 1)
    before = scene.describe(owners, actor, 1)
    for _ in range(10):
        scene._hide(rng, image, owners, actor)
    after = scene.describe(owners, actor, 1)
    assert after.area < before.area
    assert np.sum(after.keypoints[:, 2] == 2) < np.sum(before.keypoints[:, 2] == 2)
    np.testing.assert_array_equal(after.keypoints[:, :2], before.keypoints[:, :2])


@pytest.mark.parametrize('size', [(64, 64), (64, 400), (400, 64)])
def test_small_and_narrow_images_hold_a_person(size: tuple[int, int]) -> None:
    image, people = random_scene(np.random.default_rng(1), size, 2)
    assert image.shape == (size[1], size[0], 3) and people
