"""Pictures of single persons for the evaluation report: ground truth on the left, prediction on the right."""
from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from src.mmpose.annotations import Annotations
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.image import read_image
from src.prediction.drawing import draw_poses
from src.report.error_analysis import KINDS, Persons

SIDE = 300  # longer side of each of the two views in pixels
GAP = 6
JPEG_QUALITY = 82
KIND_COLOURS = {'good': '#3f9f74', 'jitter': '#e0b93f', 'inversion': '#a463c8', 'swap': '#2f80d0', 'miss': '#d8493f'}


@dataclass(frozen=True)
class Picture:
    """A picture of the page: base64 JPEG of width x height pixels, its alternative text and its caption."""
    jpeg: str
    width: int
    height: int
    alt: str
    caption: str


class PersonPictures:
    """Draws the persons of an analysis."""

    def __init__(self, persons: Persons, info: DatasetInfo, images: Path, annotations: Annotations) -> None:
        self.persons, self.info, self.images, self.annotations = persons, info, images, annotations

    def person(self, row: int) -> Picture:
        """Return ground truth and prediction of one person, with rings around the keypoints that are not good."""
        people = self.persons
        truth, found, labelled = people.truth[row], people.found[row], people.truth[row][:, 2] > 0
        annotation = people.annotations[row]
        name = f'{self._file_name(annotation.image_id)}, annotation {annotation.id}'
        if people.missed[row]:
            nobody = np.zeros((0, *truth.shape))
            return self._picture(annotation.image_id, people.boxes[row], truth[None], nobody, f'{name}: missed',
                                 f'Annotated person without a prediction: {name}')
        counts = [(KINDS[kind], int((people.kinds[row] == kind).sum())) for kind in range(1, len(KINDS))]
        errors = ', '.join(f'{count} {kind}' for kind, count in counts if count) or 'all keypoints good'
        verdict = f'OKS {people.oks[row]:.2f}, score {people.scores[row]:.2f}; {errors}'
        box = _union(people.boxes[row], found[labelled, :2])
        return self._picture(annotation.image_id, box, truth[None], found[None], f'{name}: {verdict}',
                             f'Ground truth (left) and prediction (right), {name}: {verdict}', people.kinds[row])

    def background(self, result: dict[str, Any]) -> Picture:
        """Return a picture of a prediction that is no person."""
        found = np.array(result['keypoints'], np.float64).reshape(-1, 3)
        low, high = found[:, :2].min(0), found[:, :2].max(0)
        box = np.concatenate([low, np.maximum(high - low, 8)])
        name = f'{self._file_name(result["image_id"])}: score {result["score"]:.2f}'
        there = self.persons.truth[[person.image_id == result['image_id'] for person in self.persons.annotations]]
        return self._picture(result['image_id'], box, there, found[None], name,
                             f'Annotated persons (left) and a prediction that is none of them (right), {name}')

    def _file_name(self, image_id: Any) -> str:
        return self.annotations.images[image_id].file_name

    def _picture(self, image_id: Any, box: np.ndarray, truth: np.ndarray, found: np.ndarray, caption: str, alt: str,
                 kinds: np.ndarray | None = None) -> Picture:
        """Return both persons' keypoints (N, K, 3) side by side; with kinds (K,), rings around the predicted."""
        file = str(self.images / self._file_name(image_id))
        image = read_image(file)
        self.annotations.check_size(image_id, image, file)
        views = [self._view(image, box, joints) for joints in (truth, found)]
        if kinds is not None:
            canvas, place = views[1]
            for joint, kind in enumerate(kinds):
                if kind > 0:
                    x, y = np.round(place(found[0, joint, :2])).astype(int).tolist()
                    colour = KIND_COLOURS[KINDS[kind]]
                    bgr = tuple(int(colour[i:i + 2], 16) for i in (5, 3, 1))
                    cv2.circle(canvas, (x, y), 9, (255, 255, 255), 4, cv2.LINE_AA)
                    cv2.circle(canvas, (x, y), 9, bgr, 3, cv2.LINE_AA)
        sheet = np.hstack([views[0][0], np.full((len(views[0][0]), GAP, 3), 128, np.uint8), views[1][0]])
        _, data = cv2.imencode('.jpg', sheet, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return Picture(base64.b64encode(data).decode(), sheet.shape[1], sheet.shape[0], alt, caption)

    def _view(self, image: np.ndarray, box: np.ndarray, joints: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the part of the image around `box` with the persons (N, K, 3), and the map of image points to it."""
        height, width = image.shape[:2]
        margin = 0.12 * box[2:].max()
        left, top = np.clip(np.floor(box[:2] - margin), 0, (width - 2, height - 2)).astype(int)
        right, bottom = np.clip(np.ceil(box[:2] + box[2:] + margin), (left + 2, top + 2), (width, height)).astype(int)
        scale = SIDE / max(right - left, bottom - top)
        size = max(8, round((right - left) * scale)), max(8, round((bottom - top) * scale))
        view = cv2.resize(image[top:bottom, left:right], size,
                          interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)

        def place(points: np.ndarray) -> np.ndarray:
            return (points - (left, top) + 0.5) * scale - 0.5

        moved = np.concatenate([place(joints[..., :2]), joints[..., 2:]], 2)
        # Keypoints of low score are judged like the others, so they are drawn.
        return draw_poses(view, moved, self.info.skeleton, self.info.joint_names, score_threshold=0), place


def _union(box: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return `box` (x, y, width, height) grown to hold the points (N, 2), by half its longer side at most."""
    reach = 0.5 * box[2:].max()
    low = np.clip(points.min(0), box[:2] - reach, box[:2])
    high = np.clip(points.max(0), box[:2] + box[2:], box[:2] + box[2:] + reach)
    return np.concatenate([low, high - low])


def choose(persons: Persons, count: int) -> dict[str, list[int]]:
    """Return the rows of the persons to show: best and worst of those found, the largest missed, `count` of each.

    Best are taken from those with at least half of their keypoints labelled, as long as there are any.
    """
    found, missed = np.flatnonzero(~persons.missed), np.flatnonzero(persons.missed)
    order = found[np.argsort(persons.oks[found], kind='stable')]
    full = order[(persons.truth[order][:, :, 2] > 0).mean(1) >= 0.5]
    best = (full if len(full) else order)[::-1][:count]
    worst = [row for row in order if row not in set(best.tolist())][:count]
    size = persons.boxes[missed, 2:].prod(1)
    return {'best': best.tolist(), 'worst': [int(row) for row in worst],
            'missed': missed[np.argsort(-size, kind='stable')][:count].tolist()}
