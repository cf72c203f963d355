"""Values of settings that no run can use."""
from __future__ import annotations

from typing import Any

from src.common.errors import InputError
from src.lr_scheduler import SCHEDULES
from src.mmpose.evaluation import BACKENDS, NMS
from src.mmpose.heatmap import METHODS

DEVICES = ('GPU', 'CPU', 'Ascend')
MODULES = ('LITE', 'NAIVE')
PRECISIONS = ('O0', 'O2', 'O3')
OPTIMIZERS = ('AdamWeightDecay', 'Adam', 'SGD')


def check(experiment: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuses values that no run can use.

    Raises:
        InputError: names the key and what it takes.
    """
    train, evaluation = config['train'], config['eval']
    for key, value, valid in (('device', experiment['device'], DEVICES),
                              ('amp_level', experiment['amp_level'], PRECISIONS),
                              ('resume', experiment['resume'], ('no', 'yes', 'auto')),
                              ('model.module', config['model']['module'], MODULES),
                              ('data.type', config['data']['type'], ('coco', 'mpii')),
                              ('train.optimizer', train['optimizer'], OPTIMIZERS),
                              ('train.schedule', train['schedule'], SCHEDULES),
                              ('eval.boxes', evaluation['boxes'], ('det', 'gt')),
                              ('eval.decoding', evaluation['decoding'], METHODS),
                              ('eval.nms', evaluation['nms'], NMS),
                              ('eval.backend', evaluation['backend'], ('auto', *BACKENDS))):
        if value not in valid:
            raise InputError(f'{key} {value!r}: choose one of {", ".join(valid)}')
    least = {'learning_rate': 0, 'loss_scale': 1, 'weight_decay': 0, 'start_epoch': 0, 'checkpoint_interval': 1,
             'device_id': 0, 'workers': 0, 'cpu_threads': 0, 'max_bad_steps': 1, 'random_seed': 0, 'max_steps': 1,
             'keep_checkpoints': 0, 'eval_interval': 0, 'ema_decay': 0, 'clip_norm': 0, 'accumulate_steps': 1}
    for key, bound in least.items():
        if experiment[key] is not None and experiment[key] < bound:
            raise InputError(f'{key} {experiment[key]}: must be at least {bound}')
    if experiment['enable_graph_kernel'] and experiment['device'] == 'CPU':
        raise InputError('enable_graph_kernel: the CPU has no kernel fusion; leave it away with --device CPU')
    if experiment['ema_decay'] >= 1:
        raise InputError(f'ema_decay {experiment["ema_decay"]}: must be below 1')
    modules, channels = config['model']['stage_modules'], config['model']['stage_channels']
    if any(not isinstance(n, int) or n < 1 for n in (*modules, *channels)) or len(channels) != len(modules) + 1:
        raise InputError(f'model.stage_modules {modules}, model.stage_channels {channels}: both take whole '
                         'numbers, and there is one branch more than stages')
    size = config['data']['image_size']
    if len(size) != 2 or any(not isinstance(n, int) or n <= 0 or n % 32 for n in size):
        raise InputError(f'data.image_size {size}: width and height must be positive multiples of 32')
    config['data']['heatmap_size'] = tuple(n // 4 for n in size)
    for section, key, bound in (('train', 'epochs', 1), ('train', 'batch_size', 1), ('train', 'warmup_steps', 0),
                                ('eval', 'batch_size', 1)):
        if config[section][key] < bound:
            raise InputError(f'{section}.{key} {config[section][key]}: must be at least {bound}')
    if evaluation['blur_kernel'] < 1 or evaluation['blur_kernel'] % 2 == 0:
        raise InputError(f'eval.blur_kernel {evaluation["blur_kernel"]}: must be odd and positive')
