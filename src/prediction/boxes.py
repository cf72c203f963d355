"""Where the boxes of persons come from: a file, the whole picture, or OpenCV's own detector."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json, numbers
from src.mmpose.coco import PERSON
from src.prediction.media import Frame

Boxes = Callable[[Frame], np.ndarray]  # (N, 5) x, y, width, height in pixels, score

HOG_SIDE = 640  # pixels: pictures are scaled to this before the search
# The detector's window has a margin around the person: what OpenCV's example program cuts off.
HOG_CUT = np.array([0.1, 0.07, 0.8, 0.8])  # left and top, then new size, as shares of the window


def image_ids(annotations: Path) -> dict[str, Any]:
    """File names (without folders) to image ids, from a COCO annotation file.

    Raises:
        InputError: the file is missing or of another kind.
    """
    with as_input_error(annotations, 'the file'):
        return {Path(image['file_name']).name: image['id'] for image in load_json(annotations)['images']}


def from_file(file: Path, ids: dict[str, Any], score_threshold: float) -> Boxes:
    """Boxes of a detector's COCO result file.

    Its entries say by `image_id` (where `ids` has it) or by `file_name` where they belong; in a video also by
    `frame`, which counts from 0.

    Args:
        file: list of dicts with `bbox`, `score` and, if there is more than one kind, `category_id` (1: person).
        ids: see `image_ids`; {} where there are none.
        score_threshold: boxes of a lower score are left out.

    Raises:
        InputError: the file is missing or of another kind, or says of no box where it belongs.
    """
    names = {image_id: name for name, image_id in ids.items()}
    content, found = load_json(file), {}
    if not isinstance(content, list):
        raise InputError(f'{file}: not a list of detections; give a COCO result file')
    for number, entry in enumerate(content):
        with as_input_error(file, f'detection {number}'):
            box, score = numbers(entry['bbox'], 4), float(entry['score'])
            name = entry.get('file_name') or names.get(entry.get('image_id'))
            if name is None and not ids:
                raise InputError(f'{file}: detection {number} has no file_name; give --annotations, whose images have '
                                 'the image ids')
            if name is None or entry.get('category_id', PERSON) != PERSON or score < score_threshold:
                continue
            if np.isfinite(box).all() and (box[2:] > 0).all() and np.isfinite(score):
                found.setdefault((Path(name).name, entry.get('frame')), []).append([*box, score])

    def boxes(frame: Frame) -> np.ndarray:
        return np.array(found.get((Path(frame.source.name).name, frame.number), ())).reshape(-1, 5)
    return boxes


def whole_picture(frame: Frame) -> np.ndarray:
    """One box, the picture itself."""
    height, width = frame.image.shape[:2]
    return np.array([[0, 0, width, height, 1.0]])


def hog() -> Boxes:
    """OpenCV's people detector (histograms of gradients; Dalal & Triggs, CVPR 2005).

    It needs no download and is weak: it sees whole, upright persons that fill at least a fifth of the longer side,
    and now and then something else.
    """
    detector = cv2.HOGDescriptor()
    detector.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def boxes(frame: Frame) -> np.ndarray:
        factor = HOG_SIDE / max(frame.image.shape[:2])
        image = cv2.resize(frame.image, None, fx=factor, fy=factor,
                           interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        windows, weights = detector.detectMultiScale(image, winStride=(8, 8), padding=(16, 16), scale=1.05)
        windows = np.array(windows, np.float64).reshape(-1, 4)
        size = windows[:, 2:]
        inner = np.concatenate((windows[:, :2] + HOG_CUT[:2] * size, HOG_CUT[2:] * size), 1) / factor
        scores = 1 / (1 + np.exp(-np.array(weights, np.float64).reshape(-1, 1)))
        return np.concatenate((inner, scores), 1)
    return boxes
