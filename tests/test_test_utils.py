"""Flip test, batching and order of the evaluation loop, with a function in the place of the network."""
from __future__ import annotations

import copy
import threading
from itertools import chain
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from src.common.errors import InputError
from src.config import resolve
from src.mmpose import transforms
from src.mmpose.coco import CocoDataset
from src.mmpose.heatmap import decode
from src.settings.build import build_dataset
from src.test_utils import crops, forward_of, predict, predict_heatmaps
from tests.networks import mode, randomise, tiny

MIRROR = np.array([0, 2, 1])
JOINTS = 17


class Fake:
    """A network whose map k is the picture's plane k % 3 times a ramp, so that no map is its own mirror image."""

    def __init__(self, joints: int = 3) -> None:
        self.joints, self.shapes = joints, []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.shapes.append(images.shape)
        maps = images[:, np.arange(self.joints) % 3, ::4, ::4]
        ramp = np.arange(maps.shape[3]) + 10 * np.arange(self.joints)[:, None, None] + 1
        return (maps * ramp).astype(np.float32)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 16, 12), np.float32)


# Heatmaps of one batch

@pytest.mark.parametrize('count', [1, 3, 4])
def test_batches_are_filled_up(count: int) -> None:
    fake, images = Fake(), pictures(count)
    found = predict_heatmaps(fake, images, 4, None, False)
    assert fake.shapes == [(4, 3, 16, 12)]
    np.testing.assert_array_equal(found, Fake()(images))


@pytest.mark.parametrize('count', [1, 3, 4])
@pytest.mark.parametrize('shift', [False, True])
def test_flip_test(count: int, shift: bool) -> None:
    fake, images = Fake(), pictures(count)
    found = predict_heatmaps(fake, images, 4, MIRROR, shift)
    assert fake.shapes == [(8, 3, 16, 12)]
    mirrored = Fake()(images[:, :, :, ::-1])[:, [0, 2, 1], :, ::-1]
    if shift:
        mirrored = np.concatenate((mirrored[..., :1], mirrored[..., :-1]), 3)
    np.testing.assert_allclose(found, (Fake()(images) + mirrored) / 2, rtol=1e-6)


def test_a_network_as_a_function() -> None:
    network = tiny()
    randomise(network)
    network.set_train()
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    with mode(ms.PYNATIVE_MODE):
        forward = forward_of(network)
        both = forward(images)
        assert both.shape == (2, 3, 16, 16) and both.dtype == np.float32
        # With the statistics of training, not those of the batch: a picture alone gives the same.
        np.testing.assert_allclose(forward(images[:1]), both[:1], atol=1e-5 * np.abs(both).max())


# A whole data set

@pytest.fixture
def dataset(synthetic: Path) -> CocoDataset:
    """Detector boxes, those of one picture far apart."""
    _, config = resolve({'model_config': 'litehrnet_tiny_coco_128x96'}, {})
    dataset = build_dataset({'data_root': str(synthetic), 'random_seed': 0}, config, 'val', 'det')
    dataset.records = [dataset.records[i] for i in np.random.default_rng(2).permutation(len(dataset))]
    order = list(chain(*dataset.groups()))
    assert len(dataset) > len(dataset.groups()) > 1
    assert order[3:6] != sorted(order[3:6])  # so that a batch of three has rows out of order
    return dataset


@pytest.fixture
def settings() -> dict[str, Any]:
    return {**resolve({'model_config': 'litehrnet_tiny_coco_128x96'}, {})[1]['eval'], 'batch_size': 3}


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_a_picture_is_decoded_once_and_cut_for_every_box(dataset: CocoDataset, workers: int,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    read, lock, original = [], threading.Lock(), transforms.read_image

    def counted(path, *arguments):
        with lock:
            read.append(path)
        return original(path, *arguments)

    expected = [dataset.sample(i) for i in range(len(dataset))]
    before = copy.deepcopy(dataset.records)
    monkeypatch.setattr(transforms, 'read_image', counted)
    found = dict(crops(dataset, workers))
    assert sorted(read) == sorted({record['image_file'] for record in dataset.records})
    assert sorted(found) == list(range(len(dataset)))
    for i, want in enumerate(expected):
        np.testing.assert_array_equal(found[i]['img'], want['img'])
        for key, value in want['img_metas'].items():
            np.testing.assert_array_equal(found[i]['img_metas'][key], value)
    for record, old in zip(dataset.records, before):
        assert record.keys() == old.keys()  # crops leave the records as they are


def test_boxes_come_picture_by_picture(dataset: CocoDataset) -> None:
    assert [i for i, _ in crops(dataset, 3)] == list(chain(*dataset.groups()))


@pytest.mark.parametrize('decoding', ['default', 'dark'])
@pytest.mark.parametrize('flip', [True, False])
def test_predictions_stand_in_the_records_order(dataset: CocoDataset, settings: dict[str, Any], decoding: str,
                                                flip: bool) -> None:
    settings.update(decoding=decoding, flip_test=flip)
    fake = Fake(JOINTS)
    found = predict(fake, dataset, settings, workers=2)
    copies = 2 if flip else 1
    assert set(fake.shapes) == {(3 * copies, 3, 128, 96)} and len(fake.shapes) == -(-len(dataset) // 3)
    assert found.keypoints.shape == (len(dataset), JOINTS, 3) and found.keypoints.dtype == np.float32
    for i, record in enumerate(dataset.records):
        sample = dataset.sample(i)
        meta = sample['img_metas']
        maps = predict_heatmaps(Fake(JOINTS), sample['img'][None], 1, dataset.info.flip_index if flip else None, True)
        xy, score = decode(maps, meta['center'][None], meta['scale'][None], decoding, settings['blur_kernel'])
        np.testing.assert_allclose(found.keypoints[i], np.concatenate((xy, score), 2)[0], rtol=1e-5)
        width, height = meta['scale'] * 200
        np.testing.assert_allclose(found.boxes[i], [*meta['center'], *meta['scale'], width * height,
                                                    record['bbox_score']], rtol=1e-6)
        assert found.image_ids[i] == record['image_id'] and found.bbox_ids[i] == record['bbox_id']


def test_shift_is_a_setting(dataset: CocoDataset, settings: dict[str, Any]) -> None:
    shifted, plain = (predict(Fake(JOINTS), dataset, {**settings, 'shift_heatmap': shift}, 1).keypoints
                      for shift in (True, False))
    assert not np.array_equal(shifted, plain)


def test_an_unreadable_picture_is_named(dataset: CocoDataset, settings: dict[str, Any], tmp_path: Path) -> None:
    missing = tmp_path / 'gone.jpg'
    dataset.records[-1]['image_file'] = str(missing)
    dataset.records[-1]['image_id'] = 'a picture of its own'
    with pytest.raises(InputError, match=r'gone\.jpg'):
        predict(Fake(JOINTS), dataset, settings, 2)


def test_a_network_that_gives_no_numbers_has_no_score(dataset: CocoDataset, settings: dict[str, Any]) -> None:
    fake = Fake(JOINTS)
    with pytest.raises(InputError, match='gives numbers that are not finite; is its checkpoint sound'):
        predict(lambda images: fake(images) * np.float32(np.nan), dataset, settings, 1)
