"""OKS and both suppressions against MMPose 0.29 and by hand."""
from __future__ import annotations

import numpy as np
import pytest

from src.mmpose.nms import oks, oks_nms, soft_oks_nms

SIGMAS = np.full(4, 0.05)


@pytest.fixture
def crowd():
    """Five persons of four joints: 0 and 1 nearly the same, 2 and 3 the same, 4 alone."""
    person = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float64)
    return np.stack([person, person + 0.1, person + 50, person + 50, person + 200])


def test_oks_is_the_reference(goldens):
    data = np.load(goldens / 'evaluation_public.npz')
    persons, areas = data['preds'][data['oks_rows']], data['boxes'][data['oks_rows'], 4]
    matrix = [oks(one, persons, area, areas, data['oks_sigmas']) for one, area in zip(persons, areas)]
    np.testing.assert_allclose(matrix, data['oks_matrix_196141'], atol=1e-6)


def test_oks_by_hand():
    one, other = np.zeros((1, 2)), np.array([[[3.0, 4.0]]])
    similarity = oks(one, other, 100.0, np.array([300.0]), np.array([0.5]))
    np.testing.assert_allclose(similarity, np.exp(-25 / (2 * 200 * 1)))


def test_hard_keeps_the_best_of_each(crowd):
    scores = np.array([0.5, 0.9, 0.3, 0.4, 0.1])
    np.testing.assert_array_equal(oks_nms(crowd, scores, np.full(5, 100.0), 0.9, SIGMAS), [1, 3, 4])


def test_soft_only_lowers(crowd):
    scores = np.array([0.8, 0.9, 0.3, 0.4, 0.35])
    areas = np.full(5, 100.0)
    before = scores.copy()
    # 0 falls to 0.8 * exp(-oks^2 / 0.9) = 0.29, 2 to 0.3 * exp(-1 / 0.9) = 0.10
    np.testing.assert_array_equal(soft_oks_nms(crowd, scores, areas, 0.9, SIGMAS), [1, 3, 4, 0, 2])
    np.testing.assert_array_equal(soft_oks_nms(crowd, scores, areas, 0.9, SIGMAS, max_kept=2), [1, 3])
    np.testing.assert_array_equal(scores, before)


def reference_order(scores):
    """MMPose's: of few equal scores NumPy sorts the last to the end, which is read first."""
    return scores.argsort()[::-1]


def test_of_equal_scores_the_reference_choice_stays(crowd):
    order = reference_order(np.ones(5)).tolist()
    expected = [next(i for i in order if i in same) for same in sorted(({0, 1}, {2, 3}, {4}), key=lambda same: min(
        order.index(i) for i in same))]
    np.testing.assert_array_equal(oks_nms(crowd, np.ones(5), np.full(5, 100.0), 0.9, SIGMAS), expected)


def test_soft_suppression_breaks_ties_as_the_reference(crowd):
    """Each choice sorts the rest anew, which turns the order of equal scores around."""
    apart = crowd[4] + 100.0 * np.arange(5)[:, None, None]  # no two similar: all scores stay equal
    expected, order = [], reference_order(np.ones(5))
    while len(order):
        expected.append(order[0])
        order = order[1:][reference_order(np.ones(len(order) - 1))]
    np.testing.assert_array_equal(soft_oks_nms(apart, np.ones(5), np.full(5, 100.0), 0.9, SIGMAS), expected)


def test_similarities_too_small_for_float32_leave_scores_equal():
    """1e-5 squared moves a float64 score and no float32 one: the tie is the reference's."""
    person = np.zeros((1, 2))
    distance = np.sqrt(-np.log(1e-5) * 2 * 0.01 * 100)  # of OKS 1e-5 with sigma 0.05 and area 100
    crowd = np.stack([person, person + [1e4, 0], person + [distance, 0]])
    assert oks(person, crowd[2:], 100.0, np.array([100.0]), np.array([0.05])) == pytest.approx(1e-5)
    kept = soft_oks_nms(crowd, np.array([0.9, 0.5, 0.5]), np.full(3, 100.0), 0.9, np.array([0.05]))
    np.testing.assert_array_equal(kept, [0, *(1 + reference_order(np.full(2, 0.5))[reference_order(np.full(2, 0.5))])])


@pytest.mark.parametrize('suppress', [oks_nms, soft_oks_nms])
def test_nobody_stays_nobody(suppress):
    assert suppress(np.zeros((0, 4, 2)), np.zeros(0), np.zeros(0), 0.9, SIGMAS).shape == (0,)
