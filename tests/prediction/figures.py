"""Figures to be found."""
from __future__ import annotations

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
