"""What all MPII configurations share. A configuration module calls `mpii_config` with what differs.

Keypoints, mirror pairs and limbs are those of MPII Human Pose (Andriluka et al., CVPR 2014); sigmas, upper body as in
MMPose's dataset info. Files, relative to --data_root: MMPose's annotations/mpii_{train,val}.json,
annotations/mpii_gt_val.mat (the ground truth of PCKh) and images/.
"""
from __future__ import annotations

from typing import Any

from configs.base import RECIPES, base_config

dataset_info = dict(
    name='mpii',
    joint_names=('right_ankle', 'right_knee', 'right_hip', 'left_hip', 'left_knee', 'left_ankle', 'pelvis', 'thorax',
                 'upper_neck', 'head_top', 'right_wrist', 'right_elbow', 'right_shoulder', 'left_shoulder',
                 'left_elbow', 'left_wrist'),
    flip_pairs=((5, 0), (4, 1), (3, 2), (15, 10), (14, 11), (13, 12)),
    skeleton=((0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (8, 12), (12, 11), (11, 10),
              (8, 13), (13, 14), (14, 15)),
    sigmas=(0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026, 0.062, 0.072, 0.179, 0.179, 0.072,
            0.062),
    upper_body=tuple(range(7, 16)),
)

DATA = dict(
    type='mpii', info=dataset_info,
    train_annotations='annotations/mpii_train.json', train_images='images',
    val_annotations='annotations/mpii_val.json', val_images='images', val_truth='annotations/mpii_gt_val.mat')


def mpii_config(network: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of one model at 256x256; `network` is one of the network dicts of `configs.base`."""
    config = base_config(network, DATA, image_size=(256, 256), shift=False, half_body=False, boxes='gt', nms='none')
    config['recipes']['paper'] = {**RECIPES['paper'], 'train.batch_size': 32}
    return config
