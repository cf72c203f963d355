"""A top-down heatmap config file of MMPose 0.29 as settings.

Each entry is taken over, has no effect on numbers, or is refused with the remedy: a file with this one as its `_base_`
may set it otherwise.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from configs.base import base_config
from src.common.errors import InputError
from src.common.inputs import as_input_error
from src.mmpose.config_file import read_config
from src.mmpose.dataset_info import from_mmpose
from src.mmpose.distance_metrics import METRICS

GPUS = 8  # for which MMPose's learning rates are
OPTIMIZERS = {'Adam': 'Adam', 'AdamW': 'AdamWeightDecay', 'SGD': 'SGD'}
DECODINGS = {'default': 'default', 'unbiased': 'dark', 'megvii': 'megvii', None: 'none', False: 'none'}

NME_KEYPOINTS = {'FaceCocoWholeBodyDataset': (36, 45), 'FaceCOFWDataset': (8, 9)}  # the outer corners of the eyes

# Data sets that take their persons and windows from a file as TopDownCocoDataset does; some that don't, and why.
COCO_LIKE = {
    'TopDownCocoDataset', 'TopDownAicDataset', 'TopDownCrowdPoseDataset', 'TopDownH36MDataset', 'TopDownHalpeDataset',
    'TopDownMhpDataset', 'TopDownOCHumanDataset', 'TopDownPoseTrack18Dataset', 'TopDownCocoWholeBodyDataset',
    'HandCocoWholeBodyDataset', 'OneHand10KDataset', 'PanopticDataset', 'Rhd2DDataset', 'FaceCocoWholeBodyDataset',
    'FaceCOFWDataset', 'DeepFashionDataset', 'AnimalAP10KDataset', 'AnimalATRWDataset', 'AnimalHorse10Dataset',
    'AnimalMacaqueDataset', 'AnimalPoseDataset'}
OTHERS = {
    **dict.fromkeys(('Face300WDataset', 'FaceAFLWDataset', 'FaceWFLWDataset'),
                    'its windows are made of center and scale'),
    **dict.fromkeys(('AnimalFlyDataset', 'AnimalLocustDataset', 'AnimalZebraDataset', 'FreiHandDataset'),
                    'its windows have a fixed size whatever the bbox'),
    'TopDownJhmdbDataset': 'its pixels count from one',
    'TopDownMpiiTrbDataset': "its file is not in COCO's format",
    'InterHand2DDataset': 'its keypoints are in a file of their own'}


class Entries:
    """The entries of a dict in a config file: taken one by one, until `end` refuses those that are left."""

    def __init__(self, file: Path, path: str, values: Any) -> None:
        """Remember the entries of `values`, which stand at `path` ('' or 'model.') in the file.

        Raises:
            InputError: they are no dict.
        """
        if not isinstance(values, dict):
            raise InputError(f'{file}: {path[:-1]} {values!r}: not a dict; give one, as the config files of MMPose do')
        self.file, self.path, self.left = file, path, dict(values)

    def take(self, key: str, default: Any = None) -> Any:
        """Return an entry, or the default where there is none."""
        return self.left.pop(key, default)

    def section(self, key: str) -> Entries:
        """Return the entries of an entry; none where it is absent or None."""
        return Entries(self.file, f'{self.path}{key}.', self.take(key) or {})

    def refusal(self, key: str, value: Any, reason: str) -> InputError:
        """Return the error about an entry; the reason ends with the remedy."""
        text = ' '.join(repr(value).split())
        return InputError(f'{self.file}: {self.path}{key} {text[:77] + "..." * (len(text) > 77)}: {reason}')

    def require(self, key: str, allowed: list[Any], reason: str, default: Any = None) -> None:
        """Take an entry that has no place here, and refuse another value than the allowed ones, the first of which is
        advised, and assumed where the entry is absent and MMPose has no other `default`.
        """
        value = self.take(key, allowed[0] if default is None else default)
        if value not in allowed:
            raise self.refusal(key, value, f'{reason}; set it to {allowed[0]!r}')

    def end(self, *without_effect: str) -> None:
        """Refuse the entries that are left, but for those without effect."""
        for key, value in self.left.items():
            if key not in without_effect:
                raise self.refusal(key, value, 'its effect is not known here; leave it out')


def translate(file: Path, network: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (settings of the experiment, model configuration) of a config file of MMPose.

    Args:
        file: read as data, not run.
        network: the `model` section of one of our configurations, in place of the file's network, which must be a
            Lite-HRNet otherwise.

    Raises:
        InputError: names the first entry that does not fit, and the remedy.
    """
    top = Entries(file, '', read_config(file))
    for key in ('model', 'data', 'optimizer', 'lr_config'):
        if key not in top.left:
            raise InputError(f'{file}: has no {key}; give a top-down heatmap config file of MMPose 0.x')
    top.require('custom_imports', [None], 'it names code, and a config file is read as data')
    top.require('custom_hooks', [None, []], 'hooks are not taken; options such as --ema_decay are')
    with as_input_error(file, 'data'):
        root, sections = _data(top)
    with as_input_error(file, 'model'):
        model, decoding = _model(top.section('model'), network, sections['data']['info'])
    with as_input_error(file, 'lr_config'):
        sections['train'].update(_schedule(top.section('lr_config')), epochs=_epochs(top))
    with as_input_error(file, 'optimizer'):
        sections['train']['optimizer'], rates = _optimizer(top.section('optimizer'), network is None)
    with as_input_error(file, 'an entry'):
        experiment = dict(model_config=file.stem, mmpose_config=str(file), data_root=root, **rates,
                          workers=sections['train'].pop('workers'), **_experiment(top, network is None))
    config = base_config(model, sections['data'], image_size=sections['data']['image_size'], half_body=False,
                         boxes='gt', nms='none')
    config['model']['num_joints'] = None
    config['train'].update(sections['train'])
    config['eval'].update(sections['eval'], **decoding, **_metrics(top))
    config.update({name: sections[name] for name in ('train_pipeline', 'val_pipeline')})
    return experiment, config


# The network

def _model(model: Entries, given: dict[str, Any] | None,
           info: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return our `model` section, and of `eval` what test_cfg says."""
    model.require('type', ['TopDown'], 'only top-down networks that make heatmaps are taken')
    decoding = _decoding(model.section('test_cfg'))
    head, backbone = model.section('keypoint_head'), model.section('backbone')
    kind = backbone.take('type')
    if given is None and kind != 'LiteHRNet':
        raise backbone.refusal('type', kind, 'no Lite-HRNet; take one of our networks, and the rest from this file, by '
                                             '--model_config NAME')
    loss = dict(type='JointsMSELoss', use_target_weight=True)
    head.require('loss_keypoint', [loss, {**loss, 'loss_weight': 1.0}], 'a Lite-HRNet here learns by no other')
    if given is not None:
        return dict(given), decoding
    network = _network(backbone)
    _check_head(head, network, info)
    model.require('pretrained', [None], 'weights are given by --checkpoint_path')
    model.end('train_cfg')
    return network, decoding


def _network(backbone: Entries) -> dict[str, Any]:
    """Return the `model` section of a LiteHRNet."""
    reason = 'a Lite-HRNet here has no other'
    backbone.require('norm_cfg', [dict(type='BN'), dict(type='BN', requires_grad=True)], reason)
    for key, value in dict(in_channels=3, conv_cfg=None, norm_eval=False).items():
        backbone.require(key, [value], reason)
    extra = backbone.section('extra')
    backbone.end('with_cp')
    stem, stages = extra.section('stem'), extra.section('stages_spec')
    modules, channels = tuple(stages.take('num_modules', ())), stages.take('num_channels', ())
    kinds, count = stages.take('module_type', ()), len(modules)
    if len(kinds) != count or kinds[0] not in ('LITE', 'NAIVE') or len(set(kinds)) != 1:
        raise stages.refusal('module_type', kinds, "all stages are of one type here; set all to 'LITE' or to 'NAIVE'")
    widths = tuple(channels[-1]) if channels else ()
    if len(widths) != count + 1 or [*map(tuple, channels)] != [widths[:n] for n in range(2, count + 2)]:
        raise stages.refusal('num_channels', channels, 'here a stage has the branches of the one before it and one '
                                                       'more; set them so')
    for key, value in dict(stem_channels=32, out_channels=32, expand_ratio=1).items():
        stem.require(key, [value], reason)
    for key, value in dict(with_head=True, num_stages=count).items():
        extra.require(key, [value], reason)
    alike = dict(num_branches=tuple(range(2, count + 2)), num_blocks=(2,) * count, with_fuse=(True,) * count)
    if kinds[0] == 'LITE':  # the others reduce nothing
        alike['reduce_ratios'] = (8,) * count
    for key, value in alike.items():
        stages.require(key, [value, list(value)], reason)
    for section in (stem, stages, extra):
        section.end('reduce_ratios')
    return dict(module=kinds[0], stage_modules=modules, stage_channels=widths)


def _check_head(head: Entries, network: dict[str, Any], info: dict[str, Any] | None) -> None:
    """Refuse a head that is more than a 1x1 convolution to one heatmap for each keypoint."""
    reason = 'a Lite-HRNet here ends with one convolution'
    head.require('type', ['TopdownHeatmapSimpleHead'], reason)
    head.require('num_deconv_layers', [0], reason, default=3)  # of MMPose
    head.require('in_channels', [network['stage_channels'][0]], reason)
    head.require('in_index', [0], reason)
    head.require('input_transform', [None], reason)
    extra = head.section('extra')
    extra.require('final_conv_kernel', [1], reason)
    extra.require('num_conv_layers', [0], reason)
    extra.end('num_conv_kernels')
    if info:
        head.require('out_channels', [len(info['joint_names'])], 'dataset_info has another number of keypoints')
    head.end('out_channels', 'num_deconv_filters', 'num_deconv_kernels', 'align_corners', 'train_cfg', 'test_cfg')


def _decoding(test: Entries) -> dict[str, Any]:
    """Return what test_cfg says of `eval`, with MMPose's defaults."""
    name, udp = test.take('post_process', 'default'), test.take('use_udp', False)
    name = 'unbiased' if test.take('unbiased_decoding', False) else name
    if name not in DECODINGS or (udp and name == 'megvii'):
        raise test.refusal('post_process', name, "no such decoding; set it to 'default', 'unbiased', None, or without "
                                                 "use_udp 'megvii'")
    test.require('target_type', ['GaussianHeatmap'], 'a Lite-HRNet makes one map for each keypoint')
    found = dict(flip_test=test.take('flip_test', True), shift_heatmap=test.take('shift_heatmap', False),
                 blur_kernel=test.take('modulate_kernel', 11), decoding='udp' if udp else DECODINGS[name])
    test.end('valid_radius_factor')
    return found


# The data

def _data(top: Entries) -> tuple[str, dict[str, Any]]:
    """Return the data root, and the sections `data`, `train`, `eval` and both pipelines with what `data` says."""
    section, root = top.section('data'), top.take('data_root', '.')
    train, val = (_split(section.section(split), root) for split in ('train', 'val'))
    for key in ('type', 'image_size', 'info'):
        if train[key] != val[key]:
            raise section.refusal('val', val[key], f'another {key} than that of train; give both the same')
    data = {key: train[key] for key in ('type', 'info', 'image_size')}
    for name, split in (('train', train), ('val', val)):
        data.update({f'{name}_{key}': split[key] for key in ('annotations', 'images')})
    data['detections'] = val['detections']
    if data['type'] == 'mpii':
        val['eval']['boxes'] = 'gt'  # it has no others
        data['val_truth'] = os.path.join(os.path.dirname(data['val_annotations']), 'mpii_gt_val.mat')
    batch, workers = section.take('samples_per_gpu', 1), section.take('workers_per_gpu', 2)
    loaders = {name: section.section(f'{name}_dataloader') for name in ('train', 'val', 'test')}
    batches = {name: loader.take('samples_per_gpu', batch) for name, loader in loaders.items()}
    workers = loaders['train'].take('workers_per_gpu', workers)
    for part in (section, loaders['train']):  # others change no number
        part.end('test', 'pin_memory', 'persistent_workers', 'prefetch_num', 'drop_last')
    return root, dict(data=data, train=dict(batch_size=batches['train'], workers=workers),
                      eval={**val['eval'], 'batch_size': batches['val']},
                      train_pipeline=train['pipeline'], val_pipeline=val['pipeline'])


def _split(part: Entries, root: str) -> dict[str, Any]:
    """Return what data.train or data.val says: type, files, info, image_size, pipeline, detections, eval."""
    kind, info = part.take('type'), part.take('dataset_info')
    if kind not in COCO_LIKE | {'TopDownMpiiDataset'}:
        raise part.refusal('type', kind, f"{OTHERS.get(kind, 'not known here')}; where COCO's format and its bbox will "
                                         "do, set it to 'TopDownCocoDataset'")
    try:
        info = info and from_mmpose(info)
    except InputError as error:
        raise InputError(f'{part.file}: {part.path}{error}') from error
    pipeline = part.take('pipeline')
    if not isinstance(pipeline, list):
        raise part.refusal('pipeline', pipeline, 'not a list of steps; give one')
    settings = part.section('data_cfg')
    size, maps = (tuple(settings.take(key, ())) for key in ('image_size', 'heatmap_size'))
    if len(size) != 2 or maps != tuple(n / 4 for n in size):
        raise settings.refusal('heatmap_size', maps, f'heatmaps are a quarter of image_size {size} here; set it so')
    settings.require('use_different_joint_weights', [False], 'all keypoints count alike here')
    detections = settings.take('bbox_file')
    found = dict(
        type='mpii' if kind == 'TopDownMpiiDataset' else 'coco', info=info, image_size=size,
        annotations=_relative(part, 'ann_file', root), images=_relative(part, 'img_prefix', root),
        pipeline=pipeline, detections=detections and _relocate(detections, root), eval=dict(
            boxes='gt' if settings.take('use_gt_bbox', True) else 'det',
            score_threshold=settings.take('det_bbox_thr', settings.take('image_thr', 0.0)),
            visibility_threshold=settings.take('vis_thr', 0.2), oks_threshold=settings.take('oks_thr', 0.9),
            # A data set without soft_nms keeps all persons.
            nms={True: 'soft', False: 'hard', None: 'none'}[settings.take('soft_nms')],
            nme_keypoints=NME_KEYPOINTS.get(kind, ())))
    if not settings.take('use_nms', True):
        found['eval']['nms'] = 'none'
    settings.end('num_output_channels', 'num_joints', 'dataset_channel', 'inference_channel', 'nms_thr',
                 'crowd_matching', 'bbox_thr')
    part.end('test_mode', 'coco_style', 'subset')
    return found


def _metrics(top: Entries) -> dict[str, Any]:
    """Return what `evaluation.metric` says of `eval`: nothing where it is MPII's."""
    metric = (top.left.get('evaluation') or {}).get('metric', 'mAP')
    names = [{'mAP': 'AP'}.get(name, name) for name in ([metric] if isinstance(metric, str) else metric)]
    known = tuple(name for name in names if name in ('AP', *METRICS))
    return dict(metrics=known) if known else {}


def _relative(part: Entries, key: str, root: str) -> str:
    """Return a file or folder of a data set, relative to the data root."""
    path = part.take(key, '')
    if not isinstance(path, str):
        raise part.refusal(key, path, 'one path is taken; give it as text')
    return _relocate(path, root)


def _relocate(path: str, root: str) -> str:
    """Return a path relative to the data root; an absolute one as it is, where the root isn't."""
    return path if os.path.isabs(path) and not os.path.isabs(root) else os.path.relpath(path or '.', root)


# The training

def _schedule(rates: Entries) -> dict[str, Any]:
    """Return what lr_config says of `train`."""
    policy, warmup = rates.take('policy'), rates.take('warmup')
    if policy not in ('step', 'fixed', 'CosineAnnealing'):
        raise rates.refusal('policy', policy, "no such schedule here; set it to 'step', 'fixed' or 'CosineAnnealing'")
    if warmup not in (None, 'linear'):
        raise rates.refusal('warmup', warmup, "no such warm-up here; set it to 'linear' or None")
    cosine = policy == 'CosineAnnealing'
    rates.require('by_epoch', [not cosine], f'{policy} goes by {"steps" if cosine else "epochs"} here', default=True)
    rates.require('warmup_by_epoch', [False], 'warm-up is counted in steps here', default=False)
    rates.require('min_lr', [0, None], 'rates fall as low as they fall here')
    rates.require('min_lr_ratio', [0, None], 'rates fall as low as they fall here')
    steps = rates.take('step', ()) if policy == 'step' else ()
    if isinstance(steps, int):
        raise rates.refusal('step', steps, 'one number is a period; give the list of epochs')
    found = dict(schedule='cosine' if cosine else 'step', lr_steps=tuple(steps), lr_gamma=rates.take('gamma', 0.1),
                 warmup_steps=rates.take('warmup_iters', 0) if warmup else 0,
                 warmup_ratio=rates.take('warmup_ratio', 0.1))
    rates.end('warmup_iters')
    return found


def _epochs(top: Entries) -> Any:
    runner = top.section('runner')
    runner.require('type', ['EpochBasedRunner'], 'trainings are counted in epochs here')
    epochs = top.take('total_epochs', runner.take('max_epochs'))
    if epochs is None:
        raise InputError(f'{top.file}: has no total_epochs; give a top-down heatmap config file of MMPose 0.x')
    return epochs


def _optimizer(optimizer: Entries, own_network: bool) -> tuple[str, dict[str, Any]]:
    """Return our name of the optimizer, and learning_rate and weight_decay of the experiment."""
    kind = optimizer.take('type')
    if kind not in OPTIMIZERS:
        raise optimizer.refusal('type', kind, f'no such optimizer here; set it to one of {", ".join(OPTIMIZERS)}')
    reason = f'{kind} here has no other'
    optimizer.require('betas', [(0.9, 0.999), [0.9, 0.999]], reason)
    optimizer.require('eps', [1e-8], reason)
    for key in ('momentum', 'dampening', 'nesterov', 'amsgrad'):
        optimizer.require(key, [0], reason)
    parts = optimizer.section('paramwise_cfg')
    if not own_network:
        parts.take('custom_keys')  # names parts of the file's network
    for key in ('norm_decay_mult', 'bias_decay_mult'):
        parts.require(key, [0], 'biases and BN have no weight decay here')
    parts.end()
    found = dict(learning_rate=optimizer.take('lr') / GPUS,
                 weight_decay=optimizer.take('weight_decay', 0.01 if kind == 'AdamW' else 0.0))
    optimizer.end()
    return OPTIMIZERS[kind], found


def _experiment(top: Entries, own_network: bool) -> dict[str, Any]:
    """Return settings of the experiment: gradients, precision, checkpoints, evaluation, weights to start from."""
    top.require('resume_from', [None], 'a training is continued by --resume')
    found: dict[str, Any] = dict(random_seed=0)  # MMPose always shuffles
    gradients = top.section('optimizer_config')
    clip = gradients.section('grad_clip')
    clip.require('norm_type', [2], 'the norm of all gradients is Euclidean here')
    found['clip_norm'] = clip.take('max_norm', 0.0)
    for section in (clip, gradients):
        section.end()
    if top.left.get('fp16') is not None:
        half = top.section('fp16')
        scale = half.take('loss_scale', 512.0)  # 'dynamic' begins with ours
        found.update(amp_level='O2', **({'loss_scale': scale} if isinstance(scale, (int, float)) else {}))
        half.end()
    for section, key, ours in (('checkpoint_config', 'interval', 'checkpoint_interval'),
                               ('checkpoint_config', 'max_keep_ckpts', 'keep_checkpoints'),
                               ('evaluation', 'interval', 'eval_interval')):
        value = (top.left.get(section) or {}).get(key)
        if value is not None:
            found[ours] = max(value, 0) if key == 'max_keep_ckpts' else value
    if own_network and top.left.get('load_from'):
        found['checkpoint_path'] = top.take('load_from')
    return found
