"""From decoded keypoints to COCO's ten keypoint figures, as in MMPose 0.29."""
from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import json_tricks
import numpy as np

from src.common.errors import InputError
from src.common.files import atomic_path
from src.common.inputs import load_json
from src.mmpose.nms import oks_nms, soft_oks_nms

METRICS = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')
BACKENDS = ('xtcocotools', 'pycocotools')
NMS = {'hard': oks_nms, 'soft': soft_oks_nms, 'none': None}


@dataclass
class Predictions:
    """What a network says of every record of a data set, in the records' order.

    Attributes:
        keypoints: float32 (M, K, 3) x, y in image pixels, score.
        boxes: float32 (M, 6) centre x, y, scale w, h in 200-pixel units, area in square pixels, score.
        image_ids: M ids.
        bbox_ids: (M,) numbers of the boxes inside their image.
    """
    keypoints: np.ndarray
    boxes: np.ndarray
    image_ids: Sequence[Any]
    bbox_ids: np.ndarray


def select(preds: np.ndarray, boxes: np.ndarray, image_ids: Sequence[Any], bbox_ids: np.ndarray, *, sigmas: np.ndarray,
           visibility_threshold: float = 0.2, oks_threshold: float = 0.9, nms: str = 'hard',
           category_id: int = 1) -> list[dict[str, Any]]:
    """Return the persons of each image: rescored, without repeated boxes, duplicates suppressed by OKS NMS.

    Args:
        preds: float32 (M, K, 3) x, y in image pixels and keypoint score.
        boxes: float32 (M, 6) centre x, y, scale w, h (200 pixels), area (square pixels), box score.
        image_ids: M ids.
        bbox_ids: (M,) numbers of the boxes inside their image; the first of equals stays.
        sigmas: (K,) OKS falloffs.
        visibility_threshold: keypoints scored at or below it don't count in the person's score.
        oks_threshold: OKS above which two persons of an image are the same.
        nms: `hard`, `soft` or `none`.
        category_id: of the results: 1 is COCO's person.

    Returns:
        COCO results (image_id, category_id, keypoints, score, center, scale), plain Python numbers; images in order
        of first appearance.
    """
    preds, boxes = np.asarray(preds, np.float64), np.asarray(boxes, np.float64)
    bbox_ids, sigmas = np.asarray(bbox_ids), np.asarray(sigmas)
    confident = preds[..., 2] > visibility_threshold
    scores = (preds[..., 2] * confident).sum(axis=1) / np.maximum(confident.sum(axis=1), 1) * boxes[:, 5]

    rows: dict[Any, list[int]] = {}
    for row, image_id in enumerate(image_ids):
        rows.setdefault(image_id, []).append(row)
    results = []
    for image_id, members in rows.items():
        chosen = np.array(members)[np.unique(bbox_ids[members], return_index=True)[1]]
        if NMS[nms]:
            chosen = chosen[NMS[nms](preds[chosen], scores[chosen], boxes[chosen, 4], oks_threshold, sigmas)]
        results += [dict(image_id=image_id, category_id=category_id, keypoints=preds[row].ravel().tolist(),
                         score=float(scores[row]), center=boxes[row, :2].tolist(), scale=boxes[row, 2:4].tolist())
                    for row in chosen]
    return results


def write_results(results: list[dict[str, Any]], path: Path | str) -> None:
    """Write results of `select` as a COCO result file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json_tricks.dumps(results))


def default_backend() -> str:
    """Return 'xtcocotools' where it is installed (it has no wheel for Python 3.12), else 'pycocotools'."""
    return next((name for name in BACKENDS if importlib.util.find_spec(name)), 'pycocotools')


def evaluate(results: list[dict[str, Any]], annotation_file: Path | str, *, sigmas: np.ndarray,
             backend: str = 'auto') -> dict[str, float]:
    """Return the scores of results against a COCO keypoint file. Both backends give the same figures.

    Args:
        results: COCO results, as `select` returns them.
        annotation_file: COCO keypoint annotations.
        sigmas: (K,) OKS falloffs.
        backend: 'xtcocotools', 'pycocotools', or 'auto' for `default_backend`.

    Returns:
        The `METRICS` in their order; all 0 where there is no result, -1 where the ground truth has nothing to find.

    Raises:
        InputError: the backend is unknown or not installed.
    """
    if not results:
        _backend(backend)
        logging.getLogger(__name__).warning('no person was detected: all figures are 0')
        return dict.fromkeys(METRICS, 0.0)
    return dict(zip(METRICS, map(float, _score(results, annotation_file, sigmas, backend).stats)))


def precision_recall(results: list[dict[str, Any]], annotation_file: Path | str, *, sigmas: np.ndarray,
                     backend: str = 'auto') -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the curves behind the scores, over persons of all sizes; arguments as for `evaluate`.

    Returns:
        OKS thresholds (T,), recalls (R,), and float64 (T, R): the best precision at that recall or a higher one, 0
        where it is not reached, -1 where the ground truth has nothing to find.
    """
    evaluator = _score(results, annotation_file, sigmas, backend)
    return evaluator.params.iouThrs, evaluator.params.recThrs, evaluator.eval['precision'][:, :, 0, 0, 0]


def _score(results: list[dict[str, Any]], annotation_file: Path | str, sigmas: np.ndarray, backend: str) -> Any:
    """Return the backend's evaluator after its work on at least one result."""
    coco_class, evaluator_class = _backend(backend)
    sigmas = np.asarray(sigmas, np.float64)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_class()
        truth.dataset = _annotations(Path(annotation_file))
        truth.createIndex()
        found = truth.loadRes([{**result, 'category_id': 1} for result in results])
        arguments = (truth, found, 'keypoints')
        if evaluator_class.__module__.startswith('xtcocotools'):
            evaluator = evaluator_class(*arguments, sigmas)
        else:
            evaluator = evaluator_class(*arguments)
            evaluator.params.kpt_oks_sigmas = sigmas
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def _annotations(file: Path) -> dict[str, Any]:
    """Return a COCO keypoint file, its categories made one, with what backends need and own data may lack."""
    content = load_json(file)
    annotations = [{**item, 'category_id': 1} for item in content['annotations'] if item.get('keypoints')]
    for item in annotations:
        for key, value in (('num_keypoints', sum(label > 0 for label in item['keypoints'][2::3])), ('iscrowd', 0),
                           ('area', item['bbox'][2] * item['bbox'][3] if 'bbox' in item else 0)):
            item.setdefault(key, value)
    return dict(info={}, categories=[dict(id=1, name='person')], images=content['images'], annotations=annotations)


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
