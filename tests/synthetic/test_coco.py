"""The synthetic data set: a COCO root that COCO's own reader accepts, always the same, and never over other data."""
from __future__ import annotations

import filecmp
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.synthetic import coco
from src.synthetic.coco import DETECTIONS, make_dataset


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('synthetic') / 'coco'
    make_dataset(folder, train=12, val=10, seed=5, image_size=(160, 128))
    return folder


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


@pytest.mark.parametrize(('split', 'count'), [('train2017', 12), ('val2017', 10)])
def test_splits_are_whole(root: Path, split: str, count: int) -> None:
    content = json.loads((root / f'annotations/person_keypoints_{split}.json').read_text())
    assert len(content['images']) == count == len(list((root / split).iterdir()))
    for image in content['images']:
        pixels = cv2.imread(str(root / split / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3) == (128, 160, 3)
    peopled = {annotation['image_id'] for annotation in content['annotations']}
    assert peopled == {image['id'] for image in content['images']}
    numbers = [annotation['id'] for annotation in content['annotations']]
    assert len(set(numbers)) == len(numbers)
    for annotation in content['annotations']:
        keypoints = np.reshape(annotation['keypoints'], (17, 3))
        assert annotation['num_keypoints'] == np.count_nonzero(keypoints[:, 2])
        assert annotation['iscrowd'] == 0 and annotation['category_id'] == 1 and annotation['area'] > 0


def test_splits_share_nothing(root: Path) -> None:
    train, val = (json.loads((root / f'annotations/person_keypoints_{split}2017.json').read_text())
                  for split in ('train', 'val'))
    for kind in ('images', 'annotations'):
        assert not {item['id'] for item in train[kind]} & {item['id'] for item in val[kind]}
    first = {tuple(annotation['keypoints']) for annotation in train['annotations']}
    assert not first & {tuple(annotation['keypoints']) for annotation in val['annotations']}


def test_coco_scores_the_ground_truth_as_perfect(root: Path) -> None:
    coco_module, eval_module = pytest.importorskip('pycocotools.coco'), pytest.importorskip('pycocotools.cocoeval')
    ground_truth = coco_module.COCO(str(root / 'annotations/person_keypoints_val2017.json'))
    results = [dict(image_id=item['image_id'], category_id=1, keypoints=item['keypoints'], score=0.9)
               for item in ground_truth.dataset['annotations']]
    scoring = eval_module.COCOeval(ground_truth, ground_truth.loadRes(results), 'keypoints')
    scoring.evaluate()
    scoring.accumulate()
    scoring.summarize()
    assert scoring.stats[0] == pytest.approx(1)


def _overlap(first: list[float], second: list[float]) -> float:
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(np.add(first[:2], first[2:]), np.add(second[:2], second[2:]))
    shared = np.prod(np.clip(high - low, 0, None))
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def test_detections_find_every_person_a_little_off(root: Path) -> None:
    people = json.loads((root / 'annotations/person_keypoints_val2017.json').read_text())['annotations']
    found = json.loads((root / DETECTIONS).read_text())
    assert all(0 < box['score'] < 1 and box['category_id'] == 1 and min(box['bbox'][2:]) > 0 for box in found)
    assert {box['image_id'] for box in found} == {person['image_id'] for person in people}
    sure = [box for box in found if box['score'] > 0.6]
    assert len(sure) == len(people) < len(found)
    best = [max(_overlap(person['bbox'], box['bbox']) for box in sure if box['image_id'] == person['image_id'])
            for person in people]
    assert min(best) > 0.6 and 0.75 < np.mean(best) < 0.98


def test_equal_arguments_give_equal_files_and_another_seed_gives_others(root: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / 'same', train=12, val=10, seed=5, image_size=(160, 128))
    names = _files(root)
    assert _files(tmp_path / 'same') == names
    assert filecmp.cmpfiles(root, tmp_path / 'same', names, shallow=False) == (names, [], [])
    make_dataset(tmp_path / 'other', train=12, val=10, seed=6, image_size=(160, 128))
    images = [name for name in names if name.endswith('.jpg')]
    assert filecmp.cmpfiles(root, tmp_path / 'other', images, shallow=False) == ([], images, [])


def test_images_do_not_depend_on_how_many_are_made(root: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / 'coco', train=1, val=2, seed=5, image_size=(160, 128))
    names = [name for name in _files(tmp_path / 'coco') if name.endswith('.jpg')]
    assert len(names) == 3
    assert filecmp.cmpfiles(root, tmp_path / 'coco', names, shallow=False) == (names, [], [])


def test_what_is_there_is_only_replaced_on_request_and_only_if_made_here(tmp_path: Path) -> None:
    mine, foreign = tmp_path / 'mine', tmp_path / 'foreign'
    foreign.mkdir()
    (foreign / 'photo.jpg').write_text('precious')
    mine.mkdir()  # empty: may be filled
    small = dict(train=1, val=1, seed=0, image_size=(64, 64))
    make_dataset(mine, **small)
    with pytest.raises(InputError, match=r'mine: exists; .*--overwrite'):
        make_dataset(mine, **small)
    make_dataset(mine, **{**small, 'train': 2}, overwrite=True)
    assert len(list((mine / 'train2017').iterdir())) == 2
    for overwrite in (False, True):
        with pytest.raises(InputError, match='foreign: exists and was not made by this tool'):
            make_dataset(foreign, **small, overwrite=overwrite)
    assert _files(foreign) == ['photo.jpg'] and {path.name for path in tmp_path.iterdir()} == {'mine', 'foreign'}


def test_a_data_set_with_files_of_the_users_is_left_alone(tmp_path: Path) -> None:
    small = dict(train=1, val=1, seed=0, image_size=(64, 64))
    make_dataset(tmp_path / 'coco', **small)
    (tmp_path / 'coco/results.json').write_text('precious')
    with pytest.raises(InputError, match=r'coco: holds results.json, .*; move it or choose another folder'):
        make_dataset(tmp_path / 'coco', **small, overwrite=True)
    assert (tmp_path / 'coco/results.json').read_text() == 'precious'


def test_a_failure_leaves_nothing_behind_and_the_old_data_set_alone(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    small = dict(train=1, val=1, seed=0, image_size=(64, 64))
    make_dataset(tmp_path / 'coco', **small)
    before = _files(tmp_path)
    monkeypatch.setattr(coco.cv2, 'imwrite', lambda *_: False)
    with pytest.raises(InputError, match='cannot be written'):
        make_dataset(tmp_path / 'coco', **small, overwrite=True)
    assert _files(tmp_path) == before


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='file'):
        make_dataset(tmp_path / 'file' / 'coco', 1, 1, 0, (64, 64))
