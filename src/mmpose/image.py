"""Image files to arrays, and arrays to the planes that a network takes."""
from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from src.common.errors import InputError
from src.common.files import atomic_path

IMAGE_SUFFIXES = frozenset({'.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff'})
# A marker of a JPEG that begins a segment, or ends the image. In the data of a scan 0xff is followed by 0 or by the
# number of a restart, and any number of 0xff may fill the room before a marker.
JPEG_MARKER = re.compile(rb'\xff([^\x00\x01\xd0-\xd8\xff])')


def read_image(path: str, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Return an image, BGR uint8 (H, W, 3), as `cv2.imread` does (of grey, CMYK and 16 bit too; turned as EXIF says).

    Raises:
        InputError: the file is missing, empty, truncated or no image.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        reason = getattr(error, 'strerror', None) or error
        raise InputError(f'{path}: image cannot be read ({reason}); check the image directory') from error
    # The decoder fills up a file that ends early with grey and says nothing.
    truncated = ((data.startswith(b'\xff\xd8') and not is_whole_jpeg(data))
                 or (data.startswith(b'\x89PNG') and not is_whole_png(data)))
    try:
        image = None if truncated or not data else cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        reason = 'empty' if not data else 'truncated' if truncated else 'not a readable image'
        raise InputError(f'{path}: {reason}; replace the file or leave it out')
    return image


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image, BGR uint8, whole or not at all, in the format of the file's suffix.

    Raises:
        InputError: it is too large for the format, or the file can't be written.
    """
    with atomic_path(path) as temporary:  # OpenCV itself takes no names but in UTF-8
        try:
            success, data = cv2.imencode(path.suffix, image)
        except cv2.error:
            success = False
        if not success:
            raise InputError(f'{path}: {image.shape[1]} x {image.shape[0]} pixels are too many for this format; scale '
                             'the image down')
        temporary.write_bytes(data)


def is_whole_jpeg(data: bytes) -> bool:
    """Return whether the segments of a JPEG (ITU T.81, annex B) lead to its own end marker, whatever follows that.

    Segments bring their length, so markers inside of one (an embedded thumbnail) are passed over. Phones append whole
    films to their images.
    """
    position = 2
    while marker := JPEG_MARKER.search(data, position):
        # Behind the start of a scan an end marker can be no thumbnail's: mostly it is the file's end, found at once.
        if marker[1] == b'\xd9' or (marker[1] == b'\xda' and data.endswith(b'\xff\xd9')):
            return True
        position = marker.end() + int.from_bytes(data[marker.end():marker.end() + 2], 'big')
    return False


def is_whole_png(data: bytes) -> bool:
    """Return whether the chunks of a PNG lead to its end chunk, whatever follows that."""
    position = 8
    while kind := data[position + 4:position + 8]:
        if kind == b'IEND':
            return True
        position += 12 + int.from_bytes(data[position:position + 4], 'big')
    return False


def to_planes(image: np.ndarray, factor: np.ndarray | float, offset: np.ndarray | float) -> np.ndarray:
    """Return the planes `image * factor + offset` of an image (H, W, 3), float32 (3, H, W).

    Args:
        factor: A number, or one per channel (3, 1, 1).
        offset: Likewise.
    """
    planes = np.array(cv2.split(image), np.float32)
    planes *= factor
    planes += offset
    return planes
