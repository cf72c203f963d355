"""Matches predicted persons to annotated ones, and tells the kinds of error of their keypoints.

Kinds after M. R. Ronchi, P. Perona, Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation, ICCV 2017. With
ks = exp(-d^2 / (2 s^2 k^2)), OKS's similarity of one keypoint (d: distance, s^2: area of the annotated person, k: twice
the keypoint's sigma), a labelled keypoint of a person that was found is

- good: ks >= 0.85 to its true place;
- jitter: 0.5 <= ks < 0.85 to its true place, that is near it;
- inversion: else, ks >= 0.5 to the true place of the same person's similar keypoint, its mirror image (left and right);
- swap: else, ks >= 0.5 to the true place of that keypoint or its mirror image in another person of the image; where a
  keypoint could be inversion and swap, the nearer of both counts;
- miss: near no such place.

Persons are found when predictions are matched to them one to one, per image, by the Hungarian method, so that the sum
of OKS is largest; as in the paper, a pair needs an OKS of 0.1. Annotated persons left over are missed persons,
predictions left over are background false positives - but not those on people that are annotated without keypoints, or
as a crowd.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from munkres import Munkres

from src.mmpose.annotations import Annotation, Annotations
from src.mmpose.dataset_info import DatasetInfo

KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss')
GOOD, NEAR = 0.85, 0.5  # bounds of ks
LEAST_OKS = 0.1
MOST_PERSONS = 20  # predictions per image, as in COCO's scoring


@dataclass(frozen=True)
class Persons:
    """All N annotated persons, each with the prediction matched to it."""
    annotations: list[Annotation]  # image by image
    truth: np.ndarray  # float64 (N, K, 3) x, y in pixels, label (0: not labelled) of the annotations
    boxes: np.ndarray  # float64 (N, 4) x, y, width, height in pixels of the annotations
    found: np.ndarray  # float64 (N, K, 3) x, y, score of the predictions; NaN for missed persons
    scores: np.ndarray  # float64 (N,) of the predictions; NaN for missed persons
    oks: np.ndarray  # float64 (N,); 0 for missed persons
    ks: np.ndarray  # float64 (N, K) in [0, 1]; 0 for missed persons, NaN for unlabelled keypoints
    # float64 (N, K) as fractions of the larger side of the person's box; infinite for missed persons, NaN for
    # unlabelled keypoints
    distances: np.ndarray
    kinds: np.ndarray  # int64 (N, K) places in `KINDS`; -1 for unlabelled keypoints and missed persons
    background: list[dict[str, Any]]  # results that are no person, best first
    counted: int  # number of predictions that took part

    @property
    def missed(self) -> np.ndarray:
        """Return which persons have no prediction: bool (N,)."""
        return np.isnan(self.scores)


def similarity(points: np.ndarray, truth: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Return ks of predicted to annotated keypoints, float64 (P, T, K); NaN for unlabelled keypoints.

    Args:
        points: (P, K, 2 or more) x, y in pixels.
        truth: (T, K, 3) x, y in pixels, label.
        areas: (T,) of the annotated persons in square pixels.
        sigmas: (K,) OKS falloffs.
    """
    distance = np.square(points[:, None, :, :2] - truth[None, :, :, :2]).sum(-1)
    ks = np.exp(-distance / (2 * (areas[:, None] + np.spacing(1)) * np.square(2 * sigmas)))
    return np.where(truth[None, :, :, 2] > 0, ks, np.nan)


def match(oks: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs (prediction, person) of the largest sum of (P, T) OKS, each once, not below `LEAST_OKS`."""
    good = oks >= LEAST_OKS
    rows, columns = np.flatnonzero(good.any(1)), np.flatnonzero(good.any(0))
    if not len(rows):
        return []
    # What must not be paired costs as much as staying alone.
    cost = np.where(good, 1 - oks, 1.0)[np.ix_(rows, columns)]
    pairs = ((rows[i], columns[j]) for i, j in Munkres().compute(cost.tolist()))
    return [(int(i), int(j)) for i, j in pairs if good[i, j]]


def classify(ks: np.ndarray, own: int, mirror: np.ndarray) -> np.ndarray:
    """Return the kinds of error of one prediction's keypoints.

    Args:
        ks: (T, K) similarities of each predicted keypoint to the same keypoint of every person of the image.
        own: which of the persons it is.
        mirror: (T, K) similarities of each predicted keypoint to the mirror image's true place; NaN where the keypoint
            has no mirror image.

    Returns:
        int64 (K,) places in `KINDS`, -1 where the own keypoint is not labelled.
    """
    others = np.arange(len(ks)) != own
    swap = np.nan_to_num(np.concatenate([ks[others], mirror[others], np.zeros((1, ks.shape[1]))])).max(0)
    inversion, right = np.nan_to_num(mirror[own]), ks[own]
    kinds = np.select([right >= GOOD, right >= NEAR, (inversion >= NEAR) & (inversion >= swap), swap >= NEAR],
                      range(4), 4)
    return np.where(np.isnan(right), -1, kinds)


def analyse(annotations: Annotations, results: Sequence[dict[str, Any]], info: DatasetInfo,
            least_score: float = 0.0) -> Persons:
    """Match all predictions to the annotated persons and return both with the kinds of error.

    Args:
        results: in COCO's format; of each image the `MOST_PERSONS` best count.
        least_score: predictions scored lower are omitted.
    """
    flip, sigmas, count = info.flip_index, np.array(info.sigmas), info.num_joints
    persons, ignored, chosen = ({image_id: [] for image_id in annotations.images} for _ in range(3))
    for groups, members in ((persons, annotations.persons), (ignored, annotations.ignored)):
        for annotation in members:
            groups[annotation.image_id].append(annotation)
    for result in sorted(results, key=lambda result: -result['score']):
        if result['score'] >= least_score and len(chosen[result['image_id']]) < MOST_PERSONS:
            chosen[result['image_id']].append(result)
    people = [person for group in persons.values() for person in group]
    truth, boxes = np.stack([person.keypoints for person in people]), np.stack([person.box for person in people])
    areas, total, start = np.array([person.area for person in people]), len(people), 0
    found, scores = np.full((total, count, 3), np.nan), np.full(total, np.nan)
    ks, kinds, background = np.zeros((total, count)), np.full((total, count), -1), []
    for image_id, candidates in chosen.items():
        rows = slice(start, start := start + len(persons[image_id]))
        points = np.array([result['keypoints'] for result in candidates], np.float64).reshape(-1, count, 3)
        near = similarity(points, truth[rows], areas[rows], sigmas)
        # A keypoint against its mirror image's true place, by the latter's sigma.
        mirrored = np.where(flip != np.arange(count),
                            similarity(points[:, flip], truth[rows], areas[rows], sigmas)[..., flip], np.nan)
        pairs = match(np.nanmean(near, 2)) if near.size else []
        for i, j in pairs:
            row = rows.start + j
            found[row], scores[row] = points[i], candidates[i]['score']
            ks[row], kinds[row] = near[i, j], classify(near[i], j, mirrored[i])
        unmatched = set(range(len(candidates))) - {i for i, _ in pairs}
        background += [candidates[i] for i in sorted(unmatched) if not _on_ignored(points[i], ignored[image_id])]
    ks[truth[..., 2] <= 0] = np.nan
    distances = np.linalg.norm(found[..., :2] - truth[..., :2], axis=2) / np.maximum(boxes[:, 2:].max(1), 1)[:, None]
    distances[np.isnan(scores)] = np.inf
    distances[truth[..., 2] <= 0] = np.nan
    return Persons(people, truth, boxes, found, scores, np.nanmean(ks, 1), ks, distances, kinds,
                   sorted(background, key=lambda result: -result['score']), sum(map(len, chosen.values())))


def _on_ignored(points: np.ndarray, ignored: Sequence[Annotation]) -> bool:
    """Return whether more than half of the keypoints (K, 2 or more) lie in the box of one of those ignored."""
    boxes = np.array([annotation.box for annotation in ignored]).reshape(-1, 4)
    low, high = boxes[:, None, :2], boxes[:, None, :2] + boxes[:, None, 2:]
    inside = ((points[:, :2] >= low) & (points[:, :2] <= high)).all(-1)
    return bool((inside.mean(-1) > 0.5).any())


def reached(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the fraction of the values (...), NaN apart, that are at least each threshold (S,): (S,)."""
    values = np.sort(values[~np.isnan(values)])
    if not len(values):
        return np.full(len(thresholds), np.nan)
    return 1 - np.searchsorted(values, thresholds, 'left') / len(values)
