"""Detectors, which say where the persons in a frame are: a file of boxes, the whole image, OpenCV's HOG detector."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json, numbers
from src.mmpose.annotations import MAX_COORDINATE
from src.prediction.matching import match_names
from src.prediction.sources import Frame, Source

MIN_SCORE = 0.3  # of a detector's boxes, unless the user says otherwise
HOG_SIDE = 640  # pixels: images are scaled to this before the search
HOG_MARGIN = 16  # pixels added on each side of the image
# The detector's window has a margin around the person: what OpenCV's example program cuts off.
HOG_CUT = np.array([0.1, 0.07, 0.8, 0.8])  # left and top, then new size, as shares of the window


class Boxes(NamedTuple):
    """The boxes of the persons in a frame."""
    values: np.ndarray  # float64 (N, 5) x, y, width, height in pixels, score
    categories: Sequence[Any]  # N category ids; None where the detector gives none


Detector = Callable[[Frame], Boxes]


class BoxFile:
    """The boxes of a detector's COCO result file, as a detector that counts what it has no use for.

    Entries have `bbox`, `score` and, if there is more than one kind, `category_id`. They name their image by
    `file_name` or by the `image_id` of an annotation file; in a video also by `frame`, which counts from 0.
    """

    def __init__(self, file: Path, sources: Sequence[Source], names: dict[Any, str], categories: Collection[Any] | None,
                 score_threshold: float) -> None:
        """Read the file.

        Args:
            file: list of dicts in JSON.
            names: file names of an annotation file by image id; {} where there is none.
            categories: ids of those to take; None where that is not known: then there may be one in the file.

        Raises:
            InputError: the file is missing or of another kind, a box names no image, or it is not clear which one or
                whose box it is.
        """
        self._file, self._found = file, defaultdict(list)
        self._unused: dict[str, list[str]] = defaultdict(list)  # what the boxes left out are of, by reason
        self._used: set[tuple[tuple[str, ...], int | None]] = set()
        content = load_json(file)
        if not isinstance(content, list):
            raise InputError(f'{file}: not a list of detections; give a COCO result file')
        self._count, image_names = len(content), []
        for number, entry in enumerate(content):
            with as_input_error(file, f'detection {number}'):
                image_names.append(entry.get('file_name') or names.get(entry.get('image_id')))
                if not isinstance(image_names[-1], (str, type(None))):
                    raise TypeError(f'its file_name is {image_names[-1]!r}')
                if image_names[-1] is None and not names:
                    raise InputError(f'{file}: detection {number} has no file_name; give --annotations, whose images '
                                     'have the image ids')
        matches = match_names(filter(None, image_names), sources, file)
        wanted = self._wanted(categories, [entry.get('category_id') for entry, name in zip(content, image_names)
                                           if name in matches])
        for number, (entry, name) in enumerate(zip(content, image_names)):
            with as_input_error(file, f'detection {number}'):
                self._add(entry, matches.get(name, []), wanted, score_threshold)

    def _wanted(self, categories: Collection[Any] | None, present: Sequence[Any]) -> dict[str, Any]:
        """Return the categories to take by their text, as files may have numbers as texts."""
        if categories is None:
            categories = [key for key in dict.fromkeys(map(str, present)) if key != 'None']
            if len(categories) > 1:
                raise InputError(f'{self._file}: has boxes of the categories {", ".join(categories)}, and the model '
                                 'is for an unknown one; give --annotations, whose categories have its keypoints')
            categories = [key for key in present if key is not None][:1]
        return {str(key): key for key in categories}

    def _add(self, entry: dict[str, Any], sources: Sequence[Source], wanted: dict[str, Any], threshold: float) -> None:
        box, score, category = numbers(entry['bbox'], 4), float(entry['score']), entry.get('category_id')
        frame = None if entry.get('frame') is None else float(entry['frame'])
        if frame is not None and not frame.is_integer():
            raise ValueError(f'its frame is {entry["frame"]!r}')
        place = entry.get('file_name') or f'image {entry["image_id"]!r}'
        if not sources:
            self._unused['fit no input'].append(place)
        elif category is not None and str(category) not in wanted:
            self._unused[f'of another category than {", ".join(wanted)}'].append(f'category {category}')
        elif not ((np.abs([*box, score]) <= MAX_COORDINATE).all() and (box[2:] > 0).all()):
            self._unused['empty or not finite'].append(place)
        elif score < threshold:
            self._unused[f'scored below {threshold:g}'].append(place)
        else:
            for parts in {source.parts for source in sources}:
                self._found[parts, frame].append(([*box, score], wanted.get(str(category))))

    def __call__(self, frame: Frame) -> Boxes:
        key = frame.source.parts, frame.number
        self._used.add(key)
        values, categories = zip(*self._found[key]) if key in self._found else ((), ())
        return Boxes(np.array(values, np.float64).reshape(-1, 5), categories)

    def remarks(self, sources: Collection[Source]) -> str:
        """Return one line about the boxes that were not used; '' where all were.

        Args:
            sources: which were read to their end, so that all their frames are known.
        """
        if not self._count:
            return f'{self._file}: holds no box'
        known, unused = {source.parts for source in sources}, dict(self._unused)
        lost = [f'{parts[-1]}, ' + ('no frame given' if frame is None else f'frame {frame:g}')
                for (parts, frame), boxes in self._found.items() for _ in boxes
                if parts in known and (parts, frame) not in self._used]
        if lost:
            unused['fit no frame that was looked at'] = lost
        reasons = ', '.join(f'{len(places)} {reason} ({places[0]})' for reason, places in unused.items())
        count = sum(map(len, unused.values()))
        return f'{self._file}: {count} of {self._count} boxes not used: {reasons}' if unused else ''


def whole_image(frame: Frame) -> Boxes:
    """Return one box, the image itself."""
    height, width = frame.image.shape[:2]
    return Boxes(np.array([[0, 0, width, height, 1.0]]), [None])


def hog_detector() -> Detector:
    """Return OpenCV's people detector (histograms of gradients; Dalal & Triggs, CVPR 2005).

    It needs no download and is weak: it sees whole, upright persons that fill at least a fifth of the longer side,
    and now and then something else.
    """
    hog = cv2.HOGDescriptor()
    hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def detect(frame: Frame) -> Boxes:
        factor = HOG_SIDE / max(frame.image.shape[:2])
        height, width = (max(1, round(side * factor)) for side in frame.image.shape[:2])
        if width < hog.winSize[0] - 2 * HOG_MARGIN or height < hog.winSize[1] - 2 * HOG_MARGIN:
            return Boxes(np.zeros((0, 5)), [])  # no window fits, and OpenCV writes where it must not
        image = cv2.resize(frame.image, (width, height),
                           interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        windows, weights = hog.detectMultiScale(image, winStride=(8, 8), padding=(HOG_MARGIN, HOG_MARGIN), scale=1.05)
        windows = np.array(windows, np.float64).reshape(-1, 4)
        size = windows[:, 2:]
        inner = np.concatenate((windows[:, :2] + HOG_CUT[:2] * size, HOG_CUT[2:] * size), 1) / factor
        scores = 1 / (1 + np.exp(-np.array(weights, np.float64).reshape(-1, 1)))
        return Boxes(np.concatenate((inner, scores), 1), [None] * len(inner))
    return detect
