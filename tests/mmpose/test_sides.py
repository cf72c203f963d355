"""Sides and mirror pairs, by the names of keypoints."""
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.coco_base import dataset_info as coco_info
from configs.mpii_base import dataset_info as mpii_info
from src.mmpose.sides import mirror_pairs, side_of


@pytest.mark.parametrize(('left', 'right'), [
    ('left_ear', 'right_ear'), ('l_ear', 'r_ear'), ('L_Ear', 'R_Ear'), ('left ear', 'right ear'),
    ('leftEar', 'rightEar'), ('LEar', 'REar'), ('ear_left', 'ear_right'), ('Ear-L', 'Ear-R'), ('ear.left', 'ear.right'),
    ('LEFT_EAR', 'RIGHT_EAR'), ('l.shoulder', 'r.shoulder'), ('leftear', 'rightear'), ('earleft', 'earright'),
    ('leftfrontpaw', 'rightfrontpaw'), ('frontleftpaw', 'frontrightpaw'), ('LeftEar', 'right_ear'),
    ('linkes Ohr', 'rechtes Ohr'), ('linke_Pfote', 'rechte_Pfote'), ('Ohr_links', 'Ohr_rechts'),
    ('linksauge', 'rechtsauge'), ('oeil gauche', 'oeil droit'), ('oreille_gauche', 'oreille_droite'),
    ('ojo izquierdo', 'ojo derecho'), ('oreja_izquierda', 'oreja_derecha'), ('occhio sinistro', 'occhio destro'),
    ('olho esquerdo', 'olho direito'),
    ('左眼', '右眼'), ('左侧肩', '右侧肩'), ('前左脚', '前右脚'), ('目_左', '目_右'), ('左eye', '右eye'),
    ('левый глаз', 'правый глаз'), ('Левое_ухо', 'Правое_ухо'), ('왼쪽 눈', '오른쪽 눈'),
    ('угол левого глаза', 'угол правого глаза'), ('палец_левой_руки', 'палец_правой_руки'), ('левые_усы', 'правые_усы'),
    ('좌측 눈', '우측 눈'), ('ひだりめ', 'みぎめ'),
])
def test_sides_are_found_in_many_spellings(left: str, right: str) -> None:
    assert (side_of(left), side_of(right)) == ('left', 'right')
    assert mirror_pairs(['nose', right, 'tail', left]) == ([(3, 1)], [])
    assert mirror_pairs(['nose', left]) == ([], [left]) and mirror_pairs([right, 'tail']) == ([], [right])


@pytest.mark.parametrize(('left', 'right'), [
    ('lear', 'rear'), ('Lear', 'Rear'), ('lshoulder', 'rshoulder'), ('lf_paw', 'rf_paw'), ('FL_paw', 'FR_paw'),
    ('flpaw', 'frpaw'), ('RL', 'RR'), ('L', 'R'), ('L1', 'R1'), ('forelegL1', 'forelegR1'), ('lt_eye', 'rt_eye'),
    ('lft_eye', 'rgt_eye'), ('ojo_izq', 'ojo_der'), ('ojo_izqdo', 'ojo_dcho'),
    ('zampa_sx', 'zampa_dx'), ('olho_esq', 'olho_dir'),
    ('li. Auge', 're. Auge'), ('oeil_g', 'oeil_d'),
])
def test_letters_and_abbreviations_are_sides_where_both_names_exist(left: str, right: str) -> None:
    assert mirror_pairs(['nose', right, 'tail', left]) == ([(3, 1)], [])
    assert mirror_pairs(['nose', left]) == mirror_pairs([right, 'tail']) == ([], [])


def test_words_that_only_look_like_sides_are_none() -> None:
    names = ['rear_paw', 'leg', 'lip', 'rib', 'root', 'upright', 'bright', 'cleft', 'leftover', 'Rechteck',
             'pedestrian', 'L1', 'L5', 'T12', 'tail', 'front_light']
    assert [side_of(name) for name in names] == [None] * len(names)
    assert mirror_pairs(names) == ([], [])
    assert mirror_pairs([chr(letter) for letter in range(ord('a'), ord('z'))]) == ([], [])
    assert mirror_pairs(['front_light', 'front_left', 'front_right']) == ([(1, 2)], [])


@pytest.mark.parametrize(('names', 'pairs'), [
    (['L_F_Paw', 'R_F_Paw', 'L_B_Paw', 'R_B_Paw'], [(0, 1), (2, 3)]),
    (['FL', 'FR', 'RL', 'RR'], [(0, 1), (2, 3)]),                       # front and rear
    (['LF', 'LR', 'RF', 'RR'], [(0, 2), (1, 3)]),
    (['UL', 'UR', 'LL', 'LR'], [(0, 1), (2, 3)]),                       # upper and lower
    (['l_knee_l', 'l_knee_m', 'r_knee_l', 'r_knee_m'], [(0, 2), (1, 3)]),  # lateral and medial
    (['left_eye_left', 'left_eye_right', 'right_eye_left', 'right_eye_right'], [(0, 3), (1, 2)]),
    (["l'oeil gauche", "l'oeil droit"], [(0, 1)]),
])
def test_of_several_sides_the_right_one_is_exchanged(names: list[str], pairs: list) -> None:
    assert mirror_pairs(names) == (pairs, [])


@pytest.mark.parametrize(('names', 'lacking'), [
    (['left_ear', 'right_eye', 'nose'], ['left_ear', 'right_eye']),
    (['left_ear', 'l_ear', 'right_ear'], ['left_ear', 'l_ear', 'right_ear']),
    (['LL', 'LR', 'RL', 'RR'], ['LL', 'LR', 'RL', 'RR']),
    (['knee_l', 'knee_m'], ['knee_l']),
    (['linkes Ohr', 'rechtes Auge', 'Nase'], ['linkes Ohr', 'rechtes Auge']),
])
def test_sides_without_one_partner_are_returned(names: list[str], lacking: list[str]) -> None:
    assert mirror_pairs(names) == ([], lacking)


@pytest.mark.parametrize('info', [coco_info, mpii_info])
def test_names_of_known_sets_give_their_pairs(info: dict[str, Any]) -> None:
    pairs, lacking = mirror_pairs(info['joint_names'])
    assert {frozenset(pair) for pair in pairs} == {frozenset(pair) for pair in info['flip_pairs']} and not lacking


PARTS = st.sampled_from(['ear', 'eye', 'knee', 'paw', 'l', 'r', 'left', 'right', 'rear', '左', 'linke', 'L1', 'F'])
NAMES = st.lists(st.tuples(PARTS, PARTS, st.sampled_from(['_', ' ', ''])).map(lambda p: p[0] + p[2] + p[1]),
                 unique=True, max_size=12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(NAMES, st.randoms())
def test_pairs_exclude_each_other_and_do_not_depend_on_the_order(names: list[str], random: Any) -> None:
    pairs, lacking = mirror_pairs(names)
    members = [names[number] for pair in pairs for number in pair]
    assert len(set(members)) == len(members) and not {*members} & {*lacking}
    assert all(side_of(name) is None for name in {*names} - {*members, *lacking})
    shuffled = random.sample(names, len(names))
    again, lacking_again = mirror_pairs(shuffled)
    assert {(names[a], names[b]) for a, b in pairs} == {(shuffled[a], shuffled[b]) for a, b in again}
    assert {*lacking} == {*lacking_again}
