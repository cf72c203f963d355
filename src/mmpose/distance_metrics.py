"""PCK, AUC, EPE and NME, which measure predicted keypoints against those annotated in the same box, as in MMPose 0.29.

Hands and faces are scored so: every box holds one, and its keypoints are compared with nobody else's.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

METRICS = ('PCK', 'AUC', 'EPE', 'NME')
ERRORS = ('EPE', 'NME')  # less is better
AUC_SIZE = 30.0  # pixels
AUC_THRESHOLDS = tuple(step / 20 for step in range(20))  # of AUC_SIZE


def distances(pred: np.ndarray, target: np.ndarray, visible: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the distances of predicted to annotated keypoints as fractions of the sizes of what they belong to.

    Args:
        pred: (N, K, 2) in pixels.
        target: (N, K, 2), likewise.
        visible: (N, K), 0 for keypoints that don't count.
        sizes: (N,) in pixels; where one is 0, none of its keypoints count.

    Returns:
        float32 (N, K), as MMPose compares them; -1 for keypoints that don't count.
    """
    sizes = np.asarray(sizes, np.float64)[:, None]
    counted = (np.asarray(visible) > 0) & (sizes > 0)
    fractions = (np.asarray(pred, np.float64) - target) / np.where(sizes > 0, sizes, 1)[..., None]
    return np.where(counted, np.linalg.norm(fractions, axis=-1), -1).astype(np.float32)


def fraction_within(found: np.ndarray, threshold: float) -> float:
    """Return the fraction of `distances` (N, K) below a threshold: the mean over keypoints of theirs; 0 of none."""
    counted = found != -1
    count = counted.sum(axis=0)
    close = ((found < threshold) & counted).sum(axis=0)
    return float((close[count > 0] / count[count > 0]).mean()) if count.any() else 0.0


def mean_distance(found: np.ndarray) -> float:
    """Return the mean of all `distances` (N, K) that count; 0 of none."""
    counted = found[found != -1]
    return float(counted.mean(dtype=np.float64)) if counted.size else 0.0


def evaluate(pred: np.ndarray, target: np.ndarray, visible: np.ndarray, boxes: np.ndarray, *,
             pck_threshold: float = 0.2, nme_keypoints: Sequence[int] = ()) -> dict[str, float]:
    """Return the `METRICS` of N persons, hands or faces.

    Args:
        pred: (N, K, 2) in pixels.
        target: (N, K, 2), likewise.
        visible: (N, K), 0 for keypoints that don't count.
        boxes: (N, 4) x, y, width, height in pixels.
        pck_threshold: of PCK, as a fraction of the larger side of the box.
        nme_keypoints: two keypoints whose distance is NME's unit, such as the outer corners of the eyes; where one of
            them is not visible, NME leaves the person out. Without any the unit is the larger side of the box.

    Returns:
        PCK: fraction of keypoints found, mean over the keypoints; AUC: the mean of the same at 0 to 0.95 of 30 pixels;
        EPE: mean distance in pixels; NME: mean distance in units.
    """
    sides, count = np.asarray(boxes, np.float64)[:, 2:].max(axis=1), len(target)
    units = sides
    if len(nme_keypoints):
        first, second = nme_keypoints
        units = np.linalg.norm(np.asarray(target, np.float64)[:, first] - target[:, second], axis=-1)
        units = np.where(np.asarray(visible)[:, [first, second]].min(axis=1) > 0, units, 0)
    pixels, of_sides, of_units, of_auc = (distances(pred, target, visible, sizes) for sizes in (
        np.ones(count), sides, units, np.full(count, AUC_SIZE)))
    return {'PCK': fraction_within(of_sides, pck_threshold),
            'AUC': float(np.mean([fraction_within(of_auc, threshold) for threshold in AUC_THRESHOLDS])),
            'EPE': mean_distance(pixels), 'NME': mean_distance(of_units)}
