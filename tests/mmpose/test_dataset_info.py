from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs.coco_base import dataset_info
from src.common.errors import InputError
from src.mmpose.dataset_info import DatasetInfo, from_mmpose
from src.mmpose.own_data import resolve_info


def test_flip_index_exchanges_left_and_right() -> None:
    info = DatasetInfo.from_dict(dataset_info)
    flipped = np.array(info.joint_names)[info.flip_index]
    expected = [{'l': 'right' + name[4:], 'r': 'left' + name[5:]}.get(name[0], name) for name in info.joint_names]
    assert flipped.tolist() == expected
    assert info.num_joints == 17 and info.flip_index.dtype == np.int64


@pytest.mark.parametrize('changes, word', [
    (dict(sigmas=(0.1,) * 16), 'sigmas'),
    (dict(sigmas=(0.1,) * 16 + (0.0,)), 'sigmas'),
    (dict(sigmas=0.1), 'float'),
    (dict(flip_pairs=((1, 2), (2, 3))), 'flip_pairs'),
    (dict(flip_pairs=((1, 2, 3),)), 'unpack'),
    (dict(skeleton=((0, 17),)), 'skeleton'),
    (dict(upper_body=(-1,)), 'upper_body'),
    (dict(joint_names=('nose',) * 17), 'joint_names'),
    (dict(simgas=()), "'simgas' is unknown"),
])
def test_wrong_values_are_named(changes: dict, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        DatasetInfo.from_dict({**dataset_info, **changes})
    assert '\n' not in str(caught.value)


def test_missing_key_is_named() -> None:
    values = {key: value for key, value in dataset_info.items() if key != 'upper_body'}
    with pytest.raises(InputError, match="'upper_body' is missing"):
        DatasetInfo.from_dict(values)


EAR = dict(color=[1, 2, 3], type='upper')
MMPOSE = dict(
    dataset_name='mice', paper_info=dict(title='Mice'),
    keypoint_info={0: dict(EAR, name='nose', id=0, swap=''), 1: dict(EAR, name='ear_a', id=1, swap='ear_b'),
                   2: dict(EAR, name='ear_b', id=2, swap='ear_a'),
                   3: dict(name='tail', id=3, type='lower', swap='tail')},
    skeleton_info={0: dict(link=('ear_a', 'nose'), id=0), 1: dict(link=('nose', 'tail'), id=1, color=[0, 0, 0])},
    joint_weights=[1.0, 1.5, 1.5, 1.2], sigmas=[0.02, 0.03, 0.03, 0.1])


@pytest.mark.parametrize('texts', [False, True])
@pytest.mark.parametrize('sigmas', [[0.02, 0.03, 0.03, 0.1], []])
def test_mmposes_dict_gives_the_same_info(texts: bool, sigmas: list[float]) -> None:
    """From a Python config or, with texts for numbers, from JSON; MMPose leaves sigmas empty for many animals."""
    values = {**MMPOSE, 'sigmas': sigmas}
    if texts:
        values['keypoint_info'] = {str(key): value for key, value in reversed(MMPOSE['keypoint_info'].items())}
    assert DatasetInfo.from_dict(resolve_info(values, [Path('train.json')])) == DatasetInfo(
        'mice', ('nose', 'ear_a', 'ear_b', 'tail'), ((1, 2),), ((1, 0), (0, 3)), tuple(sigmas or (0.05,) * 4),
        (0, 1, 2))


@pytest.mark.parametrize(('changes', 'words'), [
    (dict(keypoint_info={1: dict(name='nose')}), 'not numbered 0 to 0'),
    (dict(keypoint_info={0: dict(name='nose'), 1: dict(name='nose')}), 'distinct names'),
    (dict(keypoint_info={0: dict(name='nose', swap='ear')}), "no entry or keypoint 'ear'"),
    (dict(keypoint_info={0: dict(swap='ear')}), "no entry or keypoint 'name'"),
    (dict(keypoint_info=['nose']), 'dicts of numbered dicts'),
    (dict(skeleton_info={0: dict(link=('nose', 'leg'))}), "no entry or keypoint 'leg'"),
    (dict(sigmas=[0.1]), 'sigmas'),
])
def test_what_does_not_fit_in_mmposes_dict_is_named(changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        DatasetInfo.from_dict(from_mmpose({**MMPOSE, **changes}))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('name', 'parts', 'use_area'), [
    ('coco', (), True), ('aic', (), False), ('crowdpose', (), False), ('mhp', (), False),
    ('coco_wholebody_hand', ('lefthand', 'righthand'), True), ('coco_wholebody_face', ('face',), True)])
def test_mmposes_names_tell_parts_and_whether_areas_count(name: str, parts: tuple, use_area: bool) -> None:
    info = DatasetInfo.from_dict(resolve_info({**MMPOSE, 'dataset_name': name}, [Path('train.json')]))
    assert (info.name, info.parts, info.use_area) == (name, parts, use_area)


@pytest.mark.parametrize('changes', [dict(parts=['hand']), dict(parts='face'), dict(use_area='false')])
def test_parts_and_use_area_are_checked(changes: dict) -> None:
    with pytest.raises(InputError, match='parts takes some of lefthand, righthand, face, foot, use_area true or false'):
        DatasetInfo.from_dict({**dataset_info, **changes})
