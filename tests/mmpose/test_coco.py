"""Which persons and boxes become records, that samples are reproducible, and that broken files are refused."""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from configs.coco_base import dataset_info
from src.common.errors import InputError
from src.mmpose.coco import CocoDataset, _streams
from src.mmpose.dataset_info import DatasetInfo

INFO = DatasetInfo.from_dict(dataset_info)
SIZES = (192, 256), (48, 64)
TRAIN = [
    dict(type='LoadImageFromFile'),
    dict(type='TopDownGetBboxCenterScale', padding=1.25),
    dict(type='TopDownRandomShiftBboxCenter', shift_factor=0.16, prob=0.3),
    dict(type='TopDownRandomFlip', flip_prob=0.5),
    dict(type='TopDownHalfBodyTransform', num_joints_half_body=8, prob_half_body=0.3),
    dict(type='TopDownGetRandomScaleRotation', rot_factor=30, scale_factor=0.25),
    dict(type='TopDownAffine'),
    dict(type='ToTensor'),
    dict(type='NormalizeTensor', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    dict(type='TopDownGenerateTarget', sigma=2),
    dict(type='Collect', keys=['img', 'target', 'target_weight'], meta_keys=['image_file', 'bbox_id', 'rotation']),
]
TINY = 'coco_tiny/annotations/person_keypoints_val2017.json'
DETECTIONS = 'coco_tiny/person_detection_results/COCO_val2017_detections_AP_H_56_person.json'


def tiny(goldens: Path, **more: Any) -> CocoDataset:
    return CocoDataset(INFO, goldens / TINY, goldens / 'coco_tiny/val2017', *SIZES, TRAIN, **more)


def test_annotated_persons_equal_the_reference(goldens: Path) -> None:
    data, dataset = np.load(goldens / 'data_pipeline.npz'), tiny(goldens)
    assert len(dataset) == 12 and dataset.remarks == ''
    rows = [record for record in dataset.records if record['image_id'] in data['image_id']]
    for key, name in (('image_id', 'image_id'), ('bbox_id', 'bbox_id'), ('bbox', 'clean_bbox_xywh'),
                      ('joints_3d', 'joints'), ('joints_3d_visible', 'joints_visible')):
        np.testing.assert_array_equal([row[key] for row in rows], data[name])


def test_detector_boxes_equal_the_reference(goldens: Path) -> None:
    data, dataset = np.load(goldens / 'data_pipeline.npz'), tiny(goldens, detection_file=goldens / DETECTIONS)
    assert [record['bbox_id'] for record in dataset.records] == list(range(118))
    rows = [record for record in dataset.records if record['image_id'] in data['det_image_id']]
    for key, name in (('image_id', 'det_image_id'), ('bbox', 'det_bbox_xywh'), ('bbox_score', 'det_score')):
        np.testing.assert_array_equal([row[key] for row in rows], data[name])


def test_score_threshold_keeps_the_better_boxes(goldens: Path) -> None:
    scores = [box['score'] for box in json.loads((goldens / DETECTIONS).read_text())]
    dataset = tiny(goldens, detection_file=goldens / DETECTIONS, score_threshold=0.5)
    assert [record['bbox_score'] for record in dataset.records] == [score for score in scores if score >= 0.5]


def test_groups_hold_each_record_once_by_image(goldens: Path) -> None:
    assert tiny(goldens).groups() == [[0], [1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11]]


def test_real_photographs_are_read(lspet: Path) -> None:
    dataset = CocoDataset(INFO, lspet / 'annotations/person_keypoints_val2017.json', lspet / 'val2017', *SIZES, TRAIN)
    assert len(dataset) == 500
    sample = dataset.sample(17)
    assert sample['img'].shape == (3, 256, 192) and sample['target'].shape == (17, 64, 48)
    assert not sample['target_weight'][:5].any() and sample['target_weight'][5:].sum() >= 3


def test_streams_are_those_of_fresh_generators() -> None:
    for seed, epoch, index in ((0, 0, 0), (7, 3, 12345), (2 ** 40, 209, 149812), (7, 3, 12345)):
        fresh = np.random.Generator(np.random.Philox(key=seed, counter=[0, index, epoch, 0]))
        found = _streams.start(seed, epoch, index)
        assert found.random(3).tolist() == fresh.random(3).tolist()
        np.testing.assert_array_equal(found.integers(0, 9, 5, np.uint32), fresh.integers(0, 9, 5, np.uint32))
        assert found.standard_normal() == fresh.standard_normal()


def test_samples_depend_on_seed_epoch_and_index_alone(goldens: Path) -> None:
    first, second, other = tiny(goldens, seed=3), tiny(goldens, seed=3), tiny(goldens, seed=4)
    wanted = [(epoch, index) for epoch in (0, 1) for index in range(4)]
    samples = {key: first.sample(key[1], key[0]) for key in wanted}
    for epoch, index in reversed(wanted):  # in another order, as another worker would
        again = second.sample(index, epoch)
        for key in ('img', 'target', 'target_weight'):
            np.testing.assert_array_equal(again[key], samples[epoch, index][key])
    for index in range(4):
        assert not np.array_equal(samples[0, index]['img'], samples[1, index]['img'])
        assert not np.array_equal(samples[0, index]['img'], other.sample(index)['img'])


def test_pipeline_of_older_mmpose_needs_no_step_for_the_window(goldens: Path) -> None:
    old = [step for step in TRAIN if step['type'] != 'TopDownGetBboxCenterScale']
    assert len(old) == len(TRAIN) - 1
    new = tiny(goldens).sample(0)
    np.testing.assert_array_equal(
        CocoDataset(INFO, goldens / TINY, goldens / 'coco_tiny/val2017', *SIZES, old).sample(0)['img'], new['img'])


def test_augmentation_has_the_promised_frequencies(goldens: Path) -> None:
    dataset = tiny(goldens)
    angles = np.array([dataset.sample(1, epoch)['img_metas']['rotation'] for epoch in range(300)])
    assert 0.5 < np.mean(angles != 0) < 0.7  # rot_prob 0.6, +-3.5 standard deviations
    assert 22 < angles[angles != 0].std() < 37 and np.abs(angles).max() <= 60


@pytest.mark.parametrize('size', [(50, 60), (0, 0)])
def test_boxes_of_hands_stay_as_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    """As in MMPose's HandCocoWholeBodyDataset, where boxes of persons are cut to the image; known size or not."""
    hand = dict(lefthand_kpts=[4, 5, 2] * 17, lefthand_box=[-6, -8, 30, 90], lefthand_valid=True)
    values, hands = content(), dataclasses.replace(INFO, parts=('lefthand',))
    values['annotations'] = [{**person(7), **hand}]
    values['images'][0].update(width=size[0], height=size[1])
    write(tmp_path, values)
    dataset = CocoDataset(hands, tmp_path / 'gt.json', tmp_path / 'images', *SIZES, TRAIN)
    assert dataset.load(0)['bbox'].tolist() == [-6, -8, 30, 90]
    assert dataset.records[0]['joints_3d'][3].tolist() == [4, 5, 0]


# A data set of one picture and three persons, to break in all ways


def person(number: int, **changes: Any) -> dict[str, Any]:
    return {'id': number, 'image_id': 1, 'category_id': 1, 'iscrowd': 0, 'bbox': [5, 5, 20, 30], 'area': 300,
            'num_keypoints': 17, 'keypoints': [10, 12, 2] * 17, **changes}


def content() -> dict[str, Any]:
    return {'images': [{'id': 1, 'file_name': 'a.png', 'width': 50, 'height': 60}],
            'annotations': [person(7), person(8, bbox=[-4, 10, 60, 20]), person(9, iscrowd=1)],
            'categories': [{'id': 1, 'name': 'person'}]}


BOX = {'image_id': 1, 'category_id': 1, 'bbox': [5, 5, 20, 30], 'score': 0.9}


def write(folder: Path, annotations: Any, detections: Any = None) -> Callable[[], CocoDataset]:
    """Writes the files and returns what opens them; a str stands for the file's raw text."""
    (folder / 'images').mkdir()
    cv2.imwrite(str(folder / 'images/a.png'), np.zeros((60, 50, 3), np.uint8))
    files = {'gt.json': annotations, 'det.json': detections}
    for name, value in files.items():
        if value is not None:
            (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return lambda: CocoDataset(INFO, folder / 'gt.json', folder / 'images', *SIZES, TRAIN,
                               detection_file=None if detections is None else folder / 'det.json')


def test_boxes_are_cut_to_the_image_and_numbered_inside_it(tmp_path: Path) -> None:
    dataset = write(tmp_path, content())()
    assert [record['bbox_id'] for record in dataset.records] == [0, 1] and not dataset.remarks
    assert dataset.records[1]['bbox'].tolist() == [0, 10, 49, 20]


def test_unusable_detections_are_omitted_and_counted(tmp_path: Path) -> None:
    boxes = [[5, 5, 20, 30], [5, 5, 0, 30], [5, 5, 20, -1], [float('nan'), 5, 20, 30], [-9, 5, 200, 30]]
    detections = [{**BOX, 'bbox': box} for box in boxes] + [{**BOX, 'category_id': 2}]
    dataset = write(tmp_path, content(), detections)()
    assert [record['bbox'].tolist() for record in dataset.records] == [boxes[0], boxes[4]]
    assert [record['bbox_id'] for record in dataset.records] == [0, 1]
    assert dataset.remarks == f'{tmp_path}/det.json: omitted 3 boxes without extent, 1 boxes of other categories'


def test_records_bear_the_category_of_their_annotation_or_box(tmp_path: Path) -> None:
    values = content()
    values['categories'] = [dict(id=k, name=n, keypoints=list(INFO.joint_names)) for k, n in ((4, 'dog'), ('c', 'cat'))]
    for annotation, category in zip(values['annotations'], (4, 'c', 4)):
        annotation['category_id'] = category
    opened = write(tmp_path, values, [{**BOX, 'category_id': 'c'}, {**BOX, 'category_id': 4}])
    assert [record['category_id'] for record in opened().records] == ['c', 4]
    (tmp_path / 'det.json').unlink()
    dataset = CocoDataset(INFO, tmp_path / 'gt.json', tmp_path / 'images', *SIZES, TRAIN)
    assert [record['category_id'] for record in dataset.records] == [4, 'c']


@pytest.mark.parametrize('size', [dict(width=60, height=50), dict(width=500, height=600)])
@pytest.mark.parametrize('detected', [False, True])
def test_images_of_another_size_than_annotated_are_refused_by_name(tmp_path: Path, size: dict, detected: bool) -> None:
    values = content()
    values['images'][0].update(size)
    dataset = write(tmp_path, values, [BOX] if detected else None)()
    message = rf'a\.png: 50 x 60 pixels, but {size["width"]} x {size["height"]} by .*gt\.json'
    with pytest.raises(InputError, match=message):
        dataset.sample(0)


@pytest.mark.parametrize('size', [{}, dict(width=0, height=0), dict(width=None, height=60)])
def test_a_size_that_the_file_lacks_is_that_of_the_image(tmp_path: Path, size: dict) -> None:
    values = content()
    expected = write(tmp_path, values)()
    values['images'] = [dict(id=1, file_name='a.png', **size)]
    (tmp_path / 'gt.json').write_text(json.dumps(values))
    dataset = CocoDataset(INFO, tmp_path / 'gt.json', tmp_path / 'images', *SIZES, TRAIN)
    assert '1 image sizes' in dataset.remarks
    for index in range(2):
        np.testing.assert_array_equal(dataset.load(index)['bbox'], expected.records[index]['bbox'])
        np.testing.assert_array_equal(dataset.sample(index)['img'], expected.sample(index)['img'])
        box, other = (data.records[index]['bbox'].tolist() for data in (dataset, expected))
        assert box == other, 'the unit of PCK'


def test_an_image_turned_by_exif_is_refused_or_read_as_annotated(tmp_path: Path) -> None:
    """Annotated without its rotation, as labelling tools do that read pixels alone."""
    values = content()
    values['images'][0].update(file_name='a.jpg', width=60, height=50)
    dataset = write(tmp_path, values)()
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(np.full((50, 60, 3), 99, np.uint8)).save(tmp_path / 'images/a.jpg', exif=exif)
    with pytest.raises(InputError, match=r"50 x 60 pixels, but 60 x 50 .*color_type='color_ignore_orientation'"):
        dataset.sample(0)
    raw = [dict(type='LoadImageFromFile', color_type='color_ignore_orientation'), *TRAIN[1:]]
    CocoDataset(INFO, tmp_path / 'gt.json', tmp_path / 'images', *SIZES, raw).sample(0)


def test_images_without_annotations_take_boxes_of_a_detector_alone(tmp_path: Path) -> None:
    values = {key: value for key, value in content().items() if key != 'annotations'}
    opened = write(tmp_path, values, [BOX])
    dataset = opened()
    assert len(dataset) == 1 and not dataset.annotated and dataset.evaluate(None, [], dict(metrics=('AP', 'PCK'))) == {}
    with pytest.raises(InputError, match=r'gt\.json: no person with labelled keypoints'):
        CocoDataset(INFO, tmp_path / 'gt.json', tmp_path / 'images', *SIZES, TRAIN)


def changed(path: tuple, value: Any) -> dict[str, Any]:
    values = content()
    target: Any = values
    for key in path[:-1]:
        target = target[key]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return values


FIRST = ('annotations', 0)


@pytest.mark.parametrize('annotations, words', [
    ('', 'not a JSON file'),
    ('{"images": [', 'not a JSON file'),
    ([1, 2], 'a list'),
    ({'annotations': []}, "no key 'images'"),
    ({'images': []}, 'no person'),
    ({**content(), 'annotations': []}, 'no person'),
    (changed(('images',), {}), 'malformed|not in the file'),
    (changed(('images', 0, 'id'), None), "image.*'id'"),
    (changed(('images', 0, 'file_name'), None), "'file_name'"),
    (changed(('images', 0, 'file_name'), 5), 'malformed'),
    (changed(('images', 0, 'height'), 'tall'), 'malformed'),
    ({**content(), 'images': content()['images'] * 2}, 'duplicate image id 1'),
    ({**content(), 'annotations': [person(7), person(7)]}, 'duplicate annotation id 7'),
    (changed((*FIRST, 'id'), None), "'id'"),
    (changed((*FIRST, 'image_id'), 2), 'annotation 7: image 2'),
    (changed((*FIRST, 'image_id'), [1]), 'annotation 7'),
    (changed((*FIRST, 'keypoints'), [1, 1, 2] * 16), 'annotation 7.*51.*48'),
    (changed((*FIRST, 'keypoints'), ['x', 1, 2] * 17), 'annotation 7'),
    (changed((*FIRST, 'keypoints'), [float('nan'), 1, 2] * 17), 'annotation 7.*finite'),
    (changed((*FIRST, 'bbox'), [[5, 5], [25, 35]]), 'annotation 7 .*two corners; give .x, y, width, height'),
    (changed((*FIRST, 'bbox'), [1, 2, 3]), 'annotation 7.*4 numbers'),
    (changed((*FIRST, 'bbox'), {'x': 1}), 'annotation 7'),
    (changed((*FIRST, 'area'), 'big'), 'annotation 7'),
    (changed(FIRST, 'person'), 'malformed'),
])
def test_broken_annotations_are_refused(tmp_path: Path, annotations: Any, words: str) -> None:
    with pytest.raises(InputError, match=f'gt.json: .*({words})') as caught:
        write(tmp_path, annotations)()
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('detections, words', [
    ('x', 'not a JSON file'),
    ({'boxes': []}, 'not a list'),
    ([], 'no box'),
    ([{**BOX, 'category_id': 3}], 'no box'),
    ([BOX, {**BOX, 'image_id': 44}], 'detection 1: image 44'),
    ([BOX, {**BOX, 'bbox': [1, 2, 3]}], 'detection 1 .*4 numbers'),
    ([BOX, {**BOX, 'score': 'high'}], 'detection 1 '),
    ([BOX, {**BOX, 'score': None}], 'detection 1 '),
    ([BOX, {**BOX, 'score': float('nan')}], 'detection 1 '),
    ([{key: value for key, value in BOX.items() if key != 'score'}], "detection 0 .*'score'"),
    ([BOX, 5], 'detection 1 '),
])
def test_broken_detections_are_refused(tmp_path: Path, detections: Any, words: str) -> None:
    with pytest.raises(InputError, match=f'det.json: .*({words})') as caught:
        write(tmp_path, content(), detections)()
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['gt.json', 'det.json', 'images'])
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    dataset = write(tmp_path, content(), [BOX])
    (tmp_path / name).rename(tmp_path / 'elsewhere')
    with pytest.raises(InputError, match=f'{name} does not exist'):
        dataset()


def test_missing_root_is_named() -> None:
    with pytest.raises(InputError, match='no-such-root does not exist'):
        CocoDataset(INFO, Path('no-such-root/annotations/a.json'), Path('no-such-root/val2017'), *SIZES, TRAIN)


def test_missing_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    dataset = write(tmp_path, content())()
    (tmp_path / 'images/a.png').unlink()
    with pytest.raises(InputError, match=r'a\.png'):
        dataset.sample(0)
