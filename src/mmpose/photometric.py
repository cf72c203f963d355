"""The step of the pipeline that changes colours and leaves keypoints where they are, as in MMPose 0.29.

It follows MMPose in the order of the channels that it sees: that of LoadImageFromFile's `channel_order`, RGB unless
given. Before TopDownAffine images are BGR here all the same, which `Compose` tells it by `reverse`.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from src.common.errors import InputError

Results = dict[str, Any]
GREYS, HUES = 255, 180  # the highest value, and how many hues an 8-bit HSV image has


def distort(image: np.ndarray, *, brightness: float = 0.0, contrast: float = 1.0, contrast_last: bool = False,
            saturation: float | None = None, hue: int | None = None, reverse: bool = False) -> np.ndarray:
    """Return an image with its brightness, contrast, saturation and hue changed.

    Args:
        image: uint8 (H, W, 3), left unchanged.
        brightness: Added to all values.
        contrast: Factor on all values.
        contrast_last: Whether the contrast is changed after saturation and hue, else before them.
        saturation: Factor on the saturation; None for no change.
        hue: Added to the hue, in 2 degrees; None for no change.
        reverse: Whether the channels are in the other order than the reference has them there. The reference takes
            the first for blue, whatever it is.
    """
    image = _scale(image, 1, brightness) if brightness else image
    if not contrast_last:
        image = _scale(image, contrast, 0)
    if saturation is not None or hue is not None:
        # A round trip through 8-bit HSV loses a little, also where saturation and hue stay.
        hues, saturations, values = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV if reverse else cv2.COLOR_BGR2HSV))
        if saturation is not None:
            saturations = _scale(saturations, saturation, 0)
        if hue is not None:
            hues = ((hues.astype(int) + hue) % HUES).astype(np.uint8)
        image = cv2.cvtColor(cv2.merge((hues, saturations, values)),
                             cv2.COLOR_HSV2RGB if reverse else cv2.COLOR_HSV2BGR)
    return _scale(image, contrast, 0) if contrast_last else image


def _scale(image: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """Return `image * factor + offset`, cut to 0..255 and rounded down: a table of 256 values is faster than sums."""
    if factor == 1 and offset == 0:
        return image
    return cv2.LUT(image, np.clip(np.arange(GREYS + 1, dtype=np.float32) * factor + offset, 0, GREYS).astype(np.uint8))


@dataclass
class PhotometricDistortion:
    """Change brightness and contrast each with probability 0.5, saturation and hue each with 0.5 (both with 0.25).

    MMPose's swap of the channels has no effect there, and there is none here.
    """
    brightness_delta: float = 32
    contrast_range: Sequence[float] = (0.5, 1.5)
    saturation_range: Sequence[float] = (0.5, 1.5)
    hue_delta: int = 18

    def __post_init__(self) -> None:
        for name in ('contrast_range', 'saturation_range'):
            bounds = getattr(self, name)
            if (len(bounds) != 2 or not all(isinstance(bound, (int, float)) for bound in bounds)
                    or not 0 <= bounds[0] <= bounds[1] <= GREYS):
                raise InputError(f'PhotometricDistortion: {name} {bounds} is no (lowest, highest) factor')
        if not 0 <= self.brightness_delta <= GREYS or not 0 <= self.hue_delta <= HUES:
            raise InputError(f'PhotometricDistortion: brightness_delta {self.brightness_delta} or hue_delta '
                             f'{self.hue_delta} is out of range; give 0 to {GREYS} and 0 to {HUES}')
        self.reverse = False

    def __call__(self, results: Results) -> Results:
        rng, image = results['rng'], results['img']
        if image.dtype != np.uint8:
            raise InputError("PhotometricDistortion needs bytes; leave out LoadImageFromFile's to_float32")
        brightness = rng.uniform(-self.brightness_delta, self.brightness_delta) if rng.random() < 0.5 else 0.0
        contrast = rng.uniform(*self.contrast_range) if rng.random() < 0.5 else 1.0
        contrast_last, kind = rng.random() < 0.5, int(rng.integers(4))  # kind: two bits, for saturation and hue
        saturation = rng.uniform(*self.saturation_range) if kind & 1 else None
        hue = int(rng.integers(-self.hue_delta, self.hue_delta)) if kind & 2 and self.hue_delta > 0 else None
        results['img'] = distort(image, brightness=brightness, contrast=contrast, contrast_last=contrast_last,
                                 saturation=saturation, hue=hue, reverse=self.reverse)
        return results
