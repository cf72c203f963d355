"""Object keypoint similarity and the suppression of duplicate persons by it, as in MMPose 0.29.

OKS is COCO's definition (cocodataset.org/#keypoints-eval) with the mean of both areas, over all keypoints: predictions
have no invisible ones. Which of two equal scores is the better one is left to NumPy's default sort, read backwards, as
there: of up to sixteen persons the last. Similarities have the reference's float32, for they make scores equal or not.
"""
from __future__ import annotations

import numpy as np


def oks(one: np.ndarray, others: np.ndarray, area: float, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Return the similarity of one person to M others, float32 (M,) in [0, 1].

    Args:
        one: (K, 2 or more) x, y in pixels.
        others: (M, K, 2 or more).
        area: Area of the one, in square pixels.
        areas: (M,) areas of the others.
        sigmas: (K,) falloffs.
    """
    distance = np.square(others[..., :2].astype(np.float64) - one[:, :2]).sum(axis=-1)
    variance = 2 * np.square(2 * np.asarray(sigmas, np.float64))
    similarity = np.exp(-distance / (variance * ((area + areas[:, None]) / 2 + np.spacing(1)))).mean(axis=-1)
    return similarity.astype(np.float32)


def oks_nms(keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, threshold: float,
            sigmas: np.ndarray) -> np.ndarray:
    """Return the persons that stay when each, from the best on, removes those more similar to it than `threshold`.

    Args:
        keypoints: (M, K, 2 or more) x, y in pixels.
        scores: (M,).
        areas: (M,) in square pixels.
        threshold: OKS above which two are the same person.
        sigmas: (K,) falloffs.

    Returns:
        int64 indices of the kept ones, best first.
    """
    order = np.argsort(scores)[::-1]
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[oks(keypoints[best], keypoints[order], areas[best], areas[order], sigmas) <= threshold]
    return np.array(kept, np.int64)


def soft_oks_nms(keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, threshold: float, sigmas: np.ndarray,
                 max_kept: int = 20) -> np.ndarray:
    """Return the persons in the order of choice, where each lowers the scores of the rest by exp(-OKS^2 / threshold).

    Args as in `oks_nms`; the given scores are not changed, the lowered ones only decide the next choice.

    Returns:
        int64 indices of the at most `max_kept` kept ones.
    """
    scores = np.array(scores, np.float64)
    order = np.argsort(scores)[::-1]
    kept = []
    while len(order) and len(kept) < max_kept:
        best, order = order[0], order[1:]
        kept.append(best)
        similarity = oks(keypoints[best], keypoints[order], areas[best], areas[order], sigmas)
        scores[order] *= np.exp(-similarity ** 2 / threshold)
        order = order[np.argsort(scores[order])[::-1]]
    return np.array(kept, np.int64)
