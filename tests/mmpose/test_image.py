"""Image files that must be read as OpenCV reads them, or refused."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.mmpose.image import read_image

GRADIENT = np.linspace(0, 250, 40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)


def jpeg(image: np.ndarray = GRADIENT, *flags: int) -> bytes:
    return cv2.imencode('.jpg', image, flags)[1].tobytes()


def with_segment(data: bytes, payload: bytes) -> bytes:
    """Puts an APP1 segment behind a JPEG's first marker."""
    return data[:2] + b'\xff\xe1' + (len(payload) + 2).to_bytes(2, 'big') + payload + data[2:]


@pytest.mark.parametrize('name, content, word', [
    ('empty.jpg', b'', 'empty'),
    ('text.jpg', b'hello', 'not a readable image'),
    ('cut.jpg', jpeg()[:-200], 'truncated'),
    ('head.jpg', jpeg()[:100], ''),
    ('scans.jpg', jpeg(GRADIENT, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)[:-100], 'truncated'),
    ('thumb.jpg', with_segment(jpeg(), b'Exif\0\0' + jpeg(GRADIENT[:8, :8]))[:-200], 'truncated'),
    ('cut.png', cv2.imencode('.png', GRADIENT)[1].tobytes()[:-300], ''),
    ('cut.webp', cv2.imencode('.webp', GRADIENT)[1].tobytes()[:-20], ''),
    ('cut.bmp', cv2.imencode('.bmp', GRADIENT)[1].tobytes()[:-2000], ''),
])
def test_broken_images_are_refused_by_name(tmp_path: Path, name: str, content: bytes, word: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f'{name}.*{word}') as caught:
        read_image(str(tmp_path / name))
    assert '\n' not in str(caught.value)


def test_missing_image_and_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / 'absent.jpg', tmp_path):
        with pytest.raises(InputError, match=path.name):
            read_image(str(path))


def test_unusual_but_whole_images_are_read_as_opencv_reads_them(tmp_path: Path) -> None:
    sixteen = cv2.imencode('.png', GRADIENT.astype(np.uint16) * 257)[1].tobytes()
    grey = cv2.imencode('.png', GRADIENT[..., 0])[1].tobytes()
    alpha = cv2.imencode('.png', np.dstack((GRADIENT, GRADIENT[..., 0])))[1].tobytes()
    thumbnail = with_segment(jpeg(), b'Exif\0\0' + jpeg(GRADIENT[:8, :8]))
    for number, content in enumerate((sixteen, grey, alpha, thumbnail, jpeg() + b'\0' * 100)):
        path = tmp_path / f'{number}.image'
        path.write_bytes(content)
        image = read_image(str(path))
        assert image.dtype == np.uint8 and image.shape == (40, 60, 3)
        np.testing.assert_array_equal(image, cv2.imread(str(path)))
    np.testing.assert_array_equal(read_image(str(tmp_path / '0.image')), GRADIENT)
