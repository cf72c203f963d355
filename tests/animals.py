"""A data set as a user may have it: mice seen from above, four keypoints, in the simplest COCO format there is."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

# Along the animal and to its right, in body lengths.
JOINTS = {'nose': (0.55, 0), 'L_Ear': (0.3, -0.17), 'R_Ear': (0.3, 0.17), 'tail_base': (-0.45, 0)}
CATEGORY = dict(id=3, name='mouse', keypoints=list(JOINTS), skeleton=[[1, 2], [1, 3], [2, 4], [3, 4]])
SIZE = (128, 128)


def draw_mouse(image: np.ndarray, rng: np.random.Generator, low: int, high: int) -> np.ndarray:
    """Draw a mouse between the columns `low` and `high`; return its keypoints (4, 2) in pixels."""
    length = rng.uniform(0.42, 0.56) * (high - low)
    middle = np.array([(low + high) / 2, SIZE[1] / 2]) + rng.uniform(-0.12, 0.12, 2) * (high - low)
    angle = rng.uniform(0, 2 * np.pi)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * length
    fur, skin = rng.uniform(20, 235, 3), rng.uniform(20, 235, 3)

    def ellipse(place: tuple[float, float], radii: tuple[float, float], colour: np.ndarray) -> None:
        centre = tuple(np.round((middle + np.array(place) @ axes) * 16).astype(int).tolist())
        size = tuple(np.round(np.array(radii) * length * 16).astype(int).tolist())
        cv2.ellipse(image, centre, size, np.degrees(angle), 0, 360, colour.tolist(), -1, cv2.LINE_AA, 4)

    tail = np.stack([(-0.45 - 0.1 * i, 0.06 * np.sin(i + length)) for i in range(5)]) @ axes + middle
    cv2.polylines(image, [np.round(tail).astype(np.int32)], False, skin.tolist(), max(1, round(length / 16)))
    ellipse((-0.1, 0), (0.38, 0.21), fur)
    ellipse((0.33, 0), (0.24, 0.14), fur)
    for name in ('L_Ear', 'R_Ear'):
        ellipse(JOINTS[name], (0.07, 0.1), skin)
    ellipse(JOINTS['nose'], (0.05, 0.05), skin)
    return middle + np.array(list(JOINTS.values())) @ axes


def make_animals(root: Path, train: int, val: int, seed: int = 0) -> Path:
    """Make annotations/train.json, annotations/val.json and images/ with one or two mice per image."""
    (root / 'annotations').mkdir(parents=True)
    (root / 'images').mkdir()
    for split, first, count in (('train', 1, train), ('val', 1 + train, val)):
        images, annotations = [], []
        for number in range(first, first + count):
            rng = np.random.default_rng([seed, number])
            picture = cv2.resize(rng.uniform(0, 255, (6, 6, 3)).astype(np.float32), SIZE, interpolation=cv2.INTER_CUBIC)
            picture = np.clip(0.5 * picture + 70, 0, 255).astype(np.uint8)
            mice = rng.integers(1, 3)
            for mouse in range(mice):
                joints = draw_mouse(picture, rng, mouse * SIZE[0] // mice, (mouse + 1) * SIZE[0] // mice)
                annotations.append(annotation(len(annotations) + 1, number, joints))
            cv2.imwrite(str(root / 'images' / f'{number}.png'), picture)
            images.append(dict(id=number, file_name=f'{number}.png', width=SIZE[0], height=SIZE[1]))
        content = dict(images=images, annotations=annotations, categories=[CATEGORY])
        (root / 'annotations' / f'{split}.json').write_text(json.dumps(content))
    return root


def annotation(number: int, image: int, joints: np.ndarray) -> dict[str, Any]:
    """Return an entry without area, iscrowd and num_keypoints, as many labelling tools write it."""
    low, high = np.clip(joints.min(0) - 4, 0, SIZE), np.clip(joints.max(0) + 4, 0, SIZE)
    return dict(id=number, image_id=image, category_id=3, bbox=[*low.tolist(), *(high - low).tolist()],
                keypoints=np.concatenate([joints, np.full((4, 1), 2)], 1).ravel().tolist())
