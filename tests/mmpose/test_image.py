"""Image files that must be read as OpenCV reads them, or refused."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.common.errors import InputError
from src.mmpose.image import is_whole_jpeg, is_whole_png, read_image

MARKERS = [b'\xff\xd8', b'\xff\xd9', b'\xff\xda', b'\xff\xda\0\x04', b'\x89PNG\r\n\x1a\n', b'IEND']
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


def with_fill(data: bytes) -> bytes:
    """Puts fill bytes before a JPEG's second marker."""
    return data[:2] + b'\xff' * 3 + data[2:]


NOISE = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)  # many 0xff among the data of the scan
JPEGS = {
    'baseline': jpeg(NOISE), 'progressive': jpeg(NOISE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    'restarts': jpeg(NOISE, cv2.IMWRITE_JPEG_RST_INTERVAL, 1), 'grey': jpeg(NOISE[..., 0]),
    'fill': with_fill(jpeg(NOISE)),
    'thumbnail': with_segment(jpeg(NOISE), b'Exif\0\0' + jpeg(GRADIENT[:8, :8])),
    'comment': with_segment(jpeg(NOISE), b'\xff\xd9 and \xff\xda')}
PNG = cv2.imencode('.png', NOISE)[1].tobytes()
TEXT_PNG = PNG[:33] + b'\0\0\0\x08tEXtIEND\0\0\0\0' + b'\0\0\0\0' + PNG[33:]


@pytest.mark.parametrize('kind', JPEGS)
def test_a_jpeg_is_whole_up_to_its_own_end_marker(kind: str) -> None:
    data = JPEGS[kind]
    assert is_whole_jpeg(data) and data.endswith(b'\xff\xd9')
    assert not any(is_whole_jpeg(data[:end]) for end in range(2, len(data)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from([*JPEGS.values(), PNG, TEXT_PNG]), st.binary(max_size=40), st.sampled_from(MARKERS))
def test_what_follows_an_image_is_not_looked_at(data: bytes, tail: bytes, marker: bytes) -> None:
    is_whole = is_whole_jpeg if data[:1] == b'\xff' else is_whole_png
    assert is_whole(data + tail) and is_whole(data + tail + marker + tail)


@pytest.mark.parametrize('data', [PNG, TEXT_PNG])
def test_a_png_is_whole_up_to_its_end_chunk(data: bytes) -> None:
    assert is_whole_png(data) and not any(is_whole_png(data[:end]) for end in range(8, len(data) - 8))


@pytest.mark.parametrize('kind', JPEGS)
def test_motion_photos_are_read(tmp_path: Path, kind: str) -> None:
    """A film behind the image, in which any marker of a JPEG may stand."""
    path = tmp_path / 'MVIMG.jpg'
    film = b'\0\0\0\x18ftypmp42\0\0\0\0' + bytes(99) + b'\xff\xda\x12\xff\xd9\xff\xda' + bytes(99)
    path.write_bytes(JPEGS[kind] + film)
    expected = cv2.imdecode(np.frombuffer(JPEGS[kind], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read_image(str(path)), expected)
