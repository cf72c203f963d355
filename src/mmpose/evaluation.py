"""From decoded keypoints to COCO's ten keypoint figures, as in MMPose 0.29."""
from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import json_tricks
import numpy as np

from src.common.errors import InputError
from src.common.files import atomic_path
from src.common.inputs import as_input_error, load_json, numbers
from src.mmpose.annotations import Annotations
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.nms import oks_nms, soft_oks_nms

METRICS = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')
# AP of CrowdPose's images by their crowdIndex, from the first number to below the second, as xtcocotools, and with it
# MMPose's figures, have it; the paper (Li et al., CVPR 2019) has 0.1 in place of 0.2.
CROWDING = {'AP_easy': (-math.inf, 0.2), 'AP_medium': (0.2, 0.8), 'AP_hard': (0.8, math.inf)}
BACKENDS = ('xtcocotools', 'pycocotools')
NMS = {'hard': oks_nms, 'soft': soft_oks_nms, 'none': None}


@dataclass
class Predictions:
    """What a network says of every record of a data set, in the records' order."""
    keypoints: np.ndarray  # float32 (M, K, 3) x, y in image pixels, score
    boxes: np.ndarray  # float32 (M, 6) centre x, y, scale w, h in 200-pixel units, area in square pixels, score
    image_ids: Sequence[Any]  # M ids
    category_ids: Sequence[Any]  # M ids
    bbox_ids: np.ndarray  # (M,) numbers of the boxes inside their image


def select(predictions: Predictions, *, sigmas: np.ndarray, visibility_threshold: float = 0.2,
           oks_threshold: float = 0.9, nms: str = 'hard') -> list[dict[str, Any]]:
    """Return the persons of each image: rescored, without repeated boxes, duplicates suppressed by OKS NMS.

    Args:
        predictions: of boxes with equal bbox_ids the first stays; persons of all categories suppress each other, as in
            MMPose's AP-10K data set.
        sigmas: (K,) OKS falloffs.
        visibility_threshold: keypoints scored at or below it don't count in the person's score.
        oks_threshold: OKS above which two persons of an image are the same.
        nms: `hard`, `soft` or `none`.

    Returns:
        COCO results (image_id, category_id, keypoints, score, center, scale), plain Python numbers; images in order
        of first appearance.
    """
    return as_results(predictions, *select_rows(predictions, sigmas, visibility_threshold, oks_threshold, nms))


def as_results(predictions: Predictions, rows: Sequence[int], scores: Sequence[float]) -> list[dict[str, Any]]:
    """Return rows of the predictions as COCO results with these scores."""
    keypoints, boxes = np.asarray(predictions.keypoints, np.float64), np.asarray(predictions.boxes, np.float64)
    return [dict(image_id=predictions.image_ids[row], category_id=predictions.category_ids[row],
                 keypoints=keypoints[row].ravel().tolist(), score=score, center=boxes[row, :2].tolist(),
                 scale=boxes[row, 2:4].tolist()) for row, score in zip(rows, scores)]


def select_rows(predictions: Predictions, sigmas: np.ndarray, visibility_threshold: float, oks_threshold: float,
                nms: str) -> tuple[list[int], list[float]]:
    """Return the rows of the predictions that `select` keeps, in its order, and their scores; arguments as there."""
    keypoints, boxes = np.asarray(predictions.keypoints, np.float64), np.asarray(predictions.boxes, np.float64)
    bbox_ids, sigmas = np.asarray(predictions.bbox_ids), np.asarray(sigmas)
    confident = keypoints[..., 2] > visibility_threshold
    scores = (keypoints[..., 2] * confident).sum(axis=1) / np.maximum(confident.sum(axis=1), 1) * boxes[:, 5]

    of_image: dict[Any, list[int]] = {}
    for row, image_id in enumerate(predictions.image_ids):
        of_image.setdefault(image_id, []).append(row)
    rows: list[int] = []
    for members in of_image.values():
        chosen = np.array(members)[np.unique(bbox_ids[members], return_index=True)[1]]
        if NMS[nms]:
            chosen = chosen[NMS[nms](keypoints[chosen], scores[chosen], boxes[chosen, 4], oks_threshold, sigmas)]
        rows += chosen.tolist()
    return rows, scores[rows].tolist()


def write_results(results: list[dict[str, Any]], path: Path | str) -> None:
    """Write results of `select` as a COCO result file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json_tricks.dumps(results))


def read_results(file: Path, annotations: Annotations, info: DatasetInfo) -> list[dict[str, Any]]:
    """Read results in COCO's format, as eval.py writes them; those of other categories are omitted and counted.

    Raises:
        InputError: the file is missing or of another kind, or its images or keypoints are not those of the annotations.
    """
    results, of_persons = load_json(file), []
    if not isinstance(results, list):
        raise InputError(f'{file}: not a list of persons; give the result file of eval.py')
    for number, result in enumerate(results):
        with as_input_error(file, f'result {number}'):
            category_id = result.get('category_id', annotations.categories[0])
            if category_id not in annotations.categories:
                annotations.omitted['results of other categories'] += 1
                continue
            if not np.isfinite([*numbers(result['keypoints'], 3 * info.num_joints), float(result['score'])]).all():
                raise ValueError('a number is not finite')
            if result['image_id'] not in annotations.images:
                raise InputError(f'{file}: result {number} is of image {result["image_id"]!r}, which the annotations '
                                 'do not have; give those it was evaluated with')
            of_persons.append({**result, 'category_id': category_id})
    return of_persons


def default_backend() -> str:
    """Return 'xtcocotools' where it is installed (it has no wheel for Python 3.12), else 'pycocotools'."""
    return next((name for name in BACKENDS if importlib.util.find_spec(name)), 'pycocotools')


def evaluate(results: list[dict[str, Any]], annotations: Annotations, *, sigmas: np.ndarray,
             backend: str = 'auto') -> dict[str, float]:
    """Return COCO's scores of results. Both backends give the same.

    With several categories they are the means over these, as COCO's tools have it.

    Args:
        results: COCO results, as `select` returns them; those of other categories do not count.
        annotations: the ground truth.
        sigmas: (K,) OKS falloffs.
        backend: 'xtcocotools', 'pycocotools', or 'auto' for `default_backend`.

    Returns:
        The `METRICS` in their order, then those of `CROWDING` where images have a crowdIndex; all 0 where there is no
        result, -1 where the ground truth has nothing to find.

    Raises:
        InputError: the backend is unknown or not installed.
    """
    evaluator = _score(results, annotations, sigmas, backend)
    crowded = [image for image in annotations.images.values() if image.crowd_index is not None]
    if evaluator is None:
        logging.getLogger(__name__).warning('no person was detected: all scores are 0')
        return dict.fromkeys((*METRICS, *(CROWDING if crowded else ())), 0.0)
    scores = dict(zip(METRICS, map(float, evaluator.stats)))
    for name, (low, high) in CROWDING.items() if crowded else ():
        evaluator.params.imgIds = [image.number for image in crowded if low <= image.crowd_index < high]
        _run(evaluator)
        scores[name] = float(evaluator.stats[0])
    return scores


def precision_recall(results: list[dict[str, Any]], annotations: Annotations, *, sigmas: np.ndarray,
                     backend: str = 'auto') -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the curves behind the scores, over persons of all sizes; arguments as for `evaluate`.

    Returns:
        OKS thresholds (T,), recalls (R,), and float64 (T, R): the best precision at that recall or a higher one, 0
        where it is not reached; mean over the categories that have persons. None where there is no result.
    """
    evaluator = _score(results, annotations, sigmas, backend)
    if evaluator is None:
        return None
    precision = evaluator.eval['precision'][:, :, :, 0, 0]  # (T, R, categories); -1 for those without persons
    return (evaluator.params.iouThrs, evaluator.params.recThrs,
            precision[..., (precision > -1).all((0, 1))].mean(-1))


def _score(results: list[dict[str, Any]], annotations: Annotations, sigmas: np.ndarray, backend: str) -> Any:
    """Return the backend's evaluator after its work, None where there is no result of the categories.

    Images, annotations and categories have numbers of our own: the backends mark matches by ids, for which 0, negative
    numbers and texts do not serve, and put image ids into arrays. xtcocotools omits persons without a keypoint scored
    above 0, pycocotools does not; scores of keypoints count nowhere else, so all are given as 1.
    """
    coco_class, evaluator_class = _backend(backend)
    images = {image_id: image.number for image_id, image in annotations.images.items()}
    categories = {category_id: number for number, category_id in enumerate(annotations.categories, 1)}
    counts = {person.number: int((person.keypoints[:, 2] > 0).sum()) for person in annotations.persons}
    persons = [dict(id=person.number, image_id=images[person.image_id], category_id=categories[person.category_id],
                    keypoints=person.keypoints.ravel().tolist(), num_keypoints=counts.get(person.number, 0),
                    bbox=person.box.tolist(), area=person.area, iscrowd=int(person.crowd))
               for person in sorted(annotations.persons + annotations.ignored, key=lambda person: person.number)]
    found = []
    for result in results:
        if result['category_id'] in categories:
            keypoints = np.array(result['keypoints'], np.float64)
            keypoints[2::3] = 1
            found.append({**result, 'image_id': images[result['image_id']], 'keypoints': keypoints.tolist(),
                          'category_id': categories[result['category_id']]})
    if not found:
        return None
    sigmas = np.asarray(sigmas, np.float64)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_class()
        truth.dataset = dict(info={}, images=[dict(id=number) for number in images.values()], annotations=persons,
                             categories=[dict(id=number) for number in categories.values()])
        truth.createIndex()
        arguments = (truth, truth.loadRes(found), 'keypoints')
        if evaluator_class.__module__.startswith('xtcocotools'):
            evaluator = evaluator_class(*arguments, sigmas)
        else:
            evaluator = evaluator_class(*arguments)
            evaluator.params.kpt_oks_sigmas = sigmas
    _run(evaluator)
    return evaluator


def _run(evaluator: Any) -> None:
    """Let an evaluator match, accumulate and summarise, in silence, the images of its parameters."""
    with contextlib.redirect_stdout(io.StringIO()):
        # Of this type xtcocotools goes by num_keypoints, as pycocotools does, but its summary of it reads and rounds.
        evaluator.params.iouType = 'keypoints_crowd' if type(evaluator).__module__.startswith('xt') else 'keypoints'
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.params.iouType = 'keypoints'
        evaluator.summarize()


def _backend(name: str) -> tuple[type, type]:
    """Return the COCO and COCOeval classes of a backend.

    Raises:
        InputError: it is unknown or not installed.
    """
    if name == 'auto':
        name = default_backend()
    if name not in BACKENDS:
        raise InputError(f'evaluation backend {name!r} is unknown; choose one of {", ".join(BACKENDS)}')
    try:
        return (importlib.import_module(f'{name}.coco').COCO, importlib.import_module(f'{name}.cocoeval').COCOeval)
    except (ImportError, ValueError) as error:  # ValueError: built for another numpy
        raise InputError(f'evaluation backend {name} cannot be imported ({error}); pip install {name}, or choose '
                         f'another of {", ".join(BACKENDS)}') from error
