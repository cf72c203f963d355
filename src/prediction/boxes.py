"""Detectors, which say where the persons in a frame are: a file of boxes, the whole image, OpenCV's HOG detector."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json, numbers
from src.mmpose.annotations import PERSON
from src.prediction.sources import Frame

Detector = Callable[[Frame], np.ndarray]  # (N, 5) x, y, width, height in pixels, score

HOG_SIDE = 640  # pixels: images are scaled to this before the search
# The detector's window has a margin around the person: what OpenCV's example program cuts off.
HOG_CUT = np.array([0.1, 0.07, 0.8, 0.8])  # left and top, then new size, as shares of the window


def read_image_ids(annotations: Path) -> dict[str, Any]:
    """Return {file name without folders: image id} of a COCO annotation file.

    Raises:
        InputError: the file is missing or of another kind.
    """
    with as_input_error(annotations, 'the file'):
        return {Path(image['file_name']).name: image['id'] for image in load_json(annotations)['images']}


def read_boxes(file: Path, ids: dict[str, Any], score_threshold: float) -> Detector:
    """Return the boxes of a detector's COCO result file as a detector.

    Its entries name their image by `image_id` (where `ids` has it) or by `file_name`; in a video also by `frame`,
    which counts from 0.

    Args:
        file: list of dicts with `bbox`, `score` and, if there is more than one kind, `category_id` (1: person).
        ids: see `read_image_ids`; {} where there are none.
        score_threshold: boxes of a lower score are omitted.

    Raises:
        InputError: the file is missing or of another kind, or a box names no image.
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

    def detect(frame: Frame) -> np.ndarray:
        return np.array(found.get((Path(frame.source.name).name, frame.number), ())).reshape(-1, 5)
    return detect


def whole_image(frame: Frame) -> np.ndarray:
    """Return one box, the image itself."""
    height, width = frame.image.shape[:2]
    return np.array([[0, 0, width, height, 1.0]])


def hog_detector() -> Detector:
    """Return OpenCV's people detector (histograms of gradients; Dalal & Triggs, CVPR 2005).

    It needs no download and is weak: it sees whole, upright persons that fill at least a fifth of the longer side,
    and now and then something else.
    """
    hog = cv2.HOGDescriptor()
    hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def detect(frame: Frame) -> np.ndarray:
        factor = HOG_SIDE / max(frame.image.shape[:2])
        image = cv2.resize(frame.image, None, fx=factor, fy=factor,
                           interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        windows, weights = hog.detectMultiScale(image, winStride=(8, 8), padding=(16, 16), scale=1.05)
        windows = np.array(windows, np.float64).reshape(-1, 4)
        size = windows[:, 2:]
        inner = np.concatenate((windows[:, :2] + HOG_CUT[:2] * size, HOG_CUT[2:] * size), 1) / factor
        scores = 1 / (1 + np.exp(-np.array(weights, np.float64).reshape(-1, 1)))
        return np.concatenate((inner, scores), 1)
    return detect
