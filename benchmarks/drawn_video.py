"""Videos of figures that walk to and fro, pass each other and move their limbs, with what is true of each frame."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from src.synthetic.figure import KEYPOINTS, dress, random_pose
from src.synthetic.scene import Actor, Person, background, describe, draw

BLEND = 0.5  # how far a figure's pose goes towards its second one
STEPS = 0.7  # Hz, of the poses' change


def draw_video(seed: int, frames: int, size: tuple[int, int], count: int, rate: float = 25.0
               ) -> Iterator[tuple[np.ndarray, list[Person]]]:
    """Yield the frames of a video.

    Args:
        size: width and height in pixels.
        count: figures; the first one stands still, the others walk at different speeds.
        rate: frames per second.

    Yields:
        (H, W, 3) uint8 BGR, and the figures in the same order in each frame; those not to be seen have area 0.
    """
    rng = np.random.default_rng(seed)
    scenery = background(rng, size)
    poses = [[random_pose(rng) for _ in range(2)] for _ in range(count)]
    heights = rng.uniform(0.45, 0.6, count) * min(size)
    starts, speeds, phases = rng.uniform(0, 1, count), rng.uniform(0.12, 0.3, count), rng.uniform(0, 1, count)
    for number in range(frames):
        seconds = number / rate
        image, owners = scenery.copy(), np.zeros(scenery.shape[:2], np.int16)
        actors = []
        for index in range(count):
            way = (starts[index] + speeds[index] * seconds * (index > 0)) % 2
            swing = BLEND * (1 - np.cos(2 * np.pi * (STEPS * seconds * (index > 0) + phases[index]))) / 2
            first, second = poses[index]
            pose = {name: (1 - swing) * first[name] + swing * second[name] for name in first}
            origin = np.array([(0.1 + 0.8 * min(way, 2 - way)) * size[0], (0.5 + 0.08 * index / count) * size[1]])
            keypoints = np.stack([pose[name][:2] for name in KEYPOINTS]) * heights[index] + origin
            # The same clothes and patterns in each frame.
            actors.append(Actor(dress(np.random.default_rng([seed, index]), pose), keypoints, heights[index], origin))
            draw(np.random.default_rng([seed, index, 1]), image, owners, actors[-1], index + 1)
        grain = rng.standard_normal(image.shape, np.float32) * 4
        yield (np.clip(image + grain, 0, 255).astype(np.uint8),
               [describe(owners, actor, index) for index, actor in enumerate(actors, start=1)])
