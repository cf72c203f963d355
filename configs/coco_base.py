"""What all COCO configurations share. A configuration module calls `coco_config` with what differs.

The pipelines are lists of dicts with MMPose 0.x names and arguments, so one from an MMPose config can be pasted in.
"""
from __future__ import annotations

from typing import Any

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

LITE_18 = dict(module='LITE', stage_modules=(2, 4, 2), stage_channels=(40, 80, 160, 320))
LITE_30 = dict(module='LITE', stage_modules=(3, 8, 3), stage_channels=(40, 80, 160, 320))
NAIVE_18 = dict(module='NAIVE', stage_modules=(2, 4, 2), stage_channels=(30, 60, 120, 240))
WIDER_NAIVE_18 = dict(module='NAIVE', stage_modules=(2, 4, 2), stage_channels=(40, 80, 160, 320))

IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def train_pipeline(sigma: float, *, rot_factor: float = 30, scale_factor: float = 0.25) -> list[dict[str, Any]]:
    """Augmentation and Gaussian targets; `sigma` in heatmap pixels."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='TopDownGetBboxCenterScale', padding=1.25),
        dict(type='TopDownRandomFlip', flip_prob=0.5),
        dict(type='TopDownHalfBodyTransform', num_joints_half_body=8, prob_half_body=0.3),
        dict(type='TopDownGetRandomScaleRotation', rot_factor=rot_factor, scale_factor=scale_factor),
        dict(type='TopDownAffine'),
        dict(type='ToTensor'),
        dict(type='NormalizeTensor', **IMAGENET),
        dict(type='TopDownGenerateTarget', sigma=sigma),
        dict(type='Collect', keys=('img', 'target', 'target_weight'), meta_keys=()),
    ]


def val_pipeline() -> list[dict[str, Any]]:
    """The crop as it is, normalised."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='TopDownGetBboxCenterScale', padding=1.25),
        dict(type='TopDownAffine'),
        dict(type='ToTensor'),
        dict(type='NormalizeTensor', **IMAGENET),
        dict(type='Collect', keys=('img',), meta_keys=('image_id', 'bbox_id', 'center', 'scale', 'bbox_score')),
    ]


def coco_config(network: dict[str, Any], *, image_size: tuple[int, int], sigma: float = 2,
                batch_size: int = 64) -> dict[str, Any]:
    """The whole configuration of one model.

    Args:
        network: one of the network dicts above.
        image_size: (width, height) of the crop in pixels; heatmaps are a quarter of it.
        sigma: of the Gaussian targets, heatmap pixels.
        batch_size: samples per device.
    """
    width, height = image_size
    return dict(
        model=dict(network, num_joints=len(dataset_info['joint_names'])),
        data=dict(
            type='coco', info=dataset_info, image_size=image_size, heatmap_size=(width // 4, height // 4),
            train_annotations='annotations/person_keypoints_train2017.json', train_images='train2017',
            val_annotations='annotations/person_keypoints_val2017.json', val_images='val2017',
            detections='person_detection_results/COCO_val2017_detections_AP_H_56_person.json'),
        train_pipeline=train_pipeline(sigma),
        val_pipeline=val_pipeline(),
        train=dict(
            epochs=210, batch_size=batch_size, optimizer='AdamWeightDecay', lr_steps=(170, 200), lr_gamma=0.1,
            warmup_steps=500, warmup_ratio=0.001),
        eval=dict(
            boxes='det', score_threshold=0.0, batch_size=32, flip_test=True, shift_heatmap=True, decoding='default',
            blur_kernel=11 if sigma == 2 else 17, visibility_threshold=0.2, nms='hard', oks_threshold=0.9,
            backend='auto'),
        # Selected by experiment_cfg['recipe']; each entry overrides a key of experiment_cfg or, dotted, of this dict.
        recipes=dict(
            seed={},
            # The paper's: Adam, 2e-3 for 8 devices together; 0.648 / 0.672 AP with the 18 / 30 at 256x192.
            paper={'learning_rate': 2e-3 / 8, 'weight_decay': 0.0, 'train.optimizer': 'Adam'}),
    )
