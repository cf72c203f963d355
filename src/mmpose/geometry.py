"""From a person's box to the network's crop: centre, scale, affine maps, and the crop itself.

Scales are (width, height) in units of 200 pixels. Angles are degrees. The rules are MMPose 0.29's
(`bbox_xywh2cs`, `get_affine_transform`, `get_warp_matrix`), rewritten in closed form.
"""
from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians, sin

import cv2
import numpy as np

PIXEL_STD = 200.0
MAX_SIDE = 32766  # pixels of an image that cv2.warpAffine takes: it counts them in 16 bits


def clip_box(box: Sequence[float], width: float, height: float) -> tuple[float, float, float, float] | None:
    """Return an (x, y, w, h) box cut to the pixel centres of its image; None when nothing is left of it.

    As in MMPose the size is counted from the corner after clipping, so a box that starts outside the image is
    moved and not cut on that side.
    """
    x, y, w, h = box
    left, top = max(0, x), max(0, y)
    right, bottom = min(width - 1, left + max(0, w)), min(height - 1, top + max(0, h))
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def grow_to_aspect(w: float, h: float, aspect: float) -> tuple[float, float]:
    """Return the smallest (w, h) that holds the given one and has w / h = aspect."""
    return (w, w / aspect) if w > aspect * h else (h * aspect, h)


def box_to_center_scale(box: Sequence[float], image_size: Sequence[int],
                        padding: float = 1.25) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and padded scale of a box, its sides grown to the aspect ratio of the network's input.

    Args:
        box: x, y, w, h in pixels.
        image_size: (width, height) of the network's input.
        padding: Factor on both sides.

    Returns:
        centre (2,) in pixels and scale (2,) in 200 pixels, both float32.
    """
    x, y, w, h = map(float, box)
    scale = np.array(grow_to_aspect(w, h, image_size[0] / image_size[1]), np.float32) / PIXEL_STD
    return np.array((x + w * 0.5, y + h * 0.5), np.float32), scale * padding


def affine_matrix(center: Sequence[float], scale: Sequence[float], rotation: float,
                  output_size: Sequence[int]) -> np.ndarray:
    """Return the affine map image -> crop, float64 (2, 3), by MMPose's three-point rule: only the scale's width counts.

    The centre, the middle of the window's upper edge and the point that completes a right angle go to their
    places in the crop; a positive angle turns the window clockwise.

    Args:
        center: (x, y) in pixels.
        scale: (width, height) in 200 pixels.
        rotation: Degrees.
        output_size: (width, height) of the crop.
    """
    # Float32 where the reference has it, so that crops agree with it to the last grey level.
    x, y = np.float32(center[0]), np.float32(center[1])
    half, angle = float(np.float32(scale[0]) * np.float32(PIXEL_STD)) * 0.5, radians(rotation)
    middle_x, middle_y = output_size[0] * 0.5, output_size[1] * 0.5
    source = _right_angle(x, y, np.float32(x + half * sin(angle)), np.float32(y - half * cos(angle)))
    target = _right_angle(middle_x, middle_y, middle_x, middle_y - middle_x)
    return cv2.getAffineTransform(source, target)


def _right_angle(x: float, y: float, end_x: float, end_y: float) -> np.ndarray:
    """Return a corner, the end of its leg, and the end of that leg set on there and turned by 90 degrees, (3, 2)."""
    return np.array((x, y, end_x, end_y, end_x + (end_y - y), end_y + (x - end_x)), np.float32).reshape(3, 2)


def udp_matrix(center: Sequence[float], scale: Sequence[float], rotation: float,
               output_size: Sequence[int]) -> np.ndarray:
    """Return the affine map image -> crop of unbiased data processing (Huang et al., CVPR 2020).

    Sizes are counted as N - 1. Args and result as for `affine_matrix`; both sides of the scale count.
    """
    angle = radians(rotation)
    width, height = output_size[0] - 1.0, output_size[1] - 1.0
    scale_x, scale_y = width / (scale[0] * PIXEL_STD), height / (scale[1] * PIXEL_STD)
    turn_x, turn_y = cos(angle) * scale_x, sin(angle) * scale_y
    skew_x, skew_y = -sin(angle) * scale_x, cos(angle) * scale_y
    x, y = center
    return np.array(((turn_x, skew_x, width * 0.5 - turn_x * x - skew_x * y),
                     (turn_y, skew_y, height * 0.5 - turn_y * x - skew_y * y)), np.float64)


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the points (N, 2) mapped by a (2, 3) matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the crop that an affine map cuts out of an image, sampled bilinearly, zero outside the image.

    Args:
        image: (H, W, 3), of any height, width and type.
        matrix: (2, 3), image -> crop.
        size: (width, height) of the crop.
    """
    if max(image.shape[:2]) > MAX_SIDE:
        image, matrix = _cut_surroundings(image, matrix, size)
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)


def _cut_surroundings(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of an image that a crop is read from, each n-th pixel if it is still too large, and its map."""
    corners = np.array([(x, y) for x in (-1, size[0]) for y in (-1, size[1])], np.float64)
    corners = transform_points(corners, cv2.invertAffineTransform(matrix))
    shape = np.array(image.shape[1::-1])
    start = np.clip(np.floor(corners.min(axis=0)) - 1, 0, shape - 1).astype(int)
    stop = np.clip(np.ceil(corners.max(axis=0)) + 2, start + 1, shape).astype(int)
    step = -(-(stop - start) // MAX_SIDE)
    part = image[start[1]:stop[1]:step[1], start[0]:stop[0]:step[0]]
    return part, np.column_stack((matrix[:, :2] * step, transform_points(start[None], matrix)[0]))
