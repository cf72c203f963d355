"""One articulated figure: a random pose in three dimensions and the shapes that draw it.

Lengths are in body heights. Axes: x to the right of the image, y down, z towards the viewer. A figure that faces the
viewer has its left side at positive x. Nothing tells left from right except what also does in a photograph (where the
face and chest point, what hides what): a difference in colour would be undone by every mirrored training sample.
"""
from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

SIDES = (('left', 1.), ('right', -1.))
KEYPOINTS = ('nose',) + tuple(
    f'{side}_{part}' for part in ('eye', 'ear', 'shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle')
    for side, _ in SIDES)
# Body parts on which a keypoint counts as seen. Any other shape on top of it hides it.
CARRIERS = {'nose': ('nose', 'face'), 'eye': ('eye', 'face'), 'ear': ('ear', 'face'), 'shoulder': ('torso', 'arm'),
            'elbow': ('arm', 'forearm'), 'wrist': ('forearm', 'hand'), 'hip': ('torso', 'thigh'),
            'knee': ('thigh', 'shin'), 'ankle': ('shin', 'foot')}
# Part: where it starts and ends, the radii there, and how far it is lifted above what it is joined to.
LIMBS = {'foot': ('ankle', 'toe', 0.026, 0.02, 0.), 'shin': ('knee', 'ankle', 0.038, 0.026, 0.005),
         'thigh': ('hip', 'knee', 0.058, 0.04, 0.01), 'arm': ('shoulder', 'elbow', 0.038, 0.03, 0.045),
         'forearm': ('elbow', 'wrist', 0.03, 0.021, 0.05), 'hand': ('wrist', 'fingers', 0.02, 0.018, 0.05)}
SKIN = np.array([(196, 219, 250), (150, 190, 235), (110, 160, 215), (70, 115, 175), (45, 75, 125), (35, 50, 80)], float)
CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 16, endpoint=False)),
                   np.sin(np.linspace(0, 2 * np.pi, 16, endpoint=False))], axis=1)


@dataclass(frozen=True)
class Shape:
    """One convex patch of a figure: `outline` (P, 2) in body heights, `depth` towards the viewer, BGR `colour`.

    `part` is a name as in `CARRIERS`, with its side in front where it has one; `kind` is skin, cloth or detail.
    """
    part: str
    outline: np.ndarray
    depth: float
    colour: np.ndarray
    kind: str


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """Return a random BGR colour (3,), float 0..255, from pale to saturated and from dark to bright."""
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.95), rng.uniform(0.2, 0.95))
    return np.array([blue, green, red]) * 255


def _direction(polar: float, azimuth: float, sign: float) -> np.ndarray:
    """Return the unit vector `polar` degrees away from straight down; azimuth 0 is outwards, 90 is forwards."""
    polar, azimuth = np.radians([polar, azimuth])
    return np.array([sign * np.sin(polar) * np.cos(azimuth), np.cos(polar), np.sin(polar) * np.sin(azimuth)])


def _bend(direction: np.ndarray, degrees: float, towards: np.ndarray) -> np.ndarray:
    """Return a unit vector turned by an angle in the plane that it spans with `towards`."""
    across = towards - direction * (towards @ direction)
    across /= max(np.linalg.norm(across), 1e-6)
    return direction * np.cos(np.radians(degrees)) + across * np.sin(np.radians(degrees))


def _turn(points: dict[str, np.ndarray], pivot: np.ndarray, pitch: float, yaw: float, roll: float
          ) -> dict[str, np.ndarray]:
    """Return points rotated about `pivot` by degrees: nodding, then turning, then leaning to a side."""
    matrix = np.eye(3)
    for axis, angle in enumerate((pitch, yaw, roll)):
        vector = np.zeros(3)
        vector[axis] = np.radians(angle)
        matrix = cv2.Rodrigues(vector)[0] @ matrix
    return {name: pivot + matrix @ (point - pivot) for name, point in points.items()}


def _head(rng: np.random.Generator, neck: np.ndarray) -> dict[str, np.ndarray]:
    size = rng.uniform(1.15, 1.4)
    points = dict(skull=(0, -0.095, 0), face=(0, -0.09, 0.014), hair=(0, -0.112, -0.018), nose=(0, -0.086, 0.068),
                  mouth=(0, -0.058, 0.055), nape=(0, -0.03, -0.045))
    for side, sign in SIDES:
        points[f'{side}_eye'] = (sign * 0.026, -0.106, 0.052)
        points[f'{side}_ear'] = (sign * 0.062, -0.094, -0.004)
    points = {name: neck + size * np.array(point) for name, point in points.items()}
    return _turn(points, neck, rng.normal(0, 7), rng.normal(0, 12), rng.normal(0, 7))


def _leg(rng: np.random.Generator, hip: np.ndarray, sign: float, gait: str, length: float) -> list[np.ndarray]:
    """Return knee, ankle and toe below a hip."""
    polar, azimuth, bend = {'stand': ((1, 18), (-20, 60), (0, 15)), 'act': ((8, 60), (-80, 85), (0, 80)),
                            'crouch': ((55, 95), (35, 80), (60, 110))}[gait]
    thigh = _direction(rng.uniform(*polar), rng.uniform(*azimuth), sign)
    shin = _bend(thigh, rng.uniform(*bend), np.array([0, 0.6, -1.]))
    knee = hip + 0.24 * length * thigh
    ankle = knee + 0.235 * length * shin
    return [knee, ankle, ankle + 0.07 * _bend(shin, 75, np.array([sign * rng.uniform(0.1, 0.7), 0, 1.]))]


def _arm(rng: np.random.Generator, shoulder: np.ndarray, sign: float, length: float) -> list[np.ndarray]:
    """Return elbow, wrist and fingertips beyond a shoulder."""
    polar = rng.uniform(6, 60) if rng.random() < 0.65 else rng.uniform(60, 165)
    upper = _direction(polar, rng.uniform(-20, 60), sign)
    inwards = np.array([-sign * rng.uniform(-0.3, 0.8), -rng.uniform(0, 1), rng.uniform(0.2, 1)])
    lower = _bend(upper, rng.uniform(0, 110), inwards)
    elbow = shoulder + 0.17 * length * upper
    wrist = elbow + 0.15 * length * lower
    return [elbow, wrist, wrist + 0.05 * lower]


def random_pose(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return a random pose: named points (3,) in body heights around the middle of the hips.

    The names are those of `KEYPOINTS` and a few helpers of the drawing (neck, skull, toes, fingers, ...).
    """
    trunk, length = rng.uniform(0.27, 0.31), rng.uniform(0.92, 1.08)
    shoulder_width, hip_width = rng.uniform(0.1, 0.125), rng.uniform(0.055, 0.07)
    gait = rng.choice(['stand', 'act', 'crouch'], p=[0.55, 0.37, 0.08])
    upper, lower = {'neck': np.array([0, -trunk - 0.015, 0.])}, {}
    for side, sign in SIDES:
        hip, shoulder = np.array([sign * hip_width, 0, 0]), np.array([sign * shoulder_width, -trunk, 0])
        upper[f'{side}_shoulder'], lower[f'{side}_hip'] = shoulder, hip
        for name, point in zip(('elbow', 'wrist', 'fingers'), _arm(rng, shoulder, sign, length)):
            upper[f'{side}_{name}'] = point
        for name, point in zip(('knee', 'ankle', 'toe'), _leg(rng, hip, sign, gait, length)):
            lower[f'{side}_{name}'] = point
    upper.update(_head(rng, upper['neck']))
    upper = _turn(upper, np.zeros(3), -abs(rng.normal(0, 8)), rng.normal(0, 10), rng.normal(0, 7))
    yaw = rng.normal(0, 20) if rng.random() < 0.96 else rng.normal(180, 20)
    roll = rng.normal(0, 6) if rng.random() < 0.95 else rng.uniform(-45, 45)
    return _turn({**lower, **upper}, np.zeros(3), rng.normal(0, 5), yaw, roll)


def dress(rng: np.random.Generator, pose: dict[str, np.ndarray]) -> list[Shape]:
    """Return the shapes of a body of random build in clothes of random colours, from back to front."""
    tone = rng.uniform(0, len(SKIN) - 1)
    skin = SKIN[int(tone)] * (1 - tone % 1) + SKIN[int(tone) + 1] * (tone % 1)
    shirt, trousers, shoes, hair = (random_colour(rng) for _ in range(4))
    sleeves, legs = rng.integers(3), rng.random() < 0.7
    colours = dict(foot=shoes, thigh=trousers, shin=trousers if legs else skin, hand=skin,
                   arm=shirt if sleeves else skin, forearm=shirt if sleeves == 2 else skin)
    build, shapes = rng.uniform(0.95, 1.4), []

    def add(part: str, kind: str, colour: np.ndarray, lift: float, *circles: tuple[str, float]) -> None:
        depth = float(np.mean([pose[name][2] for name, _ in circles]))
        # What is further away is darker: the cue that tells the near limb from the far one in a side view.
        shade = np.clip(1 + 1.5 * depth, 0.7, 1.15)
        points = np.concatenate([pose[name][:2] + radius * CIRCLE for name, radius in circles])
        outline = cv2.convexHull(points.astype(np.float32))[:, 0]  # around two circles: a tapered limb
        shapes.append(Shape(part, outline, depth + lift, np.clip(colour * shade, 0, 255), kind))

    for side, _ in SIDES:
        for part, (start, end, first, last, lift) in LIMBS.items():
            add(f'{side}_{part}', 'skin' if colours[part] is skin else 'cloth', colours[part], lift,
                (f'{side}_{start}', first * build), (f'{side}_{end}', last * build))
        add(f'{side}_ear', 'skin', skin * 0.85, 0.03, (f'{side}_ear', 0.018))
        add(f'{side}_eye', 'detail', np.full(3, 245.), 0., (f'{side}_eye', 0.013))
        add(f'{side}_eye', 'detail', np.full(3, 25.), 0.002, (f'{side}_eye', 0.007))
    add('torso', 'cloth', shirt, 0.03, ('left_shoulder', 0.04), ('right_shoulder', 0.04), ('left_hip', 0.05 * build),
        ('right_hip', 0.05 * build))
    add('neck', 'skin', skin, 0.028, ('neck', 0.03), ('skull', 0.03))
    add('hair', 'detail', hair, 0.03, ('hair', 0.066), ('skull', 0.06))
    if rng.random() < 0.35:
        add('hair', 'detail', hair, 0.025, ('hair', 0.06), ('nape', 0.05))
    add('face', 'skin', skin, 0.01, ('face', 0.053), ('mouth', 0.034))
    add('mouth', 'detail', np.array([70, 60, 150.]), 0.01, ('mouth', 0.009))
    add('nose', 'skin', skin * 0.6, 0.02, ('nose', 0.013))
    return sorted(shapes, key=lambda shape: shape.depth)
