"""Config files in the manner of MMPose 0.x: a small Lite-HRNet on the drawn data set, with two `_base_` files."""
from __future__ import annotations

from pathlib import Path

from configs.coco_base import dataset_info

RUNTIME = '''
checkpoint_config = dict(interval=1, max_keep_ckpts=3)
log_config = dict(interval=50, hooks=[dict(type='TextLoggerHook')])
log_level = 'INFO'
load_from = None
resume_from = None
dist_params = dict(backend='nccl')
workflow = [('train', 1)]
'''

CONFIG = '''
"""A text about the file."""
_base_ = ['base/runtime.py', 'base/coco.py']
evaluation = dict(interval=3, metric='mAP', save_best='AP')
optimizer = dict(type='Adam', lr=5e-4)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy='step', warmup='linear', warmup_iters=5, warmup_ratio=0.001, step=[1, 2])
total_epochs = 2
channel_cfg = dict(num_output_channels=17, dataset_channel=[list(range(17))])
target = dict(type='TopDownGenerateTarget', sigma=2)
model = dict(
    type='TopDown', pretrained=None,
    backbone=dict(
        type='LiteHRNet', in_channels=3,
        extra=dict(
            stem=dict(stem_channels=32, out_channels=32, expand_ratio=1), num_stages=1,
            stages_spec=dict(num_modules=(1, ), num_branches=(2, ), num_blocks=(2, ), module_type=('LITE', ),
                             with_fuse=(True, ), reduce_ratios=(8, ), num_channels=((8, 16), )),
            with_head=True)),
    keypoint_head=dict(
        type='TopdownHeatmapSimpleHead', in_channels=8, out_channels=channel_cfg['num_output_channels'],
        num_deconv_layers=0, extra=dict(final_conv_kernel=1, ),
        loss_keypoint=dict(type='JointsMSELoss', use_target_weight=True)),
    train_cfg=dict(),
    test_cfg=dict(flip_test=True, post_process='default', shift_heatmap=True, modulate_kernel=11))
data_root = 'DATA'
data_cfg = dict(
    image_size=[64, 64], heatmap_size=[16, 16], num_joints=17, num_output_channels=17, inference_channel=[],
    dataset_channel=channel_cfg['dataset_channel'], soft_nms=False, nms_thr=1.0, oks_thr=0.8, vis_thr=0.1,
    use_gt_bbox=True, det_bbox_thr=0.25, bbox_file=f'{data_root}/person_' + 'detections.json')
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='TopDownGetBboxCenterScale', padding=1.25),
    dict(type='TopDownRandomShiftBboxCenter', shift_factor=0.16, prob=0.3), dict(type='TopDownAffine'),
    dict(type='ToTensor'), dict(type='NormalizeTensor', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    target, dict(type='Collect', keys=['img', 'target', 'target_weight'], meta_keys=['image_file', 'center'])]
val_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='TopDownGetBboxCenterScale', padding=1.25), dict(type='TopDownAffine'),
    dict(type='ToTensor'), dict(type='NormalizeTensor', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    dict(type='Collect', keys=['img'], meta_keys=['image_file', 'center', 'scale', 'bbox_score'])]
data = dict(
    samples_per_gpu=4, workers_per_gpu=1, val_dataloader=dict(samples_per_gpu=3),
    train=dict(type='TopDownCocoDataset', ann_file=f'{data_root}/annotations/person_keypoints_train2017.json',
               img_prefix=f'{data_root}/train2017/', data_cfg=data_cfg, pipeline=train_pipeline,
               dataset_info={{_base_.dataset_info}}),
    val=dict(type='TopDownCocoDataset', ann_file=f'{data_root}/annotations/person_keypoints_val2017.json',
             img_prefix=f'{data_root}/val2017/', data_cfg=data_cfg, pipeline=val_pipeline,
             dataset_info={{_base_.dataset_info}}))
'''


def write_config(folder: Path, data_root: str = 'data/coco', name: str = 'small_coco_64x64.py') -> Path:
    """Write the files; return the one to give."""
    names = dataset_info['joint_names']
    partners = {names[a]: names[b] for pair in dataset_info['flip_pairs'] for a, b in (pair, pair[::-1])}
    points = {number: dict(name=name, id=number, color=[0, 128, 255], swap=partners.get(name, ''),
                           type='upper' if number in dataset_info['upper_body'] else 'lower')
              for number, name in enumerate(names)}
    limbs = {number: dict(link=(names[a], names[b])) for number, (a, b) in enumerate(dataset_info['skeleton'])}
    info = dict(dataset_name='coco', keypoint_info=points, skeleton_info=limbs, joint_weights=[1.] * len(names),
                sigmas=list(dataset_info['sigmas']))
    (folder / 'base').mkdir(parents=True, exist_ok=True)
    (folder / 'base/runtime.py').write_text(RUNTIME)
    (folder / 'base/coco.py').write_text(f'dataset_info = {info}')
    (folder / name).write_text(CONFIG.replace('DATA', data_root))
    return folder / name


def write_child(parent: Path, text: str) -> Path:
    """Write a file with `parent` as its base and this text; return it."""
    path = parent.with_name('child.py')
    path.write_text(f'_base_ = {parent.name!r}\n{text}\n')
    return path
