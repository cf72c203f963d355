"""PCK, AUC, EPE and NME by hand."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from src.mmpose.distance_metrics import evaluate

BOXES = np.array([[0, 0, 40, 100], [5, 5, 50, 20]], np.float64)  # larger sides 100 and 50


@pytest.fixture
def hands() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three keypoints of two hands, found where they are, and all visible."""
    target = np.array([[[0, 0], [30, 40], [90, 10]], [[10, 10], [20, 10], [15, 15]]], np.float64)
    return target.copy(), target, np.ones((2, 3))


def test_what_lies_right_is_right(hands: tuple) -> None:
    assert evaluate(*hands, BOXES) == {'PCK': 1, 'AUC': 0.95, 'EPE': 0, 'NME': 0}, 'nothing is nearer than 0'


def test_figures_by_hand(hands: tuple) -> None:
    pred, target, visible = hands
    pred[0, 0] += [0, 19]     # 0.19 of 100
    pred[1, 0] += [6, 8]      # 10 pixels are 0.2 of 50: not below it
    pred[1, 1] += [3, 0]
    pred[1, 2] += [99, 0]
    visible[1, 2] = 0
    found = evaluate(pred, target, visible, BOXES)
    # Keypoint 0: one of two, 1: two of two, 2: the one visible.
    assert found['PCK'] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found['EPE'] == pytest.approx((19 + 10 + 3) / 5)
    assert found['NME'] == pytest.approx((0.19 + 0.2 + 0.06) / 5)
    # Of 30 pixels: 19 are below the thresholds from 0.65, 10 from 0.35, 3 from 0.15 (0.1 itself does not count), 0 from
    # 0.05; of the 20 thresholds these are 7, 13, 17 and 19.
    assert found['AUC'] == pytest.approx(np.mean([(7 + 13) / 2, (19 + 17) / 2, 19]) / 20)
    assert evaluate(pred, target, visible, BOXES, pck_threshold=0.21)['PCK'] == 1
    assert evaluate(pred, target, visible, BOXES, pck_threshold=0.05)['PCK'] == pytest.approx((0 + 0.5 + 1) / 3)


def test_nme_by_the_distance_of_two_keypoints(hands: tuple) -> None:
    """50 and 10 pixels between the first two; where they are not visible, or in one place, there is no unit."""
    pred, target, visible = hands
    pred[:, 2] += [5, 0]

    def nme(**more: Any) -> float:
        return evaluate(pred, target, visible, BOXES, nme_keypoints=(0, 1), **more)['NME']
    assert nme() == pytest.approx((5 / 50 + 5 / 10) / 6)
    visible[0, 1] = 0
    assert nme() == pytest.approx(5 / 10 / 3)
    target[1, 1] = target[1, 0]
    assert nme() == 0 and evaluate(pred, target, visible, BOXES)['NME'] > 0


def test_nothing_to_measure_is_zero(hands: tuple) -> None:
    pred, target, visible = hands
    pred += 1
    assert set(evaluate(pred, target, visible * 0, BOXES).values()) == {0}
    empty = evaluate(pred, target, visible, BOXES * [1, 1, 0, 0])
    assert empty['PCK'] == empty['NME'] == 0 and empty['EPE'] == pytest.approx(2 ** 0.5)
    one = evaluate(pred, target, visible, BOXES * [[1, 1, 0, 0], [1, 1, 1, 1]])
    assert one['NME'] == pytest.approx(2 ** 0.5 / 50) and one['PCK'] == 1


def test_labels_are_true_or_false_and_positions_of_any_type(hands: tuple) -> None:
    pred, target, visible = hands
    pred[0, 0] += [0, 19]
    expected = evaluate(pred, target, visible, BOXES)
    assert evaluate(pred.astype(np.float32), target.astype(np.float32), visible * 0.3, BOXES) == expected
    pred[1, 1] = np.nan
    assert evaluate(pred, target, visible, BOXES)['PCK'] == pytest.approx(2.5 / 3), 'a lost keypoint is not found'
