"""MPII annotations: five real images, and files that are none."""
from __future__ import annotations

import json

import numpy as np
import pytest

from src.common.errors import InputError
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.mpii import MpiiDataset
from src.test_utils import predict

INFO = DatasetInfo('mpii', tuple(f'joint{number}' for number in range(16)),
                   ((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)), (), (0.05,) * 16, tuple(range(7, 16)))
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='TopDownGetBboxCenterScale', padding=1.25),
            dict(type='TopDownAffine'), dict(type='ToTensor'),
            dict(type='NormalizeTensor', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
            dict(type='TopDownGenerateTarget', sigma=2),
            dict(type='Collect', keys=['img', 'target', 'target_weight'], meta_keys=['center', 'scale', 'joints_3d'])]


def _dataset(file, images, pipeline=PIPELINE):
    return MpiiDataset(INFO, file, images, (256, 256), (64, 64), pipeline)


@pytest.fixture(scope='module')
def root(goldens):
    return goldens / 'mpii_tiny'


@pytest.fixture(scope='module')
def dataset(root):
    return _dataset(root / 'annotations/mpii_val.json', root / 'images')


def test_records_follow_the_one_based_rules(dataset, root):
    persons = json.loads((root / 'annotations/mpii_val.json').read_text())
    assert len(dataset) == len(persons) == 5
    for number, (record, person) in enumerate(zip(dataset.records, persons)):
        x, y = person['center']
        np.testing.assert_allclose(record['center'], [x - 1, y + 15 * person['scale'] - 1], rtol=1e-6)
        np.testing.assert_allclose(record['scale'], [person['scale']] * 2, rtol=1e-6)
        np.testing.assert_allclose(record['joints_3d'][:, :2], np.array(person['joints']) - 1)
        np.testing.assert_array_equal(record['joints_3d_visible'][:, 0], person['joints_vis'])
        assert record['bbox_id'] == number and record['center'].dtype == np.float32
    assert dataset.groups() == [[0], [1], [2], [3], [4]]


def test_labels_as_in_coco_weigh_no_more(root, tmp_path):
    persons = json.loads((root / 'annotations/mpii_val.json').read_text())
    for person in persons:
        person['joints_vis'] = [2 * label for label in person['joints_vis']]
    (tmp_path / 'mpii.json').write_text(json.dumps(persons))
    assert {*_dataset(tmp_path / 'mpii.json', root / 'images').records[0]['joints_3d_visible'][:, 0]} <= {0, 1}


def test_samples_have_padded_windows_and_targets_on_the_joints(dataset, root):
    persons = json.loads((root / 'annotations/mpii_val.json').read_text())
    for index, person in enumerate(persons):
        scale = dataset.records[index]['scale'].copy()
        sample = dataset.sample(index)
        assert sample['img'].shape == (3, 256, 256) and sample['target'].shape == (16, 64, 64)
        np.testing.assert_array_equal(dataset.records[index]['scale'], scale)  # padded once, however often it is read
        window = 1.25 * 200 * person['scale']
        center = np.array(person['center']) - 1 + [0, 15 * person['scale']]
        expected = (np.array(person['joints']) - 1 - center) / window * 64 + 32
        for joint in np.flatnonzero(person['joints_vis']):
            y, x = np.unravel_index(sample['target'][joint].argmax(), (64, 64))
            assert np.abs(expected[joint] - [x, y]).max() <= 0.51 and sample['target_weight'][joint] == 1


def test_a_validation_pipeline_of_mmpose_is_evaluated(root):
    """That of its MPII configurations collects no score of the box."""
    pipeline = [*PIPELINE[:5], dict(type='Collect', keys=['img'], meta_keys=[
        'image_file', 'center', 'scale', 'rotation', 'flip_pairs'])]
    dataset = _dataset(root / 'annotations/mpii_val.json', root / 'images', pipeline)
    settings = dict(batch_size=2, flip_test=True, shift_heatmap=True, decoding='default', blur_kernel=11)
    found = predict(lambda images: np.zeros((len(images), 16, 64, 64), np.float32), dataset, settings, 1)
    np.testing.assert_allclose(found.boxes[:, 2], [1.25 * record['scale'][0] for record in dataset.records], rtol=1e-6)
    np.testing.assert_array_equal(found.boxes[:, 5], 1)


@pytest.mark.parametrize('change, message', [
    (dict(center=None), 'person 0'), (dict(joints=[[1, 2]]), '32 numbers'), (dict(scale='wide'), 'wide'),
    (dict(scale=-1), 'positive'), (dict(joints_vis=[1]), '16 numbers'), (dict(center=[float('nan'), 1]), 'finite'),
    (dict(joints=[[10, 3.5e38]] * 16), 'below 1e'), (dict(joints_vis=[3.5e38] * 16), 'below 1e'),
    (dict(scale=1e-99), 'positive'), (dict(joints_vis=[None] * 16), 'finite')])
def test_malformed_persons_are_named(tmp_path, change, message):
    person = dict(image='a.jpg', center=[1, 2], scale=1.0, joints=[[1, 2]] * 16, joints_vis=[1] * 16)
    file = tmp_path / 'mpii.json'
    file.write_text(json.dumps([person]))
    assert len(_dataset(file, tmp_path)) == 1
    file.write_text(json.dumps([{**person, **change}]))
    with pytest.raises(InputError, match=message):
        _dataset(file, tmp_path)
    del person[next(iter(change))]
    file.write_text(json.dumps([person]))
    with pytest.raises(InputError, match=next(iter(change))):
        _dataset(file, tmp_path)


@pytest.mark.parametrize('content', ['[]', '{"images": []}', 'no json'])
def test_files_of_another_kind_are_named(tmp_path, content):
    file = tmp_path / 'other.json'
    file.write_text(content)
    with pytest.raises(InputError, match=r'other\.json'):
        _dataset(file, tmp_path)


def test_missing_files_are_named(tmp_path, root):
    with pytest.raises(InputError, match=r'absent\.json'):
        _dataset(tmp_path / 'absent.json', tmp_path)
    with pytest.raises(InputError, match='nowhere'):
        _dataset(root / 'annotations/mpii_val.json', tmp_path / 'nowhere')
