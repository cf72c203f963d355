"""What all COCO configurations share. A configuration module calls `coco_config` with what differs."""
from __future__ import annotations

from typing import Any

from configs.base import base_config

dataset_info = dict(
    name='coco',
    joint_names=('nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
                 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip', 'left_knee',
                 'right_knee', 'left_ankle', 'right_ankle'),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    skeleton=((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9),
              (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    sigmas=(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
            0.089, 0.089),
    upper_body=tuple(range(11)),
)

DATA = dict(
    type='coco', info=dataset_info,
    train_annotations='annotations/person_keypoints_train2017.json', train_images='train2017',
    val_annotations='annotations/person_keypoints_val2017.json', val_images='val2017',
    detections='person_detection_results/COCO_val2017_detections_AP_H_56_person.json')


def coco_config(network: dict[str, Any], *, image_size: tuple[int, int], **settings: Any) -> dict[str, Any]:
    """Return the configuration of one model; arguments as for `base_config`."""
    return base_config(network, DATA, image_size=image_size, half_body=True, boxes='det', nms='hard', **settings)


def small_config(network: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """Return the configuration of a network of our own with 128x96 input.

    A person has few pixels there: boxes are not padded, and keypoints lie between pixels (docs/parity.md has the gain).
    """
    return coco_config(network, image_size=(96, 128), sigma=1, unbiased=True, decoding='dark', padding=1.0,
                       batch_size=batch_size)
