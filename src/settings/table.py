"""The settings: what each takes, what it means, and what depends on it.

The values of `EXPERIMENT`'s first ten are `experiment_cfg` in src/config.py, those of `CONFIGURATION` without a default
the modules in configs/; the defaults of all others stand here. A new setting is one new line.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from src.lr_scheduler import SCHEDULES
from src.mmpose import distance_metrics
from src.mmpose.evaluation import BACKENDS, NMS
from src.mmpose.heatmap import METHODS


@dataclass(frozen=True)
class Setting:
    """One setting."""

    kind: Any  # type of its values; `object` takes any
    help: str  # what it means
    default: Any = None  # its value where neither `experiment_cfg` nor a model configuration gives one
    optional: bool = False  # whether None is a value too, and the entry may be absent from a model configuration
    least: float | None = None  # smallest value, of each number in a tuple
    below: float | None = None  # values are smaller than this
    choices: tuple[str, ...] = ()  # the values, where they are few; of each entry in a tuple
    flag_value: str | None = None  # what the option means without a value
    repo_relative: bool = False  # whether a default path is relative to the repository
    # Whether a resumed training takes another value: it changes no number, or only the length.
    resume_may_change: bool = False
    in_graph: bool = True  # whether the compiled training step depends on it


DEVICES = ('GPU', 'CPU', 'Ascend')
# What the training's numbers and its compiled step do not depend on.
OUTSIDE: dict[str, Any] = dict(resume_may_change=True, in_graph=False)

EXPERIMENT = {
    'device': Setting(str, 'GPU, CPU or Ascend', choices=DEVICES, resume_may_change=True),
    'model_config': Setting(str, 'module in configs/, or the path of a .py file like those', resume_may_change=True),
    'learning_rate': Setting(float, 'per device; multiplied by the number of devices', least=0),
    'loss_scale': Setting(int, 'for float16 (amp_level O2, O3): the loss times it, the gradients divided', least=1),
    'weight_decay': Setting(float, 'not applied to biases and BN', least=0),
    'experiment_tag': Setting(str, 'checkpoints and logs go to <output_root>/checkpoints/<experiment_tag>/', **OUTSIDE),
    'checkpoint_path': Setting(str, 'weights to start from: .ckpt, .pth, .pdparams or a published name', optional=True,
                               **OUTSIDE),
    'start_epoch': Setting(int, 'first epoch; the learning-rate schedule starts there too', least=0, in_graph=False),
    'checkpoint_interval': Setting(int, 'epochs between checkpoints', least=1, **OUTSIDE),
    'random_seed': Setting(int, 'fixes shuffling, augmentation and initial weights; None: no shuffling', optional=True,
                           least=0, below=2 ** 64, in_graph=False),
    'device_id': Setting(int, 'number of the GPU or NPU', 0, least=0, **OUTSIDE),
    'data_root': Setting(str, 'folder with annotations/ and images', 'data/coco', repo_relative=True, **OUTSIDE),
    'output_root': Setting(str, 'folder under which checkpoints/ is made', '.', repo_relative=True, **OUTSIDE),
    'mmpose_config': Setting(str, 'config file of MMPose 0.x, read as data, in place of model_config; where both are '
                                  'given, the network is that of model_config', optional=True, **OUTSIDE),
    'recipe': Setting(str, "seed, paper (the original authors' optimizer and learning rate) or short (few epochs of "
                           'few data)', 'seed', **OUTSIDE),
    'workers': Setting(int, 'processes that read and augment images; 0: threads of the main process', 2, least=0,
                       **OUTSIDE),
    'cpu_threads': Setting(int, 'threads of the CPU operators; 0: all cores', 0, least=0, resume_may_change=True),
    'cpu_kernels': Setting(bool, "compile faster operators for this CPU (needs g++; without it MindSpore's are used)",
                           True, resume_may_change=True),
    'compile_cache': Setting(bool, 'keep the compiled step in ~/.cache/litehrnet (one process)', True, **OUTSIDE),
    'amp_level': Setting(str, 'O0: float32; O2: float16 except for BN and the loss; O3: all float16', 'O0',
                         choices=('O0', 'O2', 'O3')),
    'dataset_sink_mode': Setting(bool, "feed the device through MindSpore's data channel (no effect on a CPU)", False,
                                 resume_may_change=True),
    'max_steps': Setting(int, 'stop after that many steps (for trials)', optional=True, least=1, **OUTSIDE),
    'skip_bad_images': Setting(bool, 'replace unreadable training images by others and count them', False, **OUTSIDE),
    'max_bad_steps': Setting(int, 'stop after that many steps in a row with non-finite gradients', 20, least=1,
                             **OUTSIDE),
    'distributed': Setting(bool, 'this process is one rank of a data-parallel run', False, resume_may_change=True),
    'resume': Setting(str, 'yes (or no value): resume from the newest valid training state; auto: if any', 'no',
                      choices=('no', 'yes', 'auto'), flag_value='yes', **OUTSIDE),
    'keep_checkpoints': Setting(int, 'how many <model_config>_epoch<n>.ckpt to keep, the newest; 0: all', 0, least=0,
                                **OUTSIDE),
    'tensorboard': Setting(bool, 'write TensorBoard events too (needs: pip install tensorboardX)', False, **OUTSIDE),
    'eval_interval': Setting(int, 'epochs between evaluations; they keep <model_config>_best.ckpt; 0: none', 0, least=0,
                             **OUTSIDE),
    'ema_decay': Setting(float, 'share that moving averages of the weights keep at each update (about 0.9998); the '
                                'averages are then evaluated and saved; 0: none', 0.0, least=0, below=1),
    'clip_norm': Setting(float, 'gradients of a larger global norm are scaled down to it; 0: never', 0.0, least=0),
    'accumulate_steps': Setting(int, 'steps whose mean gradient makes one update (a larger batch)', 1, least=1),
    'freeze': Setting(str, 'parts not trained, separated by commas: backbone, stem, stage0, head_layer, ...',
                      optional=True),
}

CONFIGURATION = {
    'model.module': Setting(str, 'LITE (conditional channel weighting) or NAIVE (ShuffleNetV2 units)',
                            choices=('LITE', 'NAIVE')),
    'model.stage_modules': Setting(tuple[int, ...], 'modules of each stage', least=1),
    'model.stage_channels': Setting(tuple[int, ...], 'width of each branch, high to low resolution', least=1),
    'model.num_joints': Setting(int, 'heatmaps; None: as many as data.info has keypoints', optional=True, least=1),
    'data.type': Setting(str, 'coco or mpii', choices=('coco', 'mpii')),
    'data.info': Setting(object, 'keypoints, skeleton, sigmas, ..., or a JSON file with some of them; None: what the '
                                 'annotations say', optional=True),
    'data.train_annotations': Setting(str, 'this and the following files are relative to data_root'),
    'data.train_images': Setting(str, 'folder'),
    'data.val_annotations': Setting(str, '', **OUTSIDE),
    'data.val_images': Setting(str, 'folder', **OUTSIDE),
    'data.detections': Setting(str, "the detector's boxes for validation (COCO)", optional=True, **OUTSIDE),
    'data.val_truth': Setting(str, 'the ground truth of PCKh (MPII)', optional=True, **OUTSIDE),
    'data.image_size': Setting(tuple[int, ...], 'width,height of the crop in pixels, multiples of 32', least=32),
    'data.heatmap_size': Setting(tuple[int, ...], 'a quarter of image_size, from which it follows', optional=True),
    'train_pipeline': Setting(list, 'entries: train_pipeline.TRANSFORM.ARGUMENT'),
    'val_pipeline': Setting(list, 'entries: val_pipeline.TRANSFORM.ARGUMENT'),
    'train.epochs': Setting(int, 'length of the training', least=1, resume_may_change=True),
    'train.batch_size': Setting(int, 'samples per device', least=1),
    'train.optimizer': Setting(str, 'AdamWeightDecay, Adam or SGD', choices=('AdamWeightDecay', 'Adam', 'SGD')),
    'train.schedule': Setting(str, 'step (drops at lr_steps) or cosine', choices=SCHEDULES),
    'train.lr_steps': Setting(tuple[float, ...], 'epochs at which the learning rate drops', least=0),
    'train.lr_gamma': Setting(float, 'factor of each drop', least=0),
    'train.warmup_steps': Setting(int, 'steps of linear warm-up', least=0),
    'train.warmup_ratio': Setting(float, 'share of the learning rate at step 0', least=0),
    'eval.boxes': Setting(str, 'det or gt: detected or annotated boxes', choices=('det', 'gt')),
    'eval.score_threshold': Setting(float, 'detected boxes with lower scores are left out'),
    'eval.batch_size': Setting(int, 'crops per batch', least=1),
    'eval.flip_test': Setting(bool, 'average with the heatmaps of the mirrored image'),
    'eval.shift_heatmap': Setting(bool, "move the mirrored image's heatmaps by one pixel; None: unless decoding is udp",
                                  optional=True),
    'eval.decoding': Setting(str, f'how heatmaps become coordinates: {", ".join(METHODS)}', choices=METHODS),
    'eval.blur_kernel': Setting(int, 'pixels, odd; of dark, udp and megvii', least=1),
    'eval.visibility_threshold': Setting(float, "keypoints below it do not count in a person's score"),
    'eval.nms': Setting(str, 'by OKS among the persons of an image: hard, soft or none', choices=NMS),
    'eval.oks_threshold': Setting(float, 'OKS above which two persons are one', least=0),
    'eval.backend': Setting(str, 'of the COCO score: auto, xtcocotools or pycocotools', choices=('auto', *BACKENDS)),
    'eval.metrics': Setting(tuple[str, ...], "AP (COCO's scores), PCK, AUC, EPE, NME; by the first training keeps the "
                                             'best', ('AP',), choices=('AP', *distance_metrics.METRICS)),
    'eval.pck_threshold': Setting(float, 'of PCK, as a fraction of the larger side of the box', 0.2, least=0),
    'eval.nme_keypoints': Setting(tuple[int, ...], "two, whose distance is NME's unit; (): the larger side of the box",
                                  (), least=0),
}

SETTINGS = {**EXPERIMENT, **CONFIGURATION}
RESUME_MAY_CHANGE = {key for key, setting in SETTINGS.items() if setting.resume_may_change}
NOT_IN_GRAPH = {key for key, setting in SETTINGS.items() if not setting.in_graph}
