"""Joints chosen, reordered, derived; what is refused."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.common.errors import InputError
from src.mmpose.own_data import complete_info, read_category
from tools.select_joints import main

CATEGORY = dict(id=1, name='bird', keypoints=['beak', 'l_wing', 'r_wing'], skeleton=[[1, 2], [1, 3], [2, 3]])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    persons = [dict(id=1, image_id=1, category_id=1, keypoints=[1, 2, 2, 3, 4, 1, 5, 8, 2]),
               dict(id=2, image_id=1, category_id=1, keypoints=[1, 2, 2, 3, 4, 0, 5, 8, 2]),
               dict(id=3, image_id=1, category_id=1, keypoints=[0, 0, 0, 3, 4, 0, 0, 0, 0])]
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(images=[dict(id=1)], categories=[CATEGORY], annotations=persons)))
    return path


def test_chosen_reordered_and_derived(file: Path, tmp_path: Path) -> None:
    output = tmp_path / 'b.json'
    assert main(['--annotations', str(file), '--output', str(output), '--name', 'duck', '--joints', 'r_wing', 'beak',
                 'back=l_wing+r_wing', 'tail=']) == 0
    content = json.loads(output.read_text())
    assert [(a['id'], a['num_keypoints'], a['keypoints']) for a in content['annotations']] == [
        (1, 3, [5, 8, 2, 1, 2, 2, 4, 6, 1, 0, 0, 0]), (2, 2, [5, 8, 2, 1, 2, 2, 0, 0, 0, 0, 0, 0])]
    category = read_category(output)
    assert category == dict(name='duck', joint_names=['r_wing', 'beak', 'back', 'tail'], skeleton=[(1, 0)])
    assert complete_info({}, output)['flip_pairs'] == []


@pytest.mark.parametrize(('joints', 'words'), [
    (['beek'], r"'beek' is not among beak, l_wing, r_wing"), (['a=beak+'], r"a=beak\+: '' is not among"),
    (['beak', 'beak=l_wing'], r'beak is given twice')])
def test_unknown_joints(file: Path, tmp_path: Path, joints: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        main(['--annotations', str(file), '--output', str(tmp_path / 'b.json'), '--joints', *joints])
    assert not (tmp_path / 'b.json').exists()


def test_malformed_annotation_is_named(file: Path, tmp_path: Path) -> None:
    content = json.loads(file.read_text())
    content['annotations'][1]['keypoints'].pop()
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r'annotation 2 is malformed'):
        main(['--annotations', str(file), '--output', str(tmp_path / 'b.json'), '--joints', 'beak'])
