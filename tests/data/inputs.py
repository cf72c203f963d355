"""Inputs of the reference numbers, by formula: weights, images, persons, heatmaps, and candidates to be scored.

numpy alone, so that the reference's Python reads the same file; `RandomState` gives the same numbers in all releases.
"""
from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from configs.coco_base import dataset_info

SIZE, HEATMAP_SIZE = (96, 128), (24, 32)  # width, height
NETWORKS = ('litehrnet_18_coco_128x96', 'naive_litehrnet_18_coco_256x192', 'litehrnet_30_coco_256x192',
            'wider_naive_litehrnet_18_coco_256x192')
KEYPOINTS = len(dataset_info['joint_names'])
# A standing person, as fractions of the box, in COCO's order.
POSE = np.array([(.5, .08), (.54, .06), (.46, .06), (.58, .07), (.42, .07), (.66, .22), (.34, .22), (.75, .38),
                 (.25, .38), (.72, .53), (.28, .53), (.6, .52), (.4, .52), (.62, .74), (.38, .74), (.62, .95),
                 (.38, .95)])


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the float32 value of a state dict's entry, from its official name.

    The scale of 0.6 of the BN weights keeps the signal's size: every fusion doubles it.
    """
    random, leaf = np.random.RandomState(zlib.crc32(key.encode()) & 0x7fffffff), key.rpartition('.')[2]
    normal = random.standard_normal(shape)
    if len(shape) == 4:
        value = normal * np.sqrt(2 / np.prod(shape[1:]))
    elif leaf == 'running_var':
        value = random.uniform(0.5, 1.5, shape)
    else:
        value = 0.1 * normal + (0.6 if leaf == 'weight' else 0)
    return np.asarray(value, np.float32)


def network_input() -> np.ndarray:
    """Return one image for inference, float32 (1, 3, H, W)."""
    return np.random.RandomState(0).randn(1, 3, *SIZE[::-1]).astype(np.float32)


def training_batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images (4, 3, H, W), target heatmaps (4, K, h, w) and target weights (4, K, 1), float32."""
    images = np.random.RandomState(1).randn(4, 3, *SIZE[::-1])
    target = np.random.RandomState(2).rand(4, KEYPOINTS, *HEATMAP_SIZE[::-1])
    target_weight = np.random.RandomState(3).rand(4, KEYPOINTS, 1) > 0.3
    return images.astype(np.float32), target.astype(np.float32), target_weight.astype(np.float32)


def image() -> np.ndarray:
    """Return an image uint8 (240, 320, 3) of ramps in three directions."""
    y, x = np.mgrid[:240, :320]
    ramps = [np.abs((a * x + b * y) % 510 - 255) for a, b in ((3, 1), (1, 2), (5, -4))]
    return np.stack(ramps, -1).astype(np.uint8)


def persons() -> list[dict[str, Any]]:
    """Return four persons of `image()` as MMPose's records; the last two are cut by its border."""
    random, records = np.random.RandomState(4), []
    for box in ((30.5, 20.25, 80, 160), (120, 150, 40, 60), (250, 10, 69, 225), (0, 180, 150, 59)):
        joints = np.zeros((KEYPOINTS, 3), np.float32)
        joints[:, :2] = box[:2] + (POSE + random.normal(0, 0.02, POSE.shape)) * box[2:]
        visible = np.zeros((KEYPOINTS, 3), np.float32)
        visible[:, :2] = random.rand(KEYPOINTS, 1) > 0.2
        records.append(dict(bbox=np.array(box), joints_3d=joints * (visible > 0), joints_3d_visible=visible))
    return records


AUGMENTATIONS = ((True, 0.0, 1.0), (False, 30.0, 0.8), (True, -45.0, 1.25), (True, 71.5, 1.1))  # flip, degrees, zoom


def border_keypoints() -> np.ndarray:
    """Return points (8, K, 3) float32 in crop pixels within, at and beyond the crop's border."""
    points = np.random.RandomState(5).uniform(-40, 40 + np.array(SIZE), (8, KEYPOINTS, 2))
    return np.concatenate([points, np.zeros((8, KEYPOINTS, 1))], -1).astype(np.float32)


def heatmaps() -> np.ndarray:
    """Return maps (4, K, h, w) float32: noisy double peaks; the last sample begins with flat, tied and edge maps."""
    random = np.random.RandomState(6)
    y, x = np.mgrid[:HEATMAP_SIZE[1], :HEATMAP_SIZE[0]]

    def peak() -> np.ndarray:
        a, b = random.uniform((-1, -1), HEATMAP_SIZE)
        return random.uniform(0.3, 1) * np.exp(-((x - a) ** 2 + (y - b) ** 2) / random.uniform(5, 12))

    maps = np.array([[peak() + 0.5 * peak() for _ in range(KEYPOINTS)] for _ in range(4)])
    maps += random.normal(0, 0.002, maps.shape)
    maps[3, 0] = 0
    maps[3, 1] = -maps[3, 1] - 1
    maps[3, 2] = 0.1
    maps[3, 2, (9, 9), (4, 20)] = 0.7
    maps[3, 3:7] = 0
    maps[3, range(3, 7), (0, 31, 15, 1), (11, 23, 0, 1)] = 0.9
    return maps.astype(np.float32)


def crops() -> tuple[np.ndarray, np.ndarray]:
    """Return centres (4, 2) in pixels and scales (4, 2) in units of 200 pixels, of the crops behind `heatmaps()`."""
    random = np.random.RandomState(7)
    center, scale = random.uniform(50, 300, (4, 2)), random.uniform(0.3, 2, (4, 1)) * (0.75, 1)
    return center.astype(np.float32), scale.astype(np.float32)


def ground_truth() -> dict[str, Any]:
    """Return COCO annotations: six images of one to four persons, a crowd region, and a person without keypoints."""
    random, images, annotations = np.random.RandomState(8), [], []
    for image_id in range(11, 17):
        images.append(dict(id=image_id, file_name=f'{image_id}.jpg', width=640, height=480))
        for _ in range(1 + image_id % 4):
            size = random.uniform((40, 90), (150, 300))
            box = np.concatenate([random.uniform((0, 0), (640, 480) - size), size]).round(1)
            points = box[:2] + (POSE + random.normal(0, 0.03, POSE.shape)) * box[2:]
            flags = random.choice(3, (KEYPOINTS, 1), p=(0.2, 0.2, 0.6))
            annotations.append(dict(
                id=len(annotations) + 1, image_id=image_id, category_id=1, iscrowd=0, bbox=box.tolist(),
                area=float(0.6 * box[2] * box[3]), num_keypoints=int((flags > 0).sum()),
                keypoints=np.hstack([points.round(1) * (flags > 0), flags]).ravel().tolist()))
    annotations[2].update(num_keypoints=0, keypoints=[0] * 3 * KEYPOINTS)
    annotations[5].update(iscrowd=1, num_keypoints=0, keypoints=[0] * 3 * KEYPOINTS,
                          segmentation=dict(size=[480, 640], counts=[480 * 640]))
    names = list(dataset_info['joint_names'])
    return dict(info={}, licenses=[], images=images, annotations=annotations,
                categories=[dict(id=1, name='person', supercategory='person', keypoints=names, skeleton=[])])


def candidates() -> dict[str, np.ndarray]:
    """Return shuffled predictions for `ground_truth()`: `preds` (N, K, 3), `boxes` (N, 6), `image_id`, `bbox_id` (N).

    Six of each person, from near to far; the last three repeat the `bbox_id` of others. A box is centre x, y, scale
    w, h in units of 200 pixels, area, score.
    """
    random, rows = np.random.RandomState(9), []
    for annotation in ground_truth()['annotations']:
        x, y, w, h = annotation['bbox']
        for spread in (0.01, 0.015, 0.02, 0.03, 0.05, 0.08):
            points = (x, y) + (POSE + random.normal(0, spread, POSE.shape)) * (w, h)
            scores = random.uniform(0.05, 1, (KEYPOINTS, 1))
            scale = np.array((w, h)) * random.uniform(0.9, 1.4) / 200
            box = (x + w / 2, y + h / 2, *scale, np.prod(scale * 200), random.rand())
            rows.append((np.hstack([points, scores]), box, annotation['image_id'], len(rows)))
    rows = [rows[index] for index in random.permutation(len(rows))]
    rows += [(preds + 5, boxes, image_id, bbox_id) for preds, boxes, image_id, bbox_id in rows[:3]]
    preds, boxes, image_ids, bbox_ids = map(np.array, zip(*rows))
    return dict(preds=preds.astype(np.float32), boxes=boxes.astype(np.float32), image_id=image_ids, bbox_id=bbox_ids)
