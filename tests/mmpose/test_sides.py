"""Sides and mirror pairs, by the names of keypoints."""
from __future__ import annotations

from typing import Any

import pytest

from configs.coco_base import dataset_info as coco_info
from configs.mpii_base import dataset_info as mpii_info
from src.mmpose.sides import mirror_pairs, side_of


@pytest.mark.parametrize('name', ['left_ear', 'l_ear', 'L_Ear', 'left ear', 'leftEar', 'LEar', 'ear_left', 'Ear-L',
                                  'ear.left', 'LEFT_EAR'])
def test_sides_are_found_in_many_spellings(name: str) -> None:
    other = {'left_ear': 'right_ear', 'l_ear': 'r_ear', 'L_Ear': 'R_Ear', 'left ear': 'right ear',
             'leftEar': 'rightEar', 'LEar': 'REar', 'ear_left': 'ear_right', 'Ear-L': 'Ear-R', 'ear.left': 'ear.right',
             'LEFT_EAR': 'RIGHT_EAR'}[name]
    assert (side_of(name), side_of(other)) == ('left', 'right')
    assert mirror_pairs(['nose', other, 'tail', name]) == [(3, 1)]


def test_names_that_only_look_like_sides_are_none() -> None:
    assert [side_of(name) for name in ('leftover', 'lip', 'Rump', 'curl', 'bright')] == [None] * 5
    assert mirror_pairs(['left_ear', 'right_eye', 'l', 'lip', 'rip']) == []


@pytest.mark.parametrize('info', [coco_info, mpii_info])
def test_names_of_known_sets_give_their_pairs(info: dict[str, Any]) -> None:
    found = {frozenset(pair) for pair in mirror_pairs(info['joint_names'])}
    assert found == {frozenset(pair) for pair in info['flip_pairs']}


def test_names_with_two_words_beside_the_side() -> None:
    assert mirror_pairs(['L_F_Paw', 'R_F_Paw', 'L_B_Paw', 'R_B_Paw']) == [(0, 1), (2, 3)]
