"""Persons keep their identity past each other and through gaps, and their keypoints lose jitter, not accuracy."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from src.config import resolve
from src.prediction.boxes import Boxes
from src.prediction.tracking import OneEuroFilter, Tracker

SIGMAS = resolve({'device': 'CPU'}, {})[1]['data']['info']['sigmas']
RATE = 25.0
BODY = np.random.default_rng(0).uniform(0, 1, (2, 17, 2)) * [60, 160]  # two persons' keypoints in pixels


def person(body: int, x: float, noise: float = 0, category: int = 1, score: float = 0.8) -> dict[str, Any]:
    points = BODY[body] + [x, 100] + np.random.default_rng(int(x * 10)).normal(0, 1, (17, 2)) * noise
    return {'keypoints': np.concatenate((points, np.full((17, 1), score)), 1).ravel().tolist(), 'score': score,
            'category_id': category, 'scale': [0.75, 1.0]}


def identities(persons: list[dict[str, Any]]) -> list[int]:
    return [each['track_id'] for each in persons]


def test_two_who_walk_past_each_other_keep_their_identities() -> None:
    tracker, rng = Tracker(SIGMAS, RATE), np.random.default_rng(1)
    for frame in range(60):
        bodies = [body for body in rng.permutation(2) if frame == 0 or rng.random() > 0.3]
        found = [person(0, 5 * frame, 2) if body == 0 else person(1, 300 - 5 * frame, 2) for body in bodies]
        tracked = identities(tracker.update(frame, found, [1.0] * len(found)))
        if frame == 0:
            known = dict(zip(bodies, tracked))
        assert tracked == [known[body] for body in bodies], frame


@pytest.mark.parametrize(('gap', 'identity'), [(24, 1), (27, 2)])
def test_an_identity_waits_for_one_second(gap: int, identity: int) -> None:
    tracker = Tracker(SIGMAS, RATE)
    assert identities(tracker.update(0, [person(0, 0)], [1.0])) == [1]
    assert tracker.update(1, [], []) == []
    assert identities(tracker.update(gap, [person(0, 3)], [1.0])) == [identity]


def test_another_category_or_place_is_another_person() -> None:
    tracker = Tracker(SIGMAS, RATE)
    tracker.update(0, [person(0, 0)], [1.0])
    assert identities(tracker.update(1, [person(0, 0, category=2), person(1, 500)], [1.0, 1.0])) == [2, 3]


def test_what_is_known_of_a_person_stays() -> None:
    (tracked,) = Tracker(SIGMAS, RATE).update(7, [{**person(0, 0), 'image_id': 3, 'center': [1.0, 2.0]}], [1.0])
    assert tracked == {**person(0, 0), 'image_id': 3, 'center': [1.0, 2.0], 'track_id': 1}


def test_smoothing_takes_jitter_from_still_keypoints_and_does_not_lag_behind_fast_ones() -> None:
    rng = np.random.default_rng(2)
    for speed in (0.0, 6.0):  # pixels per frame: three persons' heights in 2.7 s
        truth = np.stack([BODY[0] + [speed * n, 0] for n in range(100)])
        measured = truth + rng.normal(0, 1, truth.shape)
        smooth = OneEuroFilter(measured[0])
        filtered = np.array([measured[0], *(smooth(points, 150.0, 1 / RATE) for points in measured[1:])])
        before, after = (np.linalg.norm(each - truth, axis=2)[20:].mean() for each in (measured, filtered))
        assert after < (0.6 if speed == 0 else 1.3) * before


def test_still_points_without_noise_do_not_move_and_time_counts_in_seconds() -> None:
    smooth = OneEuroFilter(BODY[0])
    np.testing.assert_array_equal(smooth(BODY[0], 100.0, 0.04), BODY[0])
    steps = [OneEuroFilter(BODY[0])(BODY[0] + 5, 100.0, seconds) - BODY[0] for seconds in (0.01, 0.1)]
    assert (steps[0] < steps[1]).all() and (steps[1] < 5).all()


def test_without_smoothing_keypoints_are_as_they_were() -> None:
    tracker = Tracker(SIGMAS, RATE, smooth=False)
    for frame in range(3):
        (tracked,) = tracker.update(frame, [person(0, frame, 3)], [1.0])
        assert tracked['keypoints'] == person(0, frame, 3)['keypoints']


def test_the_next_box_is_where_the_person_is_heading() -> None:
    tracker = Tracker(SIGMAS, RATE, smooth=False)
    for frame in range(12):
        tracker.update(frame, [person(0, 10 * frame)], [0.7])
    boxes = tracker.follow(12, 0.3)
    points = BODY[0] + [120, 100]
    np.testing.assert_allclose(boxes.values[0, :2] + boxes.values[0, 2:4] / 2, (points.min(0) + points.max(0)) / 2,
                               atol=2)
    assert boxes.values[0, 4] == 0.7 and boxes.categories == [1]
    assert (boxes.values[0, 2:4] > np.ptp(points, axis=0)).all()


def test_followed_are_those_that_the_detector_misses_while_the_network_sees_them() -> None:
    tracker = Tracker(SIGMAS, RATE)
    tracker.update(0, [person(0, 0), person(1, 300), person(0, 600, score=0.1)], [1.0] * 3)
    low, high = (BODY[0] + [0, 100]).min(0), (BODY[0] + [0, 100]).max(0)
    found = Boxes(np.array([[*low, *(high - low), 0.5]]), [None])
    assert len(tracker.follow(1, 0.3).values) == 2, 'the third one is lost'
    together = tracker.follow(1, 0.3, found)
    assert together.categories == [None, 1] and together.values[0, 4] == 0.5 and together.values[1, 0] > 250
    assert not len(tracker.follow(2, 0.3).values), 'nobody was seen in the frame before'
    assert tracker.follow(1, 0.95).values.shape == (0, 5)
