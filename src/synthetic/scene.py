"""Images of several figures before a textured background, annotated as a person would annotate them."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from src.synthetic.figure import CARRIERS, KEYPOINTS, Shape, dress, random_colour, random_pose

PARTS = ('nothing', 'object', 'torso', 'neck', 'hair', 'face', 'mouth', 'nose') + tuple(
    f'{side}_{part}' for side in ('left', 'right')
    for part in ('eye', 'ear', 'arm', 'forearm', 'hand', 'thigh', 'shin', 'foot'))
STRIDE = 32  # owner map: person number x STRIDE + part number
MIN_KEYPOINTS, MAX_OVERLAP, ATTEMPTS = 6, 0.2, 30


@dataclass(frozen=True)
class Person:
    """The annotation of a drawn person: `keypoints` (17, 3) x, y in pixels and visibility 2 seen, 1 hidden, 0 outside.

    `box` is (x, y, width, height) of the visible pixels, `area` their number.
    """
    keypoints: np.ndarray
    box: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True)
class Actor:
    """A figure in a scene: `keypoints` (17, 2) in pixels, `height` in pixels, `origin` (2,) the middle of the hips."""
    shapes: list[Shape]
    keypoints: np.ndarray
    height: float
    origin: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """Return x0, y0, x1, y1 in pixels, not clipped to the image."""
        outline = np.concatenate([shape.outline for shape in self.shapes]) * self.height + self.origin
        return np.concatenate((outline.min(0), outline.max(0)))


def _fill(image: np.ndarray, outline: np.ndarray, colour: np.ndarray | float, line: int = cv2.LINE_AA) -> None:
    """Fill a convex outline (P, 2) given in pixels, to a sixteenth of a pixel."""
    colour = np.atleast_1d(colour).astype(float).tolist()
    cv2.fillConvexPoly(image, np.round(outline * 16).astype(np.int32), colour, line, 4)


def _noise(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return cloudy noise (H, W) float32 in -1..1 of random coarseness."""
    width, height = size
    total = np.zeros((height, width), np.float32)
    for octave in (3, 8, 24, 80):
        grid = rng.standard_normal((octave, octave), np.float32) * rng.uniform(0.1, 0.6)
        total += cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(total, -1, 1)


def _stripes(rng: np.random.Generator, size: tuple[int, int], wavelength: float) -> np.ndarray:
    """Return a wave (H, W) float32 in -1..1 of random direction; wavelength in pixels."""
    angle = rng.uniform(0, np.pi)
    x, y = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)[:, None]
    return np.sin((x * np.cos(angle) + y * np.sin(angle)).astype(np.float32) * np.float32(2 * np.pi / wavelength))


def _blob(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """Return a convex outline (P, 2) of random shape around a point: from box to stone to plank."""
    corners = rng.integers(4, 12)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners)) if corners > 4 else np.arange(4) * np.pi / 2 + np.pi / 4
    outline = np.stack([np.cos(angles), np.sin(angles)], 1) * radius * rng.uniform(0.45, 1.3, 2)
    turn = rng.normal(0, 0.4)
    outline = outline @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return cv2.convexHull((centre + outline).astype(np.float32))[:, 0]


def background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a textured background (H, W, 3) uint8: cloudy wall, floor, and clutter like limbs and boxes."""
    height = size[1]
    first, second, floor = (random_colour(rng) for _ in range(3))
    mix = (_noise(rng, size)[..., None] + 1) / 2
    image = first * (1 - mix) + second * mix
    horizon = int(height * rng.uniform(0.5, 1.1))
    image[horizon:] = 0.3 * image[horizon:] + 0.7 * floor
    if rng.random() < 0.4:
        image *= 1 + rng.uniform(0.05, 0.3) * _stripes(rng, size, rng.uniform(5, 40))[..., None]
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(3, 9)):
        centre = rng.uniform((0, 0), size)
        _fill(image, _blob(rng, centre, rng.uniform(0.02, 0.2) * height), random_colour(rng))
    for _ in range(rng.integers(0, 6)):
        ends = np.round(rng.uniform((0, 0), size, (2, 2))).astype(int)
        cv2.line(image, ends[0].tolist(), ends[1].tolist(), random_colour(rng).tolist(), int(rng.integers(1, 8)),
                 cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.5))


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the shared area of two corner boxes over the area of the smaller one."""
    width, height = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    smaller = min(np.prod(first[2:] - first[:2]), np.prod(second[2:] - second[:2]))
    return max(width, 0) * max(height, 0) / smaller


def _place_figure(rng: np.random.Generator, size: tuple[int, int], share: float) -> Actor:
    """Return a figure at a random place; `share` is its body height over the image's shorter side."""
    pose = random_pose(rng)
    shapes = dress(rng, pose)
    height = share * min(size)
    outline = np.concatenate([shape.outline for shape in shapes]) * height
    low, high = outline.min(0), outline.max(0)
    extent = high - low
    outside = (0.3 if rng.random() < 0.15 else 0.) * extent
    origin = rng.uniform(*np.sort([-outside, np.array(size) - extent + outside], axis=0)) - low
    keypoints = np.stack([pose[name][:2] for name in KEYPOINTS]) * height + origin
    return Actor(shapes, keypoints, height, origin)


def _gather(rng: np.random.Generator, size: tuple[int, int], count: int) -> list[Actor]:
    """Return up to `count` figures, at least one, that don't hide each other too much; the far ones come first."""
    limits = (0.55, 1.15) if count == 1 else (0.4, 0.95) if count == 2 else (0.35, 0.75)
    actors: list[Actor] = []
    attempts = 0
    while not actors or (len(actors) < count and attempts < ATTEMPTS):
        attempts += 1
        actor = _place_figure(rng, size, rng.uniform(*limits))
        seen = np.sum(np.all((actor.keypoints >= 0) & (actor.keypoints <= np.array(size) - 1), axis=1))
        if seen >= MIN_KEYPOINTS and all(_overlap(actor.box, other.box) < MAX_OVERLAP for other in actors):
            actors.append(actor)
    return sorted(actors, key=lambda actor: actor.height)


def draw(rng: np.random.Generator, image: np.ndarray, owners: np.ndarray, actor: Actor, number: int) -> None:
    """Draw a figure, shaded as if lit from one side and in patterned clothes, and enter it into the owner map."""
    light = np.array([rng.uniform(-1, 1), -1.]) * 0.004 * actor.height
    cloth = np.zeros(owners.shape, np.uint8)
    for shape in actor.shapes:
        outline = shape.outline * actor.height + actor.origin
        if shape.kind == 'detail':
            _fill(image, outline, shape.colour)
        else:
            middle = outline.mean(0)
            spokes = outline - middle
            rim = spokes / np.maximum(np.linalg.norm(spokes, axis=1, keepdims=True), 1)
            _fill(image, outline + 0.9 * rim, shape.colour * 0.55)
            for step in (0, 1, 2):
                _fill(image, middle + step * light + spokes * (1 - 0.22 * step), shape.colour * (0.94 + 0.06 * step))
        _fill(owners, outline, number * STRIDE + PARTS.index(shape.part), cv2.LINE_8)
        _fill(cloth, outline, 255 if shape.kind == 'cloth' else 0, cv2.LINE_8)
    size = (image.shape[1], image.shape[0])
    pattern = rng.uniform(0, 0.2) * _noise(rng, size)
    if rng.random() < 0.5:
        pattern += rng.uniform(0.1, 0.3) * _stripes(rng, size, actor.height * rng.uniform(0.03, 0.08))
    worn = cloth > 0
    image[worn] = np.clip(image[worn] * (1 + pattern[worn][:, None]), 0, 255).astype(np.uint8)


def _hide(rng: np.random.Generator, image: np.ndarray, owners: np.ndarray, actor: Actor) -> None:
    """Draw an object in front of a random keypoint."""
    centre = actor.keypoints[rng.integers(len(KEYPOINTS))] + rng.normal(0, 0.05, 2) * actor.height
    outline = _blob(rng, centre, rng.uniform(0.04, 0.13) * actor.height)
    colour = random_colour(rng)
    _fill(image, outline, colour)
    _fill(image, outline.mean(0) + (outline - outline.mean(0)) * 0.7, np.clip(colour * rng.uniform(0.7, 1.3), 0, 255))
    _fill(owners, outline, PARTS.index('object'), cv2.LINE_8)


def describe(owners: np.ndarray, actor: Actor, number: int) -> Person:
    """Return visibility, box and area of a person as the finished owner map shows them."""
    height, width = owners.shape
    keypoints = np.zeros((len(KEYPOINTS), 3))
    for index, (name, (x, y)) in enumerate(zip(KEYPOINTS, actor.keypoints.tolist())):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        side, _, kind = name.rpartition('_')
        carriers = [PARTS.index(part if part in PARTS else f'{side}_{part}') for part in CARRIERS[kind]]
        person, part = divmod(int(owners[round(y), round(x)]), STRIDE)
        keypoints[index] = x, y, 2 if person == number and part in carriers else 1
    rows, columns = np.nonzero(owners // STRIDE == number)
    if not rows.size:
        return Person(keypoints, (0, 0, 0, 0), 0)
    x, y = int(columns.min()), int(rows.min())
    return Person(keypoints, (x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1), rows.size)


def random_scene(rng: np.random.Generator, size: tuple[int, int], max_persons: int) -> tuple[np.ndarray, list[Person]]:
    """Return an image (H, W, 3) uint8 BGR of `size` (width, height) and the persons in it, at least one."""
    image = background(rng, size)
    owners = np.zeros(image.shape[:2], np.int16)
    actors = _gather(rng, size, int(rng.integers(1, max_persons + 1)))
    for number, actor in enumerate(actors, start=1):
        draw(rng, image, owners, actor, number)
    for actor in actors:
        if rng.random() < 0.2:
            _hide(rng, image, owners, actor)
    grain = rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 7)
    exposed = image * np.float32(rng.uniform(0.8, 1.15)) + np.float32(rng.uniform(-15, 15)) + grain
    people = [describe(owners, actor, number) for number, actor in enumerate(actors, start=1)]
    return np.clip(exposed, 0, 255).astype(np.uint8), [person for person in people if person.area]
