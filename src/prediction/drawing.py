"""Skeletons drawn on images, and many images laid out on one sheet."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.image import read_image
from src.mmpose.sides import side_of

LEFT, RIGHT, MIDDLE = (0, 140, 255), (255, 110, 30), (80, 220, 80)  # BGR: orange, blue, green


@functools.cache
def _colour(*names: str) -> tuple[int, int, int]:
    """Return the colour of a keypoint or limb: that of its side, the middle's where it belongs to both or none."""
    sides = {side_of(name) for name in names} - {None}
    return MIDDLE if len(sides) != 1 else LEFT if 'left' in sides else RIGHT


def draw_poses(image: np.ndarray, keypoints: np.ndarray, skeleton: Sequence[tuple[int, int]],
               joint_names: Sequence[str], score_threshold: float = 0.2) -> np.ndarray:
    """Return a new image with persons' keypoints and limbs: left orange, right blue, what is between them green.

    Line widths follow the size of each person.

    Args:
        image: (H, W, 3) uint8, BGR, as is the result.
        keypoints: (N, K, 3) x and y in pixels and a score (or a visibility); N may be 0.
        skeleton: pairs of keypoint numbers.
        joint_names: K names, which tell the side (`left_eye`, `R_Paw`).
        score_threshold: keypoints with a score not above it are omitted, and limbs that end in one.
    """
    canvas = image.copy()
    for person in keypoints:
        confident = person[:, 2] > score_threshold
        if not confident.any():
            continue
        width = max(1, round(float(np.ptp(person[confident, :2], axis=0).max()) / 80))
        points = np.round(person[:, :2] * 16).astype(int).tolist()
        for start, end in skeleton:
            if confident[start] and confident[end]:
                colour = _colour(joint_names[start], joint_names[end])
                cv2.line(canvas, points[start], points[end], colour, width, cv2.LINE_AA, shift=4)
        for index in np.flatnonzero(confident):
            cv2.circle(canvas, points[index], (width + 2) * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
            cv2.circle(canvas, points[index], (width + 1) * 16, _colour(joint_names[index]), -1, cv2.LINE_AA, shift=4)
    return canvas


@dataclass(frozen=True)
class Style:
    """How persons are drawn on frames."""
    min_score: float = 0.3  # keypoints with a score not above it are omitted
    black_background: bool = False  # draw on black in place of the frame
    labels: bool = False  # write the number of persons on each frame, and at each person of a video its track_id

    def draw(self, image: np.ndarray, persons: Sequence[dict[str, Any]], info: DatasetInfo) -> np.ndarray:
        """Return a new image with persons, which are results of keypoints such as `info` describes."""
        keypoints = np.array([person['keypoints'] for person in persons], np.float32).reshape(-1, info.num_joints, 3)
        canvas = draw_poses(np.zeros_like(image) if self.black_background else image, keypoints, info.skeleton,
                            info.joint_names, self.min_score)
        if self.labels:
            side = min(image.shape[:2])
            _write_text(canvas, f'{len(persons)} person{"s" * (len(persons) != 1)}', (side // 40, side // 12), side)
            for person, points in zip(persons, keypoints):
                shown = points[points[:, 2] > self.min_score]
                if 'track_id' in person and len(shown):
                    top = shown[shown[:, 1].argmin()]
                    _write_text(canvas, str(person['track_id']), (int(top[0]), int(top[1]) - side // 60), side)
        return canvas


def _write_text(canvas: np.ndarray, text: str, place: tuple[int, int], side: int) -> None:
    """Write white text with a black rim; `place` is its lower left corner, `side` the image's shorter side."""
    for colour, rim in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, side / 600 + 0.2, colour, rim * max(1, side // 500),
                    cv2.LINE_AA)


def contact_sheet(images: Sequence[np.ndarray], columns: int, tile_size: tuple[int, int]) -> np.ndarray:
    """Return images laid out row by row, each scaled to fit its tile and centred on grey, as one uint8 image.

    Args:
        images: at least one (H, W, 3) uint8 image, of any sizes.
        tile_size: width and height of a tile in pixels.
    """
    width, height = tile_size
    sheet = np.full((-(-len(images) // columns) * height, columns * width, 3), 128, np.uint8)
    for index, image in enumerate(images):
        scale = min(width / image.shape[1], height / image.shape[0])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        tile = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        row, column = divmod(index, columns)
        left, top = column * width + (width - size[0]) // 2, row * height + (height - size[1]) // 2
        sheet[top:top + size[1], left:left + size[0]] = tile
    return sheet


def draw_results(results: Sequence[dict[str, Any]], image_files: dict[Any, Path], info: DatasetInfo, columns: int,
                 score_threshold: float) -> np.ndarray:
    """Return one sheet of images with the persons found in them, in the order of the results.

    Args:
        results: at least one, in COCO's format.
        image_files: by image id; the images to draw.

    Raises:
        InputError: an image can't be read.
    """
    persons: dict[Any, list[np.ndarray]] = {}
    for result in results:
        if result['image_id'] in image_files:
            persons.setdefault(result['image_id'], []).append(np.reshape(result['keypoints'], (info.num_joints, 3)))
    images = [draw_poses(read_image(str(image_files[image_id])), np.array(found, np.float32), info.skeleton,
                         info.joint_names, score_threshold) for image_id, found in persons.items()]
    return contact_sheet(images, min(columns, len(images)), (320, 320))
