"""What all configurations share: networks, pipelines, training and evaluation settings.

The pipelines are lists of dicts with MMPose 0.x names and arguments, so one from an MMPose config can be pasted in.
"""
from __future__ import annotations

from typing import Any

LITE_18 = dict(module='LITE', stage_modules=(2, 4, 2), stage_channels=(40, 80, 160, 320))
LITE_30 = dict(module='LITE', stage_modules=(3, 8, 3), stage_channels=(40, 80, 160, 320))
NAIVE_18 = dict(module='NAIVE', stage_modules=(2, 4, 2), stage_channels=(30, 60, 120, 240))
WIDER_NAIVE_18 = dict(module='NAIVE', stage_modules=(2, 4, 2), stage_channels=(40, 80, 160, 320))

IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
# Selected by experiment_cfg['recipe']; each entry overrides a key of experiment_cfg or, dotted, of a configuration. A
# function gives the value in place of the one there; where the pipeline has no such step, it is not asked.
RECIPES: dict[str, dict[str, Any]] = dict(
    seed={},
    # The authors': Adam, 2e-3 for 8 devices in all.
    paper={'learning_rate': 2e-3 / 8, 'weight_decay': 0.0, 'train.optimizer': 'Adam'},
    # For one device and few passes over few data, from scratch or from trained weights; chosen by measurement, see
    # docs/parity.md.
    short={'learning_rate': 2e-3, 'weight_decay': 0.0, 'train.optimizer': 'Adam', 'train.schedule': 'cosine',
           'train.batch_size': 32, 'train.epochs': 30, 'train.warmup_steps': 100,
           'train_pipeline.TopDownGetRandomScaleRotation.rot_factor': lambda degrees: degrees / 3,
           'train_pipeline.TopDownGetRandomScaleRotation.scale_factor': lambda zoom: 0.6 * zoom,
           'train_pipeline.TopDownRandomShiftBboxCenter.prob': lambda prob: 0.0,
           'train_pipeline.TopDownRandomTranslation.trans_prob': lambda prob: 0.0,
           'train_pipeline.TopDownHalfBodyTransform.prob_half_body': lambda prob: 0.0})

SHIFT = dict(type='TopDownRandomShiftBboxCenter', shift_factor=0.16, prob=0.3)
HALF_BODY = dict(type='TopDownHalfBodyTransform', num_joints_half_body=8, prob_half_body=0.3)


def train_pipeline(target: dict[str, Any], padding: float, *, shift: bool, half_body: bool, rotation: float,
                   zoom: float) -> list[dict[str, Any]]:
    """Return augmentation and Gaussian targets by TopDownGenerateTarget(**target); the rest as for `base_config`."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='TopDownGetBboxCenterScale', padding=padding),
        *([dict(SHIFT)] if shift else []),
        dict(type='TopDownRandomFlip', flip_prob=0.5),
        *([dict(HALF_BODY)] if half_body else []),
        dict(type='TopDownGetRandomScaleRotation', rot_factor=rotation, scale_factor=zoom),
        dict(type='TopDownAffine'),
        dict(type='ToTensor'),
        dict(type='NormalizeTensor', **IMAGENET),
        dict(type='TopDownGenerateTarget', **target),
        dict(type='Collect', keys=('img', 'target', 'target_weight'), meta_keys=()),
    ]


def val_pipeline(padding: float) -> list[dict[str, Any]]:
    """Return the normalised crop, without augmentation."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='TopDownGetBboxCenterScale', padding=padding),
        dict(type='TopDownAffine'),
        dict(type='ToTensor'),
        dict(type='NormalizeTensor', **IMAGENET),
        dict(type='Collect', keys=('img',), meta_keys=('image_id', 'bbox_id', 'center', 'scale', 'bbox_score')),
    ]


def base_config(network: dict[str, Any], data: dict[str, Any], *, image_size: tuple[int, int], sigma: float = 2,
                unbiased: bool = False, batch_size: int = 64, padding: float = 1.25, shift: bool = True,
                half_body: bool, rotation: float = 30, zoom: float = 0.25, boxes: str, nms: str,
                decoding: str = 'default') -> dict[str, Any]:
    """Return the configuration of one model.

    Args:
        network: one of the network dicts above.
        data: type and info of the data set (None: read from the annotations), and its files relative to the data root.
        image_size: (width, height) of the crop in pixels; heatmaps are a quarter of it.
        sigma: of the Gaussian targets, heatmap pixels.
        unbiased: whether they stand on the keypoint itself in place of its pixel.
        batch_size: samples per device.
        padding: boxes are enlarged by it.
        shift: whether to move the window at random; MMPose does so in all sets but MPII.
        half_body: whether to use half-body augmentation.
        rotation, zoom: spread of the random rotations, in degrees, and of the random sizes.
        boxes: the default of evaluation: 'det' or 'gt'.
        nms: among the persons of an image: 'hard', 'soft' or 'none'.
        decoding: how heatmaps become coordinates: 'none', 'default', 'dark', 'udp' or 'megvii'.
    """
    width, height = image_size
    target = dict(sigma=sigma, unbiased_encoding=True) if unbiased else dict(sigma=sigma)
    names = (data['info'] or {}).get('joint_names')
    return dict(
        model=dict(network, num_joints=len(names) if names else None),
        data=dict(data, image_size=image_size, heatmap_size=(width // 4, height // 4)),
        train_pipeline=train_pipeline(target, padding, shift=shift, half_body=half_body, rotation=rotation, zoom=zoom),
        val_pipeline=val_pipeline(padding),
        train=dict(
            epochs=210, batch_size=batch_size, optimizer='AdamWeightDecay', schedule='step', lr_steps=(170, 200),
            lr_gamma=0.1, warmup_steps=500, warmup_ratio=0.001),
        eval=dict(
            boxes=boxes, score_threshold=0.0, batch_size=32, flip_test=True, shift_heatmap=None, decoding=decoding,
            blur_kernel=min(11, 6 * round(sigma) - 1), visibility_threshold=0.2, nms=nms, oks_threshold=0.9,
            backend='auto'),
        recipes=dict(RECIPES),
    )
