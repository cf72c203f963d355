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

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from munkres import Munkres

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json, numbers
from src.mmpose.dataset_info import DatasetInfo

KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss')
GOOD, NEAR = 0.85, 0.5  # bounds of ks
LEAST_OKS = 0.1
MOST_PERSONS = 20  # predictions per image, as in COCO's scoring


@dataclass(frozen=True)
class Truth:
    """The annotated persons of one picture.

    Attributes:
        image_id: of the picture.
        ids: T annotation ids.
        joints: float64 (T, K, 3) x, y in pixels, label (0: not labelled).
        areas: float64 (T,) in square pixels.
        boxes: float64 (T, 4) x, y, width, height in pixels.
        ignored: float64 (I, 4) boxes of people without labelled joints, and of crowds.
    """
    image_id: Any
    ids: tuple[Any, ...]
    joints: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class Persons:
    """All N annotated persons, each with the prediction matched to it.

    Attributes:
        image_ids: N ids of their pictures.
        ids: N annotation ids.
        truth: float64 (N, K, 3), see `Truth.joints`.
        boxes: float64 (N, 4), see `Truth.boxes`.
        found: float64 (N, K, 3) x, y, score of the predictions; not-a-number for missed persons.
        scores: float64 (N,) of the predictions; not-a-number for missed persons.
        oks: float64 (N,); 0 for missed persons.
        ks: float64 (N, K) in [0, 1]; 0 for missed persons, not-a-number for unlabelled joints.
        distances: float64 (N, K) as fractions of the larger side of the person's box; infinite for missed persons,
            not-a-number for unlabelled joints.
        kinds: int64 (N, K) places in `KINDS`; -1 for unlabelled joints and missed persons.
        background: results that are no person, best first.
        counted: number of predictions that took part.
    """
    image_ids: list[Any]
    ids: list[Any]
    truth: np.ndarray
    boxes: np.ndarray
    found: np.ndarray
    scores: np.ndarray
    oks: np.ndarray
    ks: np.ndarray
    distances: np.ndarray
    kinds: np.ndarray
    background: list[dict[str, Any]]
    counted: int

    @property
    def missed(self) -> np.ndarray:
        """bool (N,): persons without a prediction."""
        return np.isnan(self.scores)


def read_truth(file: Path, info: DatasetInfo) -> tuple[list[Truth], dict[Any, str]]:
    """Reads a COCO keypoint file.

    Returns:
        the persons of every picture, and the pictures' file names by their ids.

    Raises:
        InputError: the file is missing, of another kind or has other joints, or holds no person with labelled joints.
    """
    content = load_json(file)
    if isinstance(content, list):
        raise InputError(f"{file}: a list, as MPII's annotations are; give keypoint annotations in COCO's format")
    with as_input_error(file, 'the file'):
        names = {image['id']: str(image['file_name']) for image in content['images']}
        annotations = content['annotations']
    persons: dict[Any, list[tuple[Any, ...]]] = {image_id: [] for image_id in names}
    ignored: dict[Any, list[np.ndarray]] = {image_id: [] for image_id in names}
    for number, annotation in enumerate(annotations):
        name = annotation.get('id', number) if isinstance(annotation, dict) else number
        with as_input_error(file, f'annotation {name}'):
            box = numbers(annotation['bbox'], 4)
            joints = numbers(annotation.get('keypoints', [0] * 3 * info.num_joints), 3 * info.num_joints).reshape(-1, 3)
            if not np.isfinite([*box, *joints.ravel()]).all():
                raise ValueError('a number is not finite')
            if annotation.get('iscrowd', 0) or not (joints[:, 2] > 0).any():
                ignored[annotation['image_id']].append(box)
            else:
                area = float(annotation.get('area', box[2] * box[3]))
                persons[annotation['image_id']].append((name, joints, area, box))
    if not any(persons.values()):
        raise InputError(f'{file}: no person with labelled joints; is it a person_keypoints file?')
    truths = []
    for image_id, found in persons.items():
        ids, joints, areas, boxes = zip(*found) if found else ((), (), (), ())
        truths.append(Truth(image_id, tuple(ids), np.array(joints, np.float64).reshape(-1, info.num_joints, 3),
                            np.array(areas, np.float64), np.array(boxes, np.float64).reshape(-1, 4),
                            np.array(ignored[image_id], np.float64).reshape(-1, 4)))
    return truths, names


def read_results(file: Path, images: Collection[Any], info: DatasetInfo) -> list[dict[str, Any]]:
    """Reads results in COCO's format, as eval.py writes them.

    Raises:
        InputError: the file is missing or of another kind, or its pictures or joints are not those of the annotations.
    """
    results = load_json(file)
    if not isinstance(results, list):
        raise InputError(f'{file}: not a list of persons; give the result file of eval.py')
    for number, result in enumerate(results):
        with as_input_error(file, f'result {number}'):
            if not np.isfinite(numbers(result['keypoints'], 3 * info.num_joints)).all() \
                    or not np.isfinite(float(result['score'])):
                raise ValueError('a number is not finite')
            if result['image_id'] not in images:
                raise InputError(f'{file}: result {number} is of image {result["image_id"]!r}, which the annotations '
                                 'do not have; give those it was evaluated with')
    return results


def similarity(points: np.ndarray, truth: Truth, sigmas: np.ndarray) -> np.ndarray:
    """Return ks of predicted to true keypoints: (P, K, 2 or more) in pixels -> (P, T, K); NaN for unlabelled ones."""
    distance = np.square(points[:, None, :, :2] - truth.joints[None, :, :, :2]).sum(-1)
    ks = np.exp(-distance / (2 * (truth.areas[:, None] + np.spacing(1)) * np.square(2 * np.asarray(sigmas))))
    return np.where(truth.joints[None, :, :, 2] > 0, ks, np.nan)


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


def analyse(truths: Sequence[Truth], results: Sequence[dict[str, Any]], info: DatasetInfo,
            least_score: float = 0.0) -> Persons:
    """Match all predictions to the ground truth and return both with the kinds of error.

    Args:
        truths: one per picture.
        results: in COCO's format; of each image the `MOST_PERSONS` best count.
        info: the joints.
        least_score: predictions scored lower are omitted.
    """
    flip, sigmas, count = info.flip_index, np.array(info.sigmas), info.num_joints
    paired = flip != np.arange(count)
    chosen: dict[Any, list[dict[str, Any]]] = {truth.image_id: [] for truth in truths}
    for result in sorted(results, key=lambda r: -r['score']):
        if result['score'] >= least_score and len(chosen[result['image_id']]) < MOST_PERSONS:
            chosen[result['image_id']].append(result)
    total = sum(len(truth.ids) for truth in truths)
    found, scores = np.full((total, count, 3), np.nan), np.full(total, np.nan)
    ks, kinds = np.zeros((total, count)), np.full((total, count), -1)
    background, start = [], 0
    for truth in truths:
        persons = chosen[truth.image_id]
        points = np.array([person['keypoints'] for person in persons], np.float64).reshape(-1, count, 3)
        near = similarity(points, truth, sigmas)
        # A keypoint against its mirror image's true place, by the latter's sigma.
        mirrored = np.where(paired, similarity(points[:, flip], truth, sigmas)[..., flip], np.nan)
        pairs = match(np.nanmean(near, 2)) if near.size else []
        for i, j in pairs:
            row = start + j
            found[row], scores[row] = points[i], persons[i]['score']
            ks[row], kinds[row] = near[i, j], classify(near[i], j, mirrored[i])
        alone = set(range(len(persons))) - {i for i, _ in pairs}
        background += [persons[i] for i in sorted(alone) if not _on_ignored(points[i], truth.ignored)]
        start += len(truth.ids)
    joints, boxes = (np.concatenate([getattr(truth, key) for truth in truths]) for key in ('joints', 'boxes'))
    ks[joints[..., 2] <= 0] = np.nan
    distances = np.linalg.norm(found[..., :2] - joints[..., :2], axis=2) / np.maximum(boxes[:, 2:].max(1), 1)[:, None]
    distances[np.isnan(scores)] = np.inf
    distances[joints[..., 2] <= 0] = np.nan
    return Persons([t.image_id for t in truths for _ in t.ids], [i for t in truths for i in t.ids], joints, boxes,
                   found, scores, np.nanmean(ks, 1), ks, distances, kinds,
                   sorted(background, key=lambda r: -r['score']), sum(map(len, chosen.values())))


def _on_ignored(points: np.ndarray, boxes: np.ndarray) -> bool:
    """Return whether more than half of the keypoints (K, 2 or more) lie in one of the boxes (I, 4)."""
    low, high = boxes[:, None, :2], boxes[:, None, :2] + boxes[:, None, 2:]
    inside = ((points[:, :2] >= low) & (points[:, :2] <= high)).all(-1)
    return bool((inside.mean(-1) > 0.5).any())


def reached(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the fraction of the values (...), NaN apart, that are at least each threshold (S,): (S,)."""
    values = np.sort(values[~np.isnan(values)])
    if not len(values):
        return np.full(len(thresholds), np.nan)
    return 1 - np.searchsorted(values, thresholds, 'left') / len(values)
