"""Drawn videos: the same figures in each frame, in the same clothes, the first of them still and the others not."""
from __future__ import annotations

import numpy as np

from benchmarks.drawn_video import draw_video

SIZE = (160, 120)


def test_a_video_shows_the_same_figures_in_each_frame() -> None:
    frames = list(draw_video(5, 26, SIZE, 3))
    assert {image.shape for image, _ in frames} == {(120, 160, 3)} and {len(people) for _, people in frames} == {3}
    tracks = np.array([[person.keypoints[:, :2] for person in people] for _, people in frames])
    seen = np.array([[person.keypoints[:, 2] == 2 for person in people] for _, people in frames])
    assert seen.any(2).mean() > 0.9
    still, walking = tracks[:, 0], tracks[:, 1:]
    assert (still == still[0]).all()
    both = seen[:-1, 1:] & seen[1:, 1:]
    steps = np.linalg.norm(np.diff(walking, axis=0), axis=3)[both]
    assert 0.2 < steps.mean() < 5 and steps.max() < 10, 'figures walk, and do not jump'
    for _, people in frames:
        for person in people:
            x, y, width, height = person.box
            for px, py in person.keypoints[person.keypoints[:, 2] == 2, :2]:
                assert x - 2 <= px <= x + width + 1 and y - 2 <= py <= y + height + 1


def test_clothes_stay_and_seeds_decide() -> None:
    first, again, other = (list(draw_video(seed, 2, SIZE, 1)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[1][0], again[1][0])
    assert (first[0][0] != other[0][0]).mean() > 0.5
    change = np.abs(first[0][0].astype(int) - first[1][0])
    assert change.mean() < 10, 'only the grain changes where nobody moves'
