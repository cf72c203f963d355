"""Compute reference.npz with the reference implementation, MMPose 0.29.0 on PyTorch: see README.md for its environment.

    python tests/data/make_reference.py
"""
from __future__ import annotations

import json
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mmpose.core.evaluation.top_down_eval import keypoints_from_heatmaps
from mmpose.core.post_processing import flip_back, oks_iou
from mmpose.datasets.datasets.top_down.topdown_coco_dataset import TopDownCocoDataset
from mmpose.datasets.pipelines import Compose
from mmpose.models.backbones.litehrnet import LiteHRNet
from mmpose.models.losses.mse_loss import JointsMSELoss
from torch import nn

import mmpose

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs.coco_base import dataset_info
from tests.data import inputs

Arrays = dict[str, np.ndarray]
NORMALIZE = [dict(type='ToTensor'), dict(type='NormalizeTensor', mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))]
FULL_GRADIENTS = (
    'backbone.stem.conv1.conv.weight', 'backbone.stage1.0.layers.0.spatial_weighting.1.conv1.conv.bias',
    'backbone.stage1.1.layers.1.depthwise_convs.0.conv.weight', 'backbone.stage1.0.fuse_layers.0.1.1.weight',
    'backbone.stage2.0.fuse_layers.3.0.0.0.weight', 'keypoint_head.final_layer.weight',
    'keypoint_head.final_layer.bias')


class Network(nn.Module):
    """MMPose's backbone and a 1x1 head, with the names of the published checkpoints."""

    def __init__(self, model: dict) -> None:
        super().__init__()
        lite, channels = model['module'] == 'LITE', model['stage_channels']
        self.backbone = LiteHRNet(dict(
            stem=dict(stem_channels=32, out_channels=32, expand_ratio=1), num_stages=3, with_head=True,
            stages_spec=dict(num_modules=model['stage_modules'], num_branches=(2, 3, 4), num_blocks=(2,) * 3,
                             module_type=(model['module'],) * 3, with_fuse=(True,) * 3,
                             reduce_ratios=(8 if lite else 1,) * 3, num_channels=[channels[:n] for n in (2, 3, 4)])), 3)
        self.keypoint_head = nn.Module()
        self.keypoint_head.final_layer = nn.Conv2d(channels[0], inputs.KEYPOINTS, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.keypoint_head.final_layer(self.backbone(images)[0])


def network(name: str) -> Network:
    """Return the network of one of our configurations with the weights of `inputs.weight`, in double precision."""
    made = Network(import_module(f'configs.{name}').config['model'])
    made.load_state_dict({key: torch.tensor(inputs.weight(key, tuple(value.shape))) if value.ndim else value
                          for key, value in made.state_dict().items()})
    return made.double()


def forward() -> Arrays:
    """Return the heatmaps of every network in eval mode, and the official names of its state dict."""
    arrays = {}
    for name in inputs.NETWORKS:
        net = network(name).eval()
        with torch.no_grad():
            heatmaps = net(torch.tensor(inputs.network_input()).double()).numpy()
        names = '\n'.join(sorted(key for key, value in net.state_dict().items() if value.ndim))
        arrays[f'{name}|heatmaps'] = heatmaps.astype(np.float32)
        arrays[f'{name}|names'] = np.frombuffer(names.encode(), np.uint8)
        print(f'{name}: heatmaps {heatmaps.min():.3g} to {heatmaps.max():.3g}')
    return arrays


def training() -> Arrays:
    """Return loss, gradients and BN statistics of one step of Lite-HRNet-18 in train mode."""
    net = network(inputs.NETWORKS[0]).train()
    images, target, target_weight = (torch.tensor(array).double() for array in inputs.training_batch())
    loss = JointsMSELoss(use_target_weight=True)(net(images), target, target_weight)
    loss.backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in net.named_parameters()}
    arrays = {'loss': np.array(loss.item()),
              'gradient_norms': np.array([np.linalg.norm(gradients[name]) for name in sorted(gradients)])}
    arrays.update({f'gradient|{name}': gradients[name].astype(np.float32) for name in FULL_GRADIENTS})
    state = net.state_dict()
    for kind in ('running_mean', 'running_var'):
        values = [state[name].numpy() for name in sorted(state) if name.endswith(kind)]
        arrays[kind] = np.concatenate(values).astype(np.float32)
    return arrays


def person(record: dict, info: dict) -> dict:
    """Return one of `inputs.persons()` as the pipeline gets it."""
    return {key: value.copy() for key, value in record.items()} | dict(
        img=inputs.image(), ann_info=info, rotation=0)


def data_pipeline() -> Arrays:
    """Return crops, targets and windows of persons, unchanged, augmented, by UDP, and of half bodies."""
    pairs, upper = dataset_info['flip_pairs'], dataset_info['upper_body']
    info = dict(image_size=np.array(inputs.SIZE), heatmap_size=np.array(inputs.HEATMAP_SIZE), flip_pairs=pairs,
                num_joints=inputs.KEYPOINTS, upper_body_ids=upper, joint_weights=np.ones((inputs.KEYPOINTS, 1)),
                lower_body_ids=range(len(upper), inputs.KEYPOINTS), use_different_joint_weights=False)
    start = dict(type='TopDownGetBboxCenterScale', padding=1.25)
    ends = {'val': [dict(type='TopDownAffine'), dict(type='TopDownGenerateTarget', sigma=2)],
            'udp': [dict(type='TopDownAffine', use_udp=True), dict(
                type='TopDownGenerateTarget', sigma=2, encoding='UDP', target_type='GaussianHeatmap')]}
    samples = {'val': [], 'udp': [], 'augmented': []}
    half_bodies = []
    for record, (flip, rotation, zoom) in zip(inputs.persons(), inputs.AUGMENTATIONS):
        for kind, end in ends.items():
            samples[kind].append(Compose([start, *end])(person(record, info)))
        changed = Compose([start, dict(type='TopDownRandomFlip', flip_prob=float(flip))])(person(record, info))
        changed.update(scale=changed['scale'] * zoom, rotation=rotation)
        samples['augmented'].append(Compose(ends['val'])(changed))
        for coin in (0.0, 1.0):  # the reference tries the upper body first below 0.5
            with mock.patch('numpy.random.randn', return_value=coin):
                half = Compose([start, dict(type='TopDownHalfBodyTransform', num_joints_half_body=8,
                                            prob_half_body=1.0)])(person(record, info))
            half_bodies.append(np.concatenate([half['center'], half['scale']]))
    arrays = {'half_body|window': np.array(half_bodies)}
    for kind, rows in samples.items():
        for key in ('img', 'center', 'scale', 'joints_3d', 'target', 'target_weight'):
            arrays[f'{kind}|{key}'] = np.array([row[key] for row in rows])
    arrays['normalized'] = Compose(NORMALIZE)(dict(img=samples['val'][0]['img']))['img'].numpy()
    visible = np.ones((inputs.KEYPOINTS, 3), np.float32)
    border = [Compose(ends['val'][1:])(dict(joints_3d=joints, joints_3d_visible=visible, ann_info=info))
              for joints in inputs.border_keypoints()]
    for key in ('target', 'target_weight'):
        arrays[f'border|{key}'] = np.array([row[key] for row in border])
    return arrays


def decoding() -> Arrays:
    """Return keypoints of `inputs.heatmaps()` by every method, where they don't hang on rounding, and a flip test's."""
    maps, (center, scale) = inputs.heatmaps(), inputs.crops()
    noisy = maps * (1 + 1e-6 * np.random.RandomState(0).standard_normal(maps.shape)).astype(np.float32)
    methods = dict(none=dict(post_process=None), default={}, dark=dict(post_process='unbiased', kernel=11),
                   udp=dict(use_udp=True, kernel=11))
    arrays = {}
    for name, options in methods.items():
        found, scores = keypoints_from_heatmaps(maps.copy(), center, scale, **options)
        other, _ = keypoints_from_heatmaps(noisy.copy(), center, scale, **options)
        # Where no entry is positive MMPose's UDP decoding reads outside the map.
        arrays[f'{name}|stable'] = (np.abs(found - other).max(-1) < 0.01) & ((scores[..., 0] > 0) | (name != 'udp'))
        arrays[f'{name}|keypoints'] = found
    arrays['scores'] = scores
    mirrored = flip_back(maps[::-1].copy(), dataset_info['flip_pairs'])
    mirrored[..., 1:] = mirrored[..., :-1].copy()
    found, scores = keypoints_from_heatmaps((maps + mirrored) / 2, center, scale)
    arrays['flip_test'] = np.concatenate([found, scores], -1)
    return arrays


def selection() -> Arrays:
    """Return OKS, what NMS keeps, the scores written, and COCO's figures, by MMPose's data set and xtcocotools."""
    names = dataset_info['joint_names']
    swap = {names[a]: names[b] for pair in dataset_info['flip_pairs'] for a, b in (pair, pair[::-1])}
    info = dict(dataset_name='coco', paper_info={}, skeleton_info={}, joint_weights=[1.0] * len(names),
                sigmas=dataset_info['sigmas'], keypoint_info={
                    n: dict(id=n, name=name, color=[0, 0, 0], type='upper', swap=swap.get(name, ''))
                    for n, name in enumerate(names)})
    rows, arrays = inputs.candidates(), {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'ground_truth.json')
        file.write_text(json.dumps(inputs.ground_truth()))
        results = [dict(preds=rows['preds'], boxes=rows['boxes'], bbox_ids=rows['bbox_id'].tolist(),
                        image_paths=[f'{folder}/{image_id}.jpg' for image_id in rows['image_id']])]
        for mode, options in (('hard', dict(soft_nms=False)), ('soft', dict(soft_nms=True)),
                              ('none', dict(use_nms=False, soft_nms=False))):
            settings = dict(image_size=inputs.SIZE, heatmap_size=inputs.HEATMAP_SIZE, num_joints=len(names),
                            inference_channel=range(17), num_output_channels=17, dataset_channel=[range(17)],
                            use_gt_bbox=True, bbox_file='', nms_thr=1.0, oks_thr=0.9, vis_thr=0.2, **options)
            dataset = TopDownCocoDataset(str(file), f'{folder}/', settings, [], info, test_mode=True)
            figures = dataset.evaluate(results, res_folder=folder)
            written = json.loads(Path(folder, 'result_keypoints.json').read_text())
            for key in ('image_id', 'score', 'keypoints'):
                arrays[f'{mode}|{key}'] = np.array([row[key] for row in written], np.float32)
            arrays[f'{mode}|figures'] = np.array(list(figures.values()))
    preds, areas = rows['preds'][:12].reshape(12, -1).astype(np.float64), rows['boxes'][:12, 4]
    sigmas = np.array(dataset_info['sigmas'])
    arrays['oks'] = np.array([oks_iou(one, preds, area, areas, sigmas) for one, area in zip(preds, areas)])
    return arrays


def main() -> int:
    assert mmpose.__version__ == '0.29.0'
    arrays = {f'{part.__name__}|{key}': value for part in (forward, training, data_pipeline, decoding, selection)
              for key, value in part().items()}
    file = Path(__file__).with_name('reference.npz')
    np.savez_compressed(file, **arrays)
    print(f'{file}: {len(arrays)} arrays, {file.stat().st_size} bytes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
