"""Faults of pictures, annotations and detections: each is handled as MMPose would, or refused in one line naming it."""
from __future__ import annotations

import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from src.common.errors import InputError
from src.mmpose.coco import CocoDataset
from src.mmpose.image import read_image
from tests.mmpose.test_coco import BOX, INFO, SIZES, TRAIN, content, person, write

RNG = np.random.default_rng(0)
PICTURE = cv2.resize(RNG.integers(0, 256, (6, 5, 3), np.uint8), (50, 60), interpolation=cv2.INTER_CUBIC)


def encode(suffix: str, picture: np.ndarray = PICTURE) -> bytes:
    done, data = cv2.imencode(suffix, picture)
    assert done
    return data.tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes = b'') -> bytes:
    """A PNG that says it has that size, of whatever rows."""
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)) +
            chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def exif_jpeg(orientation: int) -> bytes:
    """PICTURE with an EXIF block of one entry."""
    tiff = b'II*\0' + struct.pack('<IHHHII', 8, 1, 0x112, 3, 1, orientation) + struct.pack('<I', 0)
    block = b'Exif\0\0' + tiff
    jpeg = encode('.jpg')
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(block) + 2) + block + jpeg[2:]


def cmyk_jpeg() -> bytes:

    file = io.BytesIO()
    Image.fromarray(PICTURE[..., ::-1]).convert('CMYK').save(file, 'JPEG', quality=95)
    return file.getvalue()


JPEG, PNG = encode('.jpg'), encode('.png')


# Pictures that are read, with what they must look like (mean distance per pixel and channel)

@pytest.mark.parametrize(('make', 'expected', 'tolerance'), [
    (lambda: PNG, lambda: PICTURE, 0),
    (lambda: JPEG, lambda: PICTURE, 6),
    (lambda: encode('.bmp'), lambda: PICTURE, 0),
    (lambda: encode('.webp'), lambda: PICTURE, 8),
    (lambda: encode('.tiff'), lambda: PICTURE, 0),
    (lambda: encode('.png', PICTURE[..., 0]), lambda: np.repeat(PICTURE[..., :1], 3, 2), 0),
    (lambda: encode('.jpg', PICTURE[..., 0]), lambda: np.repeat(PICTURE[..., :1], 3, 2), 6),
    (lambda: encode('.png', PICTURE.astype(np.uint16) * 257), lambda: PICTURE, 0),
    (lambda: encode('.png', np.dstack([PICTURE, np.full((60, 50), 9, np.uint8)])), lambda: PICTURE, 0),
    (cmyk_jpeg, lambda: PICTURE, 12),
    (lambda: exif_jpeg(1), lambda: PICTURE, 6),
    (lambda: exif_jpeg(3), lambda: PICTURE[::-1, ::-1], 6),
    (lambda: exif_jpeg(6), lambda: np.rot90(PICTURE, -1), 6),
    (lambda: exif_jpeg(8), lambda: np.rot90(PICTURE), 6),
    (lambda: JPEG + b'\0' * 100, lambda: PICTURE, 6),
    (lambda: encode('.png', PICTURE[:1, :1]), lambda: PICTURE[:1, :1], 0),
    (lambda: encode('.png', np.full((4000, 5000, 3), 9, np.uint8)), lambda: np.full((4000, 5000, 3), 9, np.uint8), 0),
], ids=['png', 'jpeg', 'bmp', 'webp', 'tiff', 'grey png', 'grey jpeg', '16 bit', 'transparent', 'CMYK', 'EXIF 1',
        'EXIF 3', 'EXIF 6', 'EXIF 8', 'bytes after the end', 'one pixel', 'large'])
def test_pictures_that_are_read(tmp_path: Path, make: Callable, expected: Callable, tolerance: float) -> None:
    path = tmp_path / 'a picture'
    path.write_bytes(make())
    found = read_image(str(path))
    assert found.dtype == np.uint8 and found.shape == expected().shape
    assert np.abs(found.astype(int) - expected()).mean() <= tolerance


@pytest.mark.parametrize(('data', 'reason'), [
    (b'', 'empty'), (b'\0' * 5000, 'not a readable'), (b'<html>404 not found</html>', 'not a readable'),
    (b'{"a": 1}', 'not a readable'), (JPEG[:2], 'truncated'), (JPEG[:200], 'truncated'),
    (JPEG[:-300], 'truncated'), (JPEG[:-2], 'truncated'), (PNG[:8], 'truncated'), (PNG[:40], 'truncated'),
    (PNG[:len(PNG) // 2], 'truncated'), (PNG[:-13], 'truncated'), (png(0, 0), 'not a readable'),
    (png(0, 7), 'not a readable'), (png(60000, 60000), 'not a readable'), (png(2 ** 31 - 1, 9), 'not a readable'),
    (b'%PDF-1.4\n', 'not a readable'), (b'PK\x03\x04', 'not a readable'),
    (b'RIFF\x10\0\0\0WEBPVP8 ', 'not a readable'),
    (JPEG[:20] + b'\xff' * (len(JPEG) - 22) + b'\xff\xd9', 'not a readable'),
], ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else value)
def test_pictures_that_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / 'häßlich und leer.jpg'
    path.write_bytes(data)
    with pytest.raises(InputError, match=reason) as caught:
        read_image(str(path))
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('kind', ['absent', 'folder', 'broken link', 'loop of links', 'null in the name',
                                  'surrogate in the name', 'name too long'])
def test_paths_that_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / 'a.jpg'
    if kind == 'folder':
        path.mkdir()
    elif kind == 'broken link':
        path.symlink_to(tmp_path / 'b.jpg')
    elif kind == 'loop of links':
        path.symlink_to(path)
    names = {'null in the name': 'a\0b.jpg', 'surrogate in the name': 'a\ud800.jpg', 'name too long': 'a' * 300}
    with pytest.raises(InputError, match='image cannot be read') as caught:
        read_image(str(tmp_path / names.get(kind, 'a.jpg')))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['with space.png', 'Übergröße.png', '人物.png', 'sub/a.png', "quo'te\".png", '.png',
                                  'a#b%20c.png', 'link.png'])
def test_paths_that_are_followed(tmp_path: Path, name: str) -> None:
    values = content()
    values['images'][0]['file_name'] = name
    dataset = write(tmp_path, values)()
    path = tmp_path / 'images' / name
    path.parent.mkdir(exist_ok=True)
    os.rename(tmp_path / 'images/a.png', tmp_path / 'elsewhere.png' if name == 'link.png' else path)
    if name == 'link.png':
        path.symlink_to(tmp_path / 'elsewhere.png')
    assert dataset.sample(0)['img'].shape == (3, 256, 192)


# Annotations

@pytest.mark.parametrize('bbox', [[-4, -4, 500, 500], [48, 58, 1e9, 1e9], [0, 0, 1e8, 1e8], [5.5, 5.5, 1e-3, 1e-3],
                                  [48.5, 58.5, 9, 9]])
def test_boxes_that_stick_out_or_are_tiny_give_samples(tmp_path: Path, bbox: list) -> None:
    dataset = write(tmp_path, {**content(), 'annotations': [person(6, bbox=bbox)]})()
    assert len(dataset) == 1 and not dataset.remarks
    for epoch in range(20):
        sample = dataset.sample(0, epoch)
        assert all(np.isfinite(sample[key]).all() for key in ('img', 'target', 'target_weight'))


@pytest.mark.parametrize('point', [(-1e4, 5), (5, -1e4), (1e4, 1e4), (9e8, 5), (50, 60), (-0.5, 59.9)])
def test_keypoints_outside_the_picture_have_no_target(tmp_path: Path, point: tuple[float, float]) -> None:
    values = {**content(), 'annotations': [person(6, keypoints=[10, 12, 2] * 16 + [*point, 2])]}
    dataset = write(tmp_path, values)()
    samples = [dataset.sample(0, epoch) for epoch in range(20)]
    for sample in samples:
        assert all(np.isfinite(sample[key]).all() for key in ('img', 'target', 'target_weight'))
    if max(map(abs, point)) > 1000:  # seen only where the half-body window is drawn around it
        ankles = [sample['target_weight'][[15, 16], 0].tolist() for sample in samples]
        assert [1, 0] in ankles and [0, 1] in ankles  # as it is, and mirrored


def test_negative_visibility_is_no_label(tmp_path: Path) -> None:
    values = {**content(), 'annotations': [person(6, keypoints=[10, 12, 2] * 16 + [10, 12, -1])]}
    record, = write(tmp_path, values)().records
    assert record['joints_3d_visible'][-1].tolist() == [0, 0, 0]


def edit(what: str, number: int, **changes: Any) -> Callable[[dict], None]:
    def change(values: dict) -> None:
        for key, value in changes.items():
            if value is None:
                del values[what][number][key]
            else:
                values[what][number][key] = value
    return change


def double(what: str) -> Callable[[dict], None]:
    return lambda values: values[what].append(dict(values[what][0]))


HUGE = 10 ** 400


@pytest.mark.parametrize(('change', 'words'), [
    (edit('annotations', 0, keypoints=[1, 2, 2] * 16), 'annotation 7.*51 numbers expected'),
    (edit('annotations', 0, keypoints=[1, 2, 2] * 18), 'annotation 7.*51 numbers'),
    (edit('annotations', 0, keypoints='nose'), 'annotation 7'),
    (edit('annotations', 0, keypoints={'nose': [1, 2, 2]}), 'annotation 7'),
    (edit('annotations', 0, keypoints=[1e300, 2, 2] * 17), 'annotation 7.*finite'),
    (edit('annotations', 0, keypoints=[10, 12, 2] * 16 + [1e30, 12, 2]), 'annotation 7.*finite'),
    (edit('annotations', 0, keypoints=[HUGE, 2, 2] * 17), 'annotation 7'),
    (edit('annotations', 0, bbox=[1, 2, 3]), 'annotation 7.*4 numbers'),
    (edit('annotations', 0, bbox=[HUGE, 2, 3, 4]), 'annotation 7'),
    (edit('annotations', 0, bbox=['left', 2, 3, 4]), 'annotation 7'),
    (edit('annotations', 0, bbox=7), 'annotation 7'),
    (edit('annotations', 0, area='large'), 'annotation 7'),
    (edit('annotations', 0, image_id=99), 'annotation 7: image 99 is not in the file'),
    (edit('annotations', 0, image_id=[1]), 'annotation 7'),
    (edit('annotations', 0, image_id=None), "annotation 7 has no key 'image_id'"),
    (edit('annotations', 0, id=None), "an annotation has no key 'id'"),
    (edit('annotations', 0, id=[7]), 'an annotation is malformed'),
    (edit('annotations', 0, id=8), 'duplicate annotation id 8'),
    (edit('images', 0, id=None), "an image has no key 'id'"),
    (edit('images', 0, file_name=None), "image 1 has no key 'file_name'"),
    (edit('images', 0, file_name=5), 'image 1 is malformed'),
    (edit('images', 0, height='tall'), 'image 1 is malformed'),
    (lambda v: v.pop('annotations'), 'no person'),
    (double('images'), 'duplicate image id 1'),
    (double('annotations'), 'duplicate annotation id 7'),
    (lambda v: v.pop('images'), "the file has no key 'images'"),
    (lambda v: v.update(images=None), 'an image is malformed'),
    (lambda v: v.update(images={'1': v['images'][0]}), 'an image is malformed'),
    (lambda v: v.update(annotations=[None]), 'an annotation is malformed'),
    (lambda v: v.update(annotations=[]), 'no person'),
    (lambda v: v.update(categories=None), 'the file is malformed'),
    (lambda v: v.update(categories=['person']), 'the file is malformed'),
    (lambda v: v.update(categories=[{'keypoints': ['a']}]), "the file has no key 'id'"),
])
def test_annotations_that_are_refused(tmp_path: Path, change: Callable, words: str) -> None:
    values = content()
    change(values)
    with pytest.raises(InputError, match=words) as caught:
        write(tmp_path, values)()
    assert 'gt.json' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('raw', [b'', b'{', b'\xff\xfe\xff', b'[' * 100_000, b'{"images": ' * 50_000, b'1' * 5000,
                                 b'null', b'"text"', b'7', b'[]', b'{}'], ids=lambda raw: repr(raw[:12]))
def test_files_that_are_no_annotations_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / 'gt.json').write_bytes(raw)
    with pytest.raises(InputError, match=r'gt\.json') as caught:
        CocoDataset(INFO, tmp_path / 'gt.json', tmp_path, *SIZES, TRAIN)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_other_encodings_of_json_are_read(tmp_path: Path, encoding: str) -> None:
    opened = write(tmp_path, content())
    (tmp_path / 'gt.json').write_bytes(json.dumps(content()).encode(encoding))
    assert len(opened()) == 2


@pytest.mark.parametrize(('change', 'words'), [
    (dict(bbox=[1, 2, 3]), 'detection 1.*4 numbers'), (dict(bbox=[[1, 2], [3, 4]]), 'detection 1.*two corners'),
    (dict(bbox=[HUGE, 1, 1, 1]), 'detection 1'), (dict(score='high'), 'detection 1'), (dict(score=None), 'detection 1'),
    (dict(score=float('nan')), 'detection 1.*score is nan'), (dict(score=HUGE), 'detection 1'),
    (dict(image_id=5), 'detection 1: image 5'), (dict(image_id={}), 'detection 1'), (dict(category_id=[1]), None),
])
def test_detections_that_are_refused(tmp_path: Path, change: dict, words: str | None) -> None:
    opened = write(tmp_path, content(), [BOX, {**BOX, **change}])
    if words is None:
        assert len(opened()) == 1
        return
    with pytest.raises(InputError, match=words) as caught:
        opened()
    assert 'det.json' in str(caught.value) and '\n' not in str(caught.value)
