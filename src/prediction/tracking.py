"""Persons followed through the frames of a video: who is who, where they are next, and keypoints without jitter."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from src.mmpose.nms import oks
from src.prediction.boxes import Boxes

MAX_GAP = 1.0  # seconds that an identity waits for its person to be found again
MIN_SIMILARITY = 0.2  # of two poses that may be one person's in frames that follow each other
MARGIN = 0.1  # of the annotated box around the keypoints, as a share of their longer side (COCO val2017, 127 persons)
SAME_BOX = 0.5  # intersection over union from which on a followed person is the one that the detector found
MIN_CUTOFF, SPEED_GAIN, SPEED_CUTOFF = 0.5, 20.0, 1.0  # Hz; Hz per person's size and second; Hz


def _overlaps(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersections over unions (M,) of a box (4,) with others (M, 4), all x, y, width, height."""
    low = np.maximum(one[:2], others[:, :2])
    high = np.minimum(one[:2] + one[2:], others[:, :2] + others[:, 2:4])
    shared = np.clip(high - low, 0, None).prod(1)
    return shared / np.maximum(one[2:].prod() + others[:, 2:4].prod(1) - shared, 1e-9)


def _box_around(points: np.ndarray) -> np.ndarray:
    """Return x, y, width, height of the person whose keypoints (K, 2) are given."""
    low, high = points.min(0), points.max(0)
    margin = max(MARGIN * float((high - low).max()), 1.0)
    return np.concatenate((low - margin, high - low + 2 * margin))


class OneEuroFilter:
    """A low-pass filter for points: strong on still ones, which jitter, weak on fast ones, which would lag.

    G. Casiez, N. Roussel, D. Vogel. 1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
    Systems. CHI 2012. Speed is that of the point, not of each coordinate, and counts in persons' sizes per second, so
    that near and far persons are filtered alike.
    """

    def __init__(self, points: np.ndarray) -> None:
        """Begin at points (K, 2) in pixels."""
        self._points, self._velocity = points, np.zeros_like(points)

    def __call__(self, points: np.ndarray, size: float, seconds: float) -> np.ndarray:
        """Return points (K, 2) filtered.

        Args:
            points: in pixels.
            size: of the person in pixels.
            seconds: since the points before.
        """
        def weight(cutoff: np.ndarray | float) -> np.ndarray | float:
            return 1 / (1 + 1 / (2 * np.pi * cutoff * seconds))

        velocity = (points - self._points) / (size * seconds)
        self._velocity = self._velocity + weight(SPEED_CUTOFF) * (velocity - self._velocity)
        speed = np.linalg.norm(self._velocity, axis=1, keepdims=True)
        self._points = self._points + weight(MIN_CUTOFF + SPEED_GAIN * speed) * (points - self._points)
        return self._points


@dataclass
class _Track:
    """A person as last seen: smoothed keypoints (K, 3), the detector's score, `velocity` (2,) in pixels per frame."""
    identity: int
    keypoints: np.ndarray
    area: float
    category: Any
    box_score: float
    frame: int
    velocity: np.ndarray
    smooth: OneEuroFilter

    def predict(self, frame: int) -> np.ndarray:
        """Return where the keypoints (K, 2) should be in a later frame."""
        return self.keypoints[:, :2] + self.velocity * (frame - self.frame)


class Tracker:
    """The persons of one video."""

    def __init__(self, sigmas: Sequence[float], rate: float, *, smooth: bool = True) -> None:
        """Begin with nobody.

        Args:
            sigmas: K OKS falloffs.
            rate: frames per second.
            smooth: return the keypoints of each person filtered over time; who is who is told by these anyhow.
        """
        self._sigmas, self._rate, self._smooth = np.array(sigmas), rate, smooth
        self._tracks: list[_Track] = []
        self._identities = 0

    def update(self, frame: int, persons: Sequence[dict[str, Any]], box_scores: Sequence[float]
               ) -> list[dict[str, Any]]:
        """Return the persons of the next frame with a `track_id` each, from 1 on, and smoothed keypoints.

        Args:
            frame: its number, greater than the last one's.
            persons: COCO results, as `select` returns them.
        """
        self._tracks = [track for track in self._tracks if frame - track.frame <= MAX_GAP * self._rate]
        keypoints = [np.reshape(person['keypoints'], (-1, 3)) for person in persons]
        matches = self._match(frame, persons, keypoints)
        tracked = []
        for number, (person, points, score) in enumerate(zip(persons, keypoints, box_scores)):
            track, area = matches.get(number), _area(person)
            if track is None:
                self._identities += 1
                track = _Track(self._identities, points, area, person['category_id'], score, frame, np.zeros(2),
                               OneEuroFilter(points[:, :2]))
                self._tracks.append(track)
            else:
                frames = frame - track.frame
                smoothed = np.concatenate((track.smooth(points[:, :2], np.sqrt(area), frames / self._rate),
                                           points[:, 2:]), 1)
                moved = (smoothed - track.keypoints)[:, :2].mean(0) / frames
                track.velocity = (track.velocity + moved) / 2
                track.keypoints, track.area, track.box_score, track.frame = smoothed, area, score, frame
                if self._smooth:
                    points = smoothed
            tracked.append({**person, 'keypoints': points.ravel().tolist(), 'track_id': track.identity})
        return tracked

    def _match(self, frame: int, persons: Sequence[dict[str, Any]], keypoints: Sequence[np.ndarray]
               ) -> dict[int, _Track]:
        """Return the tracks of persons by these' numbers: those that make all pairs most alike together."""
        if not (persons and self._tracks):
            return {}
        points, areas = np.array(keypoints)[..., :2], np.array([_area(person) for person in persons])
        boxes = np.array([_box_around(each) for each in points])
        alike = np.zeros((len(self._tracks), len(persons)))
        for row, track in enumerate(self._tracks):
            expected = track.predict(frame)
            alike[row] = (oks(expected, points, track.area, areas, self._sigmas)
                          + _overlaps(_box_around(expected), boxes)) / 2
            alike[row, [person['category_id'] != track.category for person in persons]] = 0
        return {number: self._tracks[row] for row, number in zip(*linear_sum_assignment(-alike))
                if alike[row, number] >= MIN_SIMILARITY}

    def follow(self, frame: int, min_score: float, found: Boxes | None = None) -> Boxes:
        """Return the boxes of a frame's persons: the detector's, and those of the frame before that it misses.

        Args:
            min_score: persons whose keypoints are scored below it on the mean are given up.
            found: what the detector finds in the frame, if it was asked.
        """
        values, categories = ([], []) if found is None else (list(found.values), list(found.categories))
        for track in self._tracks:
            if track.frame != frame - 1 or track.keypoints[:, 2].mean() < min_score:
                continue
            confident = track.keypoints[:, 2] >= min_score
            box = _box_around(track.predict(frame)[confident])
            if found is None or not (_overlaps(box, found.values) >= SAME_BOX).any():
                values.append(np.append(box, track.box_score))
                categories.append(track.category)
        return Boxes(np.array(values, np.float64).reshape(-1, 5), categories)


def _area(person: dict[str, Any]) -> float:
    """Return the area of a result's window in square pixels; its scale is in 200-pixel units."""
    return float(np.prod(person['scale'])) * 200 ** 2
