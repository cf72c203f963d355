"""Figures to be found, and videos to be read."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def pedestrian() -> np.ndarray:
    """A dark standing figure before a wall, 365 pixels high."""
    image, dark = np.full((480, 360, 3), 200, np.uint8), (60, 50, 50)
    cv2.circle(image, (180, 90), 28, dark, -1)
    cv2.ellipse(image, (180, 195), (48, 85), 0, 0, 360, dark, -1)
    for side in (-1, 1):
        cv2.line(image, (180 + 22 * side, 260), (180 + 22 * side, 410), dark, 34)
        cv2.line(image, (180 + 40 * side, 140), (180 + 55 * side, 265), dark, 20)
    return image


def write_video(path: Path, count: int, size: tuple[int, int] = (96, 64), rate: float = 12.5) -> Path:
    """Write a video of a moving disc; return its path."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), rate, size)
    for number in range(count):
        image = np.full((*size[::-1], 3), 40, np.uint8)
        cv2.circle(image, (10 + 5 * number % 70, 30), 8, (250, 250, 250), -1)
        writer.write(image)
    writer.release()
    return path
