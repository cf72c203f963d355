"""Settings that no run can use."""
from __future__ import annotations

from typing import Any

from src.common.errors import InputError, nearest
from src.settings.overrides import flatten
from src.settings.table import CONFIGURATION, SETTINGS, Setting


def check(experiment: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuse values that no run can use.

    Raises:
        InputError: names the key and what it takes.
    """
    for key, value in {**experiment, **flatten(config)}.items():
        if key in SETTINGS and value is not None:
            check_value(key, value, SETTINGS[key])
    check_network(config['model'])
    size = config['data']['image_size']
    if len(size) != 2 or any(n % 32 for n in size):
        raise InputError(f'data.image_size {size}: takes width and height, both multiples of 32')
    heatmap_size = tuple(n // 4 for n in size)
    if config['data'].get('heatmap_size') not in (None, heatmap_size):
        raise InputError(f'data.heatmap_size {config["data"]["heatmap_size"]}: follows from data.image_size, of which '
                         f'it is a quarter, {heatmap_size}; omit it')
    if not config['eval']['metrics']:
        raise InputError('eval.metrics (): takes at least one, such as AP')
    if config['eval']['blur_kernel'] % 2 == 0:
        raise InputError(f'eval.blur_kernel {config["eval"]["blur_kernel"]}: must be odd')


def check_entries(config: dict[str, Any], name: str) -> None:
    """Refuse a model configuration with an unknown entry or without a required one.

    Raises:
        InputError: names the configuration and the entry.
    """
    entries = flatten(config)
    for key in entries:
        if key not in CONFIGURATION:
            raise InputError(f'{name}: no setting {key!r}; {nearest(key, CONFIGURATION)}')
    for key, setting in CONFIGURATION.items():
        if key not in entries and not setting.optional and setting.default is None:
            raise InputError(f'{name}: has no {key} ({setting.help}); configs/base.py has all entries')
    for key in ('train_pipeline', 'val_pipeline'):
        for step in entries.get(key) or ():
            if not isinstance(step, dict) or 'type' not in step:
                raise InputError(f'{name}: {key}: {step!r} is no step that config.json can hold; write '
                                 'dict(type=..., ...), and a function as a class in src/mmpose/transforms.py')


def check_network(model: dict[str, Any]) -> None:
    """Refuse a `model` section that makes no network.

    A stage has one branch more than the stage before; the first has two, and the branches of four stages would no
    longer divide images of multiples of 32. Blocks split channels in halves, and a weighting block narrows each half
    to a quarter of its channels.

    Raises:
        InputError: names the key and what it takes.
    """
    modules, channels = model['stage_modules'], model['stage_channels']
    if not 1 <= len(modules) <= 3:
        raise InputError(f'model.stage_modules {modules}: takes one to three stages')
    if len(channels) != len(modules) + 1:
        raise InputError(f'model.stage_channels {channels}: takes {len(modules) + 1} widths, one more than '
                         f'model.stage_modules {modules} has stages')
    least = 8 if model['module'] == 'LITE' else 2
    if any(width % 2 or width < least for width in channels):
        raise InputError(f'model.stage_channels {channels}: {model["module"]} takes even widths of at least {least}')


def check_metrics(config: dict[str, Any], boxes: str) -> None:
    """Refuse metrics that the data of an evaluation do not have.

    Args:
        config: a model configuration, its `data.info` complete.
        boxes: 'gt' for annotated boxes, 'det' for the detector's.

    Raises:
        InputError: names the key and what it takes.
    """
    settings, count = config['eval'], len(config['data']['info']['joint_names'])
    others, pair = [metric for metric in settings['metrics'] if metric != 'AP'], settings['nme_keypoints']
    if config['data']['type'] == 'mpii' and others:
        raise InputError(f'eval.metrics {", ".join(others)}: the score of MPII is PCKh; omit them')
    if boxes == 'det' and others:
        raise InputError(f"boxes 'det': eval.metrics {', '.join(others)} compare keypoints with those annotated in the "
                         'same box; give --eval.boxes gt')
    if pair and (len(set(pair)) != 2 or len(pair) != 2 or max(pair) >= count):
        raise InputError(f'eval.nme_keypoints {pair}: takes two different numbers below {count}, or () for none')


def check_value(key: str, value: Any, setting: Setting) -> None:
    """Refuse a value out of its setting's choices or bounds.

    Raises:
        InputError: names the key and what it takes.
    """
    values = value if isinstance(value, tuple) else (value,)
    if setting.choices and not set(values) <= set(setting.choices):
        some = 'some' if value is values else 'one'
        raise InputError(f'{key} {value!r}: choose {some} of {", ".join(setting.choices)}')
    if setting.least is not None and any(number < setting.least for number in values):
        raise InputError(f'{key} {value}: must be at least {setting.least}')
    if setting.below is not None and any(number >= setting.below for number in values):
        raise InputError(f'{key} {value}: must be below {setting.below}')
