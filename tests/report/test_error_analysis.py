"""Matching of persons, and the kinds of error by cases made by hand."""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from src.mmpose.annotations import Annotation, Annotations, Image
from src.mmpose.dataset_info import DatasetInfo
from src.report.error_analysis import (
    GOOD,
    KINDS,
    NEAR,
    Persons,
    analyse,
    classify,
    match,
    reached,
)

SIGMA, AREA = 0.05, 10000.0
INFO = DatasetInfo('five', ('nose', 'left_hand', 'right_hand', 'left_foot', 'right_foot'), ((1, 2), (3, 4)), (),
                   (SIGMA,) * 5, ())
SHAPE = np.array([[50, 10], [10, 50], [90, 50], [30, 95], [70, 95]], float)


def person(offset: float, labels: tuple[int, ...] = (2,) * 5) -> np.ndarray:
    return np.column_stack([SHAPE + (offset, 0), labels])


def truth(*persons: np.ndarray, areas: tuple[float, ...] = (), ignored: tuple = ()) -> Annotations:
    """One image, number 7."""
    def entry(number: int, keypoints: np.ndarray, box: Sequence[float], area: float) -> Annotation:
        return Annotation(number, number, 7, 1, keypoints, np.array(box, float), area, False)
    people = [entry(n, p, [p[:, 0].min(), 0, 100, 100], areas[n] if areas else AREA) for n, p in enumerate(persons)]
    return Annotations(Path('gt.json'), {7: Image(1, 'a.jpg', None)}, [1], people,
                       [entry(90, np.zeros((5, 3)), box, AREA) for box in ignored])


def result(joints: np.ndarray, score: float = 0.9) -> dict:
    return dict(image_id=7, category_id=1, score=score, keypoints=joints.ravel().tolist())


def distance(ks: float) -> float:
    """Pixels at which the similarity is `ks`."""
    return float(np.sqrt(-np.log(ks) * 2 * AREA * (2 * SIGMA) ** 2))


def analysed(joints: np.ndarray, *persons: np.ndarray) -> Persons:
    return analyse(truth(*persons), [result(joints)], INFO)


def kinds(found: Persons, row: int = 0) -> list[str]:
    return [KINDS[k] if k >= 0 else '-' for k in found.kinds[row]]


def moved(joint: int, x: float, y: float) -> np.ndarray:
    joints = person(0)
    joints[joint, :2] = x, y
    return joints


@pytest.mark.parametrize(('ks', 'kind'), [(1.0, 'good'), (GOOD + 1e-3, 'good'), (GOOD - 1e-3, 'jitter'),
                                          (NEAR + 1e-3, 'jitter'), (NEAR - 1e-3, 'miss')])
def test_good_jitter_and_miss_by_their_bounds(ks: float, kind: str) -> None:
    found = analysed(moved(0, 50, 10 - distance(ks)), person(0))
    assert kinds(found) == [kind] + ['good'] * 4
    assert found.ks[0, 0] == pytest.approx(ks)


def test_hands_exchanged_are_inversions() -> None:
    assert kinds(analysed(person(0)[[0, 2, 1, 3, 4]], person(0))) == ['good', 'inversion', 'inversion', 'good', 'good']


def test_a_hand_at_the_own_foot_is_a_miss() -> None:
    assert kinds(analysed(moved(1, 30, 95), person(0)))[1] == 'miss'


@pytest.mark.parametrize('joint', [1, 2])  # the same hand of the other person, and its mirror image
def test_hand_at_another_persons_hand_is_a_swap(joint: int) -> None:
    found = analysed(moved(1, *person(300)[joint, :2]), person(0), person(300))
    assert kinds(found) == ['good', 'swap', 'good', 'good', 'good']
    assert found.missed.tolist() == [False, True] and kinds(found, 1) == ['-'] * 5


def test_nose_has_no_mirror_image_but_can_be_swapped() -> None:
    assert kinds(analysed(moved(0, 350, 10), person(0), person(300)))[0] == 'swap'
    assert kinds(analysed(moved(0, *SHAPE[1]), person(0), person(300)))[0] == 'miss'


@pytest.mark.parametrize(('x', 'kind'), [(93.0, 'inversion'), (97.0, 'swap')])
def test_the_nearer_of_inversion_and_swap_counts(x: float, kind: str) -> None:
    # Own right hand at x = 90, the other person's left hand at x = 100.
    assert kinds(analysed(moved(1, x, 50), person(0), person(90)))[1] == kind


def test_the_own_place_goes_before_all_others() -> None:
    assert kinds(analysed(person(0), person(0), person(3))) == ['good'] * 5


def test_unlabelled_joints_are_no_errors_and_nothing_is_near_them() -> None:
    found = analysed(person(0)[[0, 2, 1, 3, 4]], person(0, (2, 2, 0, 1, 2)))
    assert kinds(found) == ['good', 'miss', '-', 'good', 'good']
    assert np.isnan(found.ks[0, 2]) and found.oks[0] == pytest.approx(np.nanmean(found.ks[0]))


def test_scale_of_each_place_is_its_own_persons() -> None:
    small = person(300)
    near = truth(person(0), small, areas=(AREA, AREA / 100))
    off = distance(0.8)  # jitter beside a large person, far from a small one
    joints = moved(1, small[1, 0] + off, small[1, 1])
    assert kinds(analyse(near, [result(joints)], INFO))[1] == 'miss'


def test_classify_without_mirror_images() -> None:
    ks = np.array([[0.9, 0.6, 0.1, np.nan], [0.0, 0.0, 0.7, 0.9]])
    assert classify(ks, 0, np.full((2, 4), np.nan)).tolist() == [0, 1, 3, -1]


def test_matching_is_the_best_of_all_assignments() -> None:
    rng = np.random.default_rng(0)
    for shape in ((3, 3), (4, 2), (2, 4)):
        oks = rng.uniform(0.15, 1, shape)
        short, long = sorted(shape)
        table = oks if shape[0] == short else oks.T
        best = max(sum(table[i, p[i]] for i in range(short)) for p in itertools.permutations(range(long), short))
        pairs = match(oks)
        assert sum(oks[i, j] for i, j in pairs) == pytest.approx(best)
        assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs) == short


def test_matching_gives_up_the_best_pair_for_the_best_sum() -> None:
    assert sorted(match(np.array([[0.9, 0.8], [0.7, 0.0]]))) == [(0, 1), (1, 0)]


def test_pairs_need_the_least_oks() -> None:
    assert match(np.array([[0.09, 0.5], [0.05, 0.4]])) == [(0, 1)]
    assert match(np.full((2, 3), 0.01)) == []


def test_background_missed_and_ignored_people() -> None:
    persons = analyse(truth(person(0), person(300), ignored=((1000, 0, 100, 100),)),
                      [result(person(0), 0.5), result(person(600), 0.6), result(person(800), 0.7),
                       result(person(1000), 0.8), result(person(300), 0.1)], INFO, least_score=0.2)
    assert persons.missed.tolist() == [False, True] and persons.counted == 4
    assert [b['score'] for b in persons.background] == [0.7, 0.6]
    assert persons.oks.tolist() == [1.0, 0.0] and persons.scores[0] == 0.5
    assert np.isinf(persons.distances[1]).all() and (persons.ks[1] == 0).all()


def test_distances_are_fractions_of_the_larger_side() -> None:
    assert analysed(moved(0, 55, 10), person(0)).distances[0].tolist() == [0.05, 0, 0, 0, 0]


def test_no_results_and_pictures_without_people() -> None:
    annotations = truth(person(0))
    annotations.images = {6: Image(2, 'b.jpg', None), **annotations.images, 8: Image(3, 'c.jpg', None)}
    persons = analyse(annotations, [], INFO)
    assert persons.missed.all() and not persons.background and persons.counted == 0
    persons = analyse(annotations, [result(person(0)), {**result(person(0)), 'image_id': 6}], INFO)
    assert persons.oks.tolist() == [1] and [b['image_id'] for b in persons.background] == [6]


def test_only_the_twenty_best_of_a_picture_count() -> None:
    results = [result(person(300 * i), 0.5 + i / 100) for i in range(25)]
    assert analyse(truth(person(0)), results, INFO).counted == 20


def test_reached_counts_fractions_at_thresholds() -> None:
    values = np.array([0.2, 0.5, np.nan, 1.0, 0.0])
    assert reached(values, np.array([0.0, 0.5, 0.6, 1.0])).tolist() == [1, 0.5, 0.25, 0.25]
    assert np.isnan(reached(np.array([np.nan]), np.array([0.5]))).all()
