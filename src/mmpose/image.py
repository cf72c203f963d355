"""Image files to arrays, and arrays to the planes that a network takes."""
from __future__ import annotations

import cv2
import numpy as np

from src.common.errors import InputError


def read_image(path: str, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Return an image as `cv2.imread` does (grey, CMYK and 16 bit become 8-bit BGR, EXIF orientation is applied).

    Returns:
        BGR uint8 (H, W, 3).

    Raises:
        InputError: the file is missing, empty, truncated or no image.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        reason = getattr(error, 'strerror', None) or error
        raise InputError(f'{path}: image cannot be read ({reason}); check the image directory') from error
    # The decoder fills up a JPEG that ends early with grey and says nothing. A whole one has its end marker after
    # the last start of a scan (an embedded thumbnail has both markers too, but further up).
    truncated = data.startswith(b'\xff\xd8') and not data.endswith(b'\xff\xd9') and (
        data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda'))
    truncated |= data.startswith(b'\x89PNG') and b'IEND' not in data[-4096:]
    try:
        image = None if truncated or not data else cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        reason = 'empty' if not data else 'truncated' if truncated else 'not a readable image'
        raise InputError(f'{path}: {reason}; replace the file or remove it from the annotations')
    return image


def to_planes(image: np.ndarray, factor: np.ndarray | float, offset: np.ndarray | float) -> np.ndarray:
    """Return the planes `image * factor + offset` of an image (H, W, 3).

    Args:
        image: (H, W, 3).
        factor: A number, or one per channel (3, 1, 1).
        offset: Likewise.

    Returns:
        float32 (3, H, W).
    """
    planes = np.array(cv2.split(image), np.float32)
    planes *= factor
    planes += offset
    return planes
