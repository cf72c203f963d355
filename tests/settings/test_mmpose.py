"""A config file of MMPose becomes settings, entry by entry, or the first that does not fit is named."""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from configs.coco_base import dataset_info
from src.common.errors import InputError
from src.config import final_checkpoint, parse
from src.mmpose.dataset_info import DatasetInfo
from src.settings.mmpose import translate
from tests.mmpose_files import write_child, write_config


def settings(*argv: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return parse(argparse.ArgumentParser(allow_abbrev=False), [str(word) for word in argv])[1:]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_config(tmp_path)


def changed(file: Path, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a file with this one as its base."""
    return settings('--mmpose_config', write_child(file, text))


def test_all_entries_are_taken_over(file: Path) -> None:
    experiment, config = settings('--mmpose_config', file)
    taken = dict(model_config='small_coco_64x64', mmpose_config=str(file), data_root='data/coco', random_seed=0,
                 learning_rate=5e-4 / 8, weight_decay=0.0, clip_norm=35.0, amp_level='O0', checkpoint_interval=1,
                 keep_checkpoints=3, eval_interval=3, workers=1, checkpoint_path=None)
    assert {key: experiment[key] for key in taken} == taken
    assert config['model'] == dict(module='LITE', stage_modules=(1,), stage_channels=(8, 16), num_joints=17)
    assert config['train'] == dict(epochs=2, batch_size=4, optimizer='Adam', schedule='step', lr_steps=(1, 2),
                                   lr_gamma=0.1, warmup_steps=5, warmup_ratio=0.001)
    assert config['eval'] == dict(boxes='gt', score_threshold=0.25, batch_size=3, flip_test=True, shift_heatmap=True,
                                  decoding='default', blur_kernel=11, visibility_threshold=0.1, nms='hard',
                                  oks_threshold=0.8, backend='auto', metrics=('AP',), nme_keypoints=(),
                                  pck_threshold=0.2)
    files = dict(train_annotations='annotations/person_keypoints_train2017.json', train_images='train2017',
                 val_annotations='annotations/person_keypoints_val2017.json', val_images='val2017',
                 detections='person_detections.json')
    assert {key: config['data'][key] for key in files} == files and config['data']['type'] == 'coco'
    assert config['data']['image_size'] == (64, 64) and config['data']['heatmap_size'] == (16, 16)
    found, ours = (DatasetInfo.from_dict(info) for info in (config['data']['info'], dataset_info))
    assert (found.joint_names, found.flip_pairs, found.skeleton, found.sigmas, found.upper_body) == (
        ours.joint_names, ours.flip_pairs, ours.skeleton, ours.sigmas, ours.upper_body)
    assert [step['type'] for step in config['train_pipeline']][2] == 'TopDownRandomShiftBboxCenter'
    assert config['train_pipeline'][5]['mean'] == (0.485, 0.456, 0.406) and len(config['val_pipeline']) == 6
    assert final_checkpoint(experiment).name == 'small_coco_64x64.ckpt'


@pytest.mark.parametrize(('text', 'key', 'value'), [
    ("optimizer = dict(type='AdamW', lr=8e-3)", 'train.optimizer', 'AdamWeightDecay'),
    ("optimizer = dict(type='AdamW', lr=8e-3)", 'learning_rate', 1e-3),
    ("optimizer = dict(type='AdamW')", 'weight_decay', 0.01),  # PyTorch's default
    ("optimizer = dict(type='SGD', momentum=0, weight_decay=1e-4, paramwise_cfg=dict(norm_decay_mult=0.))",
     'weight_decay', 1e-4),
    ('lr_config = dict(warmup=None)', 'train.warmup_steps', 0),
    ("lr_config = dict(_delete_=True, policy='CosineAnnealing', min_lr=0, by_epoch=False)", 'train.schedule', 'cosine'),
    ("lr_config = dict(_delete_=True, policy='fixed')", 'train.lr_steps', ()),
    ('optimizer_config = dict(grad_clip=None)', 'clip_norm', 0.0),
    ('evaluation = dict(metric=["PCK", "mAP"])', 'eval.metrics', ('PCK', 'AP')),
    ('evaluation = dict(metric="PCKh")', 'eval.metrics', ('AP',)),
    ('data = dict(train=dict(type="FaceCOFWDataset"), val=dict(type="FaceCOFWDataset"))', 'eval.nme_keypoints', (8, 9)),
    ('fp16 = dict(loss_scale="dynamic")', 'amp_level', 'O2'),
    ('fp16 = dict(loss_scale=128.)', 'loss_scale', 128),
    ('load_from = "weights.pth"', 'checkpoint_path', 'weights.pth'),
    ("model = dict(test_cfg=dict(post_process='unbiased'))", 'eval.decoding', 'dark'),
    ("model = dict(test_cfg=dict(post_process=None))", 'eval.decoding', 'none'),
    ("model = dict(test_cfg=dict(use_udp=True, target_type='GaussianHeatmap', shift_heatmap=False))", 'eval.decoding',
     'udp'),
    ("model = dict(test_cfg=dict(_delete_=True, post_process='megvii'))", 'eval.shift_heatmap', False),
    ("data = dict(train_dataloader=dict(samples_per_gpu=5))", 'train.batch_size', 5),
    ("data = dict(val=dict(data_cfg=dict(soft_nms=True)))", 'eval.nms', 'soft'),
    ("data = dict(val=dict(data_cfg=dict(use_nms=False)))", 'eval.nms', 'none'),
    ("data = dict(val=dict(data_cfg=dict(use_gt_bbox=False)))", 'eval.boxes', 'det'),
    ("data = dict(val=dict(ann_file='data/other/val.json'))", 'data.val_annotations', '../other/val.json'),
    ("data = dict(val=dict(ann_file='/other/val.json'))", 'data.val_annotations', '/other/val.json'),
    ("data_root = '.'", 'data.val_images', 'data/coco/val2017'),
    ("data = dict(train=dict(type='TopDownMpiiDataset'),\n"
     "            val=dict(type='TopDownMpiiDataset', ann_file='data/coco/m/v.json'))", 'data.val_truth',
     'm/mpii_gt_val.mat'),
    ("model = dict(backbone=dict(extra=dict(num_stages=2, stages_spec=dict(num_modules=(1, 3), num_branches=(2, 3), "
     "num_blocks=(2, 2), module_type=('NAIVE', 'NAIVE'), with_fuse=(True, True), reduce_ratios=(1, 1), "
     "num_channels=((8, 16), (8, 16, 32))))))", 'model.stage_channels', (8, 16, 32)),
])
def test_entries(file: Path, text: str, key: str, value: Any) -> None:
    experiment, config = changed(file, text)
    section, _, name = key.rpartition('.')
    found = config[section][name] if section else experiment[name]
    assert found == value


@pytest.mark.parametrize(('text', 'words'), [
    ("model = dict(type='BottomUp')", "model.type 'BottomUp': only top-down"),
    ("model = dict(backbone=dict(type='HRNet'))", "backbone.type 'HRNet': no Lite-HRNet; take one .*--model_config"),
    ("model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))", "backbone.norm_cfg .*SyncBN.*to .'type': 'BN'"),
    ("model = dict(backbone=dict(extra=dict(with_head=False)))", 'extra.with_head False'),
    ("model = dict(backbone=dict(extra=dict(stages_spec=dict(num_blocks=(3,)))))", r'stages_spec.num_blocks \(3,\)'),
    ("model = dict(backbone=dict(extra=dict(stages_spec=dict(reduce_ratios=(4,)))))", 'reduce_ratios'),
    ("model = dict(backbone=dict(extra=dict(stages_spec=dict(with_fuse=(False,)))))", 'with_fuse'),
    ("model = dict(backbone=dict(extra=dict(stages_spec=dict(module_type=('OTHER',)))))", "set all to 'LITE'"),
    ("model = dict(backbone=dict(extra=dict(stages_spec=dict(num_channels=((8, 16, 32),)))))", 'num_channels'),
    ("model = dict(backbone=dict(extra=dict(stem=dict(stem_channels=64))))", 'stem.stem_channels 64'),
    ("model = dict(backbone=dict(frozen_stages=1))", 'backbone.frozen_stages 1: its effect is not known'),
    ("model = dict(neck=dict(type='X'))", 'model.neck'),
    ("model = dict(pretrained='a.pth')", "model.pretrained 'a.pth': weights are given by --checkpoint_path"),
    ("model = dict(keypoint_head=dict(type='TopdownHeatmapMSMUHead'))", 'keypoint_head.type'),
    ("model = dict(keypoint_head=dict(num_deconv_layers=3))", 'num_deconv_layers 3: .*; set it to 0'),
    ("model = dict(keypoint_head=dict(extra=dict(final_conv_kernel=3)))", 'final_conv_kernel 3'),
    ("model = dict(keypoint_head=dict(out_channels=16))", 'out_channels 16: .*; set it to 17'),
    ("model = dict(keypoint_head=dict(loss_keypoint=dict(use_target_weight=False)))", 'loss_keypoint'),
    ("model = dict(keypoint_head=dict(loss_keypoint=dict(type='AdaptiveWingLoss')))", 'AdaptiveWingLoss'),
    ("model = dict(test_cfg=dict(target_type='CombinedTarget'))", 'target_type'),
    ("model = dict(test_cfg=dict(use_udp=True, post_process='megvii'))", 'post_process'),
    ("model = 3", 'model 3: not a dict'),
    ("optimizer = dict(type='RMSprop')", "optimizer.type 'RMSprop': no such optimizer"),
    ("optimizer = dict(type='SGD', momentum=0.9)", 'optimizer.momentum 0.9: SGD here has no other; set it to 0'),
    ("optimizer = dict(betas=(0.5, 0.9))", 'optimizer.betas'),
    ("optimizer = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))", 'paramwise_cfg.custom_keys'),
    ("optimizer = dict(lr='fast')", 'child.py: optimizer is malformed'),
    ("data = dict(train=dict(pipeline=2.5))", 'data.train.pipeline 2.5: not a list of steps'),
    ("optimizer = dict(lr=-1.)", 'learning_rate -0.125: must be at least 0'),
    ("optimizer_config = dict(grad_clip=dict(norm_type=1))", 'grad_clip.norm_type 1'),
    ("optimizer_config = dict(cumulative_iters=4)", 'optimizer_config.cumulative_iters'),
    ("lr_config = dict(policy='poly')", "lr_config.policy 'poly'"),
    ("lr_config = dict(policy='CosineAnnealing')", 'lr_config.by_epoch True: CosineAnnealing goes by steps'),
    ("lr_config = dict(min_lr=1e-5)", 'lr_config.min_lr'),
    ("lr_config = dict(warmup='exp')", "lr_config.warmup 'exp'"),
    ("lr_config = dict(step=3)", 'lr_config.step 3: one number is a period'),
    ("total_epochs = None", 'has no total_epochs'),
    ("runner = dict(type='IterBasedRunner')", 'runner.type'),
    ("custom_hooks = [dict(type='EMAHook')]", "custom_hooks .*EMAHook.*--ema_decay"),
    ("custom_imports = dict(imports=['trap'])", 'custom_imports .*it names code'),
    ("resume_from = 'a.pth'", 'resume_from .*--resume'),
    ("data = dict(shuffle=False)", 'data.shuffle False'),
    ("data = dict(_delete_=True, train=[dict(type='TopDownCocoDataset')])", 'data.train .*: not a dict'),
    ("data = dict(val=dict(type='TopDownJhmdbDataset'))", "'TopDownJhmdbDataset': its pixels count from one; where"),
    ("data = dict(val=dict(type='OwnDataset'))", "'OwnDataset': not known here; where COCO"),
    ("data = dict(val=dict(type='TopDownMpiiDataset'))", "data.val 'mpii': another type than that of train"),
    ("data = dict(val=dict(ann_file=['a', 'b']))", 'ann_file .*: one path is taken'),
    ("data = dict(val=dict(data_cfg=dict(image_size=[32, 64], heatmap_size=[8, 16])))", 'another image_size'),
    ("data = dict(train=dict(data_cfg=dict(heatmap_size=[8, 8])))", 'heatmap_size .*a quarter of image_size .64, 64.'),
    ("data = dict(train=dict(data_cfg=dict(use_different_joint_weights=True)))", 'use_different_joint_weights'),
    ("data = dict(train=dict(data_cfg=dict(typo=1)))", 'data.train.data_cfg.typo 1'),
    ("data = dict(val=dict(dataset_info=dict(sigmas=[0.1] * 17)))", 'another info than that of train'),
    ("data = dict(val=dict(dataset_info=dict(keypoint_info={0: dict(name='a')})))",
     "child.py: data.val.dataset_info 'coco': no entry or keypoint 'nose'"),
])
def test_what_does_not_fit_is_named(file: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        changed(file, text)
    assert '\n' not in str(caught.value)


def test_one_of_our_networks_with_the_rest_of_the_file(file: Path) -> None:
    """What is said of the file's network and its parts has no meaning then."""
    child = write_child(file, '''
model = dict(pretrained='resnet50.pth', backbone=dict(type='ResNet', depth=50), keypoint_head=dict(in_channels=2048))
optimizer = dict(type='AdamW', paramwise_cfg=dict(custom_keys=dict(layer1=dict(lr_mult=0.1))))
load_from = 'https://host/res50.pth'
''')
    with pytest.raises(InputError, match="'ResNet'"):
        settings('--mmpose_config', child)
    experiment, config = settings('--mmpose_config', child, '--model_config', 'naive_litehrnet_18_coco_256x192')
    assert experiment['model_config'] == 'child' and experiment['checkpoint_path'] is None
    assert config['model'] == dict(module='NAIVE', stage_modules=(2, 4, 2), stage_channels=(30, 60, 120, 240),
                                   num_joints=17)
    assert config['data']['image_size'] == (64, 64) and config['train']['batch_size'] == 4


def test_recipe_and_command_line_come_after_the_file(file: Path) -> None:
    experiment, config = settings('--mmpose_config', file, '--recipe', 'paper', '--data_root', '/mnt/coco',
                                  '--train.epochs', '9', '--train_pipeline.NormalizeTensor.mean', '0,0,0',
                                  '--eval_interval', '0')
    assert experiment['learning_rate'] == 2.5e-4 and experiment['data_root'] == '/mnt/coco'
    assert config['train']['epochs'] == 9 and experiment['eval_interval'] == 0
    assert config['train_pipeline'][5]['mean'] == (0, 0, 0)
    assert config['val_pipeline'][4]['mean'] == (0.485, 0.456, 0.406)
    shift = settings('--mmpose_config', file, '--recipe', 'short')[1]['train_pipeline'][2]
    assert shift['type'] == 'TopDownRandomShiftBboxCenter' and shift['prob'] == 0, 'of the pipeline in the file'


def test_saved_settings_need_neither_the_file_nor_a_module(file: Path, tmp_path: Path) -> None:
    before = settings('--mmpose_config', file)
    saved = tmp_path / 'config.json'
    saved.write_text(json.dumps(dict(zip(('experiment', 'config'), before))))
    for child in (*file.parent.glob('base/*.py'), file):
        child.write_text('raise SystemExit')
    assert settings('--config', saved) == before
    assert settings('--config', saved, '--mmpose_config', file, '--model_config', 'small_coco_64x64') == before
    experiment, config = settings('--config', saved, '--recipe', 'paper', '--eval.nms', 'soft')
    assert experiment['learning_rate'] == 2.5e-4 and config['eval']['nms'] == 'soft'
    for key, name in (('mmpose_config', 'other.py'), ('model_config', 'litehrnet_18_coco_256x192')):
        with pytest.raises(InputError, match=f'--{key} {name}: .* is of .*small_coco_64x64'):
            settings('--config', saved, f'--{key}', name)


def test_saved_settings_of_a_module_take_no_file(file: Path, tmp_path: Path) -> None:
    saved = tmp_path / 'config.json'
    saved.write_text(json.dumps(dict(zip(('experiment', 'config'), settings()))))
    with pytest.raises(InputError, match='is of litehrnet_18_coco_256x192; omit one of them'):
        settings('--config', saved, '--mmpose_config', file)


@pytest.mark.parametrize('missing', ['model', 'data', 'optimizer', 'lr_config'])
def test_another_kind_of_file(file: Path, missing: str) -> None:
    file.write_text(file.read_text().replace(f'\n{missing} = dict(', f'\n{missing}_ = dict('))
    with pytest.raises(InputError, match=f'has no {missing}; give a top-down heatmap config file of MMPose'):
        translate(file, None)
