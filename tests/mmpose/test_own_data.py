"""Keypoints of an annotation file, and what the user gives beside it."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.mmpose.coco import CocoDataset
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.own_data import DEFAULT_SIGMA, read_category, resolve_info
from src.test_utils import predict

MOUSE = dict(id=3, name='mouse', keypoints=['nose', 'L_Ear', 'R_Ear', 'tail'], skeleton=[[1, 2], [1, 3], [3, 4]])


def write(folder: Path, *categories: dict[str, Any]) -> Path:
    path = folder / 'own.json'
    path.write_text(json.dumps(dict(images=[], annotations=[], categories=categories)))
    return path


def test_the_category_tells_joints_and_limbs(tmp_path: Path) -> None:
    file = write(tmp_path, dict(id=1, name='cage'), MOUSE, {**MOUSE, 'id': 4, 'name': 'rat'})
    info = DatasetInfo.from_dict(resolve_info({}, [file]))
    assert info == DatasetInfo('mouse', ('nose', 'L_Ear', 'R_Ear', 'tail'), ((1, 2),), ((0, 1), (0, 2), (2, 3)),
                               (DEFAULT_SIGMA,) * 4, ())
    assert info.flip_index.tolist() == [0, 2, 1, 3]
    assert str(info) == ('mouse: 4 keypoints (nose, L_Ear, R_Ear, tail), mirror pairs: 1, mirrored onto themselves: '
                         'nose, tail; no upper body known: no half-body augmentation')
    assert read_category(file)['joint_names'] == MOUSE['keypoints']


def test_what_is_given_counts_more_and_joints_may_be_named(tmp_path: Path) -> None:
    given = dict(name='m', sigmas=[.1, .2, .3, .4], upper_body=['nose', 1], flip_pairs=[], skeleton=[['tail', 'nose']])
    info = DatasetInfo.from_dict(resolve_info(given, [write(tmp_path, MOUSE)]))
    assert (info.name, info.sigmas, info.upper_body, info.flip_pairs, info.skeleton) == (
        'm', (.1, .2, .3, .4), (0, 1), (), ((3, 0),))
    assert resolve_info(dict(sigmas=0.07), [write(tmp_path, MOUSE)])['sigmas'] == [0.07] * 4
    own = resolve_info(dict(joint_names=['l_a', 'r_a']), [tmp_path / 'absent.json'])
    assert own['flip_pairs'] == [[0, 1]] and own['skeleton'] == []


def test_joints_may_be_named_also_where_nothing_is_missing(tmp_path: Path) -> None:
    given = dict(name='m', joint_names=['nose', 'l_ear', 'r_ear'], sigmas=0.05, upper_body=['nose'],
                 flip_pairs=[['l_ear', 'r_ear']], skeleton=[['nose', 'l_ear']])
    found = resolve_info(given, [tmp_path / 'absent.json'])
    assert found == {**given, 'sigmas': [0.05] * 3, 'upper_body': [0], 'flip_pairs': [[1, 2]], 'skeleton': [[0, 1]]}
    assert resolve_info(found, []) is found


def test_a_skeleton_counts_from_0_where_it_has_a_0(tmp_path: Path) -> None:
    limbs = [[0, 1], [1, 2], [2, 3], [3, 0]]
    assert read_category(write(tmp_path, {**MOUSE, 'skeleton': limbs}))['skeleton'] == [tuple(limb) for limb in limbs]
    assert read_category(write(tmp_path, {**MOUSE, 'skeleton': [[4, 1]]}))['skeleton'] == [(3, 0)]


@pytest.mark.parametrize('skeleton', [[[1, 5]], [[0, 4]], [['nose', 'tail']], 7, [[float('inf'), 1]]])
def test_data_info_is_a_way_out_of_a_bad_skeleton(tmp_path: Path, skeleton: Any) -> None:
    file = write(tmp_path, {**MOUSE, 'skeleton': skeleton})
    with pytest.raises(InputError, match=r'--data\.info'):
        resolve_info(None, [file])
    assert resolve_info(dict(skeleton=[['nose', 'tail']]), [file])['skeleton'] == [[0, 3]]
    assert resolve_info(dict(joint_names=['a', 'b', 'c', 'd']), [file])['skeleton'] == []


def test_sides_without_a_partner_turn_flipping_off_unless_pairs_are_given(tmp_path: Path) -> None:
    file = write(tmp_path, {**MOUSE, 'keypoints': ['linkes Ohr', 'nose', 'right_eye', 'tail']})
    info = DatasetInfo.from_dict(resolve_info(None, [file]))
    assert not info.can_flip and info.flip_index.tolist() == [0, 1, 2, 3]
    line = str(info)
    assert 'flipping is off, in training and in the flip test' in line and '\n' not in line
    assert 'mirrored onto themselves: nose, tail; ' in line
    assert 'linkes Ohr, right_eye; give flip_pairs by --data.info' in line
    for pairs in ([['linkes Ohr', 'right_eye']], []):
        info = DatasetInfo.from_dict(resolve_info(dict(flip_pairs=pairs), [file]))
        assert info.can_flip and len(info.flip_pairs) == len(pairs) and 'flipping' not in str(info)


@pytest.mark.parametrize(('names', 'flips'), [(['linkes Ohr', 'rechtes Ohr'], True), (['linkes Ohr', 'ear_R'], False)])
def test_samples_and_flip_test_are_mirrored_with_known_labels_alone(tmp_path: Path, names: list, flips: bool) -> None:
    """The network in whose place a function stands sees each image once, or twice with the flip test."""
    person = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 50, 60], keypoints=[9, 9, 2, 30, 9, 2])
    values = dict(images=[dict(id=1, file_name='a.png', width=50, height=60)], annotations=[person],
                  categories=[dict(id=1, keypoints=names)])
    (tmp_path / 'gt.json').write_text(json.dumps(values))
    cv2.imwrite(str(tmp_path / 'a.png'), np.tile(np.arange(50, dtype=np.uint8), (60, 1)))
    info = DatasetInfo.from_dict(resolve_info(None, [tmp_path / 'gt.json']))
    steps = [*(dict(type=name) for name in ('LoadImageFromFile', 'TopDownGetBboxCenterScale', 'TopDownAffine',
                                            'ToTensor')), dict(type='Collect', keys=['img', 'joints_3d'], meta_keys=())]
    seen, images = [], []
    for flip in ([], [dict(type='TopDownRandomFlip', flip_prob=1.0)]):
        dataset = CocoDataset(info, tmp_path / 'gt.json', tmp_path, (64, 64), (16, 16), [*steps[:2], *flip, *steps[2:]])
        seen.append(dataset.sample(0))
    assert (seen[0]['img'] == seen[1]['img']).all() == (not flips)
    assert (seen[0]['joints_3d'][0] == seen[1]['joints_3d'][0]).all() == (not flips)
    plain = CocoDataset(info, tmp_path / 'gt.json', tmp_path, (64, 64), (16, 16), steps)
    predict(lambda batch: images.append(len(batch)) or np.zeros((len(batch), 2, 16, 16), np.float32), plain,
            dict(batch_size=1, flip_test=True, shift_heatmap=True, decoding='none', blur_kernel=11), 1)
    assert images == [2 if flips else 1]


def test_a_saved_info_is_complete(tmp_path: Path) -> None:
    """As training saves it in config.json, with and without what older ones lack."""
    info = resolve_info(None, [write(tmp_path, {**MOUSE, 'keypoints': ['left_ear', 'nose', 'tail', 'back']})])
    saved = json.loads(json.dumps(info))
    assert resolve_info(saved, [tmp_path / 'absent.json']) is saved
    assert DatasetInfo.from_dict(saved).unpaired_sides == ('left_ear',)
    del saved['unpaired_sides']
    assert DatasetInfo.from_dict(resolve_info(saved, [tmp_path / 'absent.json'])).can_flip


@pytest.mark.parametrize(('categories', 'given', 'words'), [
    ([dict(id=1, name='car')], {}, 'own.json: no entry of categories names its keypoints.*--data.info'),
    ([], {}, 'no entry of categories'),
    ([MOUSE, dict(id=2, name='bird', keypoints=['beak'])], {}, "'mouse' and 'bird' have different keypoints"),
    ([{**MOUSE, 'skeleton': [[1, 5]]}], {}, r'\[1, 5\] is no pair of numbers from 1 to 4.*--data.info'),
    ([{**MOUSE, 'skeleton': [[4, 0]]}], {}, r'\[4, 0\] is no pair of numbers from 0 to 3.*--data.info'),
    ([{**MOUSE, 'skeleton': [[-1, 1]]}], {}, r'\[-1, 1\] is no pair of numbers from 1 to 4'),
    ([{**MOUSE, 'skeleton': [['nose', 'tail']]}], {}, 'skeleton does not fit its 4 keypoints.*nose.*--data.info'),
    ([{**MOUSE, 'skeleton': [1, 2]}], {}, 'skeleton does not fit.*--data.info'),
    ([{**MOUSE, 'keypoints': 7}], {}, 'categories is malformed'),
    (['mouse'], {}, 'categories is malformed'),
    ([MOUSE], dict(sigma=1), "key 'sigma' is unknown"),
    ([MOUSE], dict(sigmas=[.1]), 'sigmas .* does not fit 4 keypoints'),
    ([MOUSE], dict(upper_body=['x']), "no keypoint 'x'; valid: nose, L_Ear"),
    ([MOUSE], dict(flip_pairs=[['L_Ear', 'R_Eer']]), "no keypoint 'R_Eer'; did you mean 'R_Ear'"),
    ([MOUSE], dict(skeleton=[5]), 'data.info: an entry is malformed'),
])
def test_what_does_not_fit_is_one_line(tmp_path: Path, categories: list, given: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        resolve_info(given, [write(tmp_path, *categories)])
    assert '\n' not in str(caught.value)


def test_no_half_body_without_an_upper_body() -> None:
    from src.mmpose.transforms import TopDownHalfBodyTransform
    info = dict(upper_body_ids=(), image_size=np.array([64, 64]))
    before = dict(ann_info=info, joints_3d=np.random.default_rng(0).random((12, 3)), center=(1, 1), scale=(2, 2),
                  joints_3d_visible=np.ones((12, 3)), rng=np.random.default_rng(0))
    transform = TopDownHalfBodyTransform(num_joints_half_body=8, prob_half_body=1)
    after = transform(dict(before))
    assert (after['center'], after['scale']) == ((1, 1), (2, 2))
    assert transform({**before, 'ann_info': {**info, 'upper_body_ids': (0, 1, 2)}})['center'] is not before['center']
