"""Values of settings that no run can use."""
from __future__ import annotations

from typing import Any

from src.common.errors import InputError
from src.settings.overrides import flatten
from src.settings.table import SETTINGS, Setting


def check(experiment: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuse values that no run can use; `data.heatmap_size` is set, a quarter of `data.image_size`.

    Raises:
        InputError: names the key and what it takes.
    """
    for key, value in {**experiment, **flatten(config)}.items():
        if key in SETTINGS and value is not None:
            check_value(key, value, SETTINGS[key])
    if experiment['enable_graph_kernel'] and experiment['device'] == 'CPU':
        raise InputError('enable_graph_kernel: the CPU has no kernel fusion; omit it with --device CPU')
    modules, channels = config['model']['stage_modules'], config['model']['stage_channels']
    if len(channels) != len(modules) + 1:
        raise InputError(f'model.stage_modules {modules}, model.stage_channels {channels}: there is one branch more '
                         'than stages')
    size = config['data']['image_size']
    if len(size) != 2 or any(n % 32 for n in size):
        raise InputError(f'data.image_size {size}: width and height must be multiples of 32')
    config['data']['heatmap_size'] = tuple(n // 4 for n in size)
    if config['eval']['blur_kernel'] % 2 == 0:
        raise InputError(f'eval.blur_kernel {config["eval"]["blur_kernel"]}: must be odd')


def check_value(key: str, value: Any, setting: Setting) -> None:
    """Refuse a value out of its setting's choices or bounds.

    Raises:
        InputError: names the key and what it takes.
    """
    if setting.choices and value not in setting.choices:
        raise InputError(f'{key} {value!r}: choose one of {", ".join(setting.choices)}')
    numbers = value if isinstance(value, tuple) else (value,)
    if setting.least is not None and any(number < setting.least for number in numbers):
        raise InputError(f'{key} {value}: must be at least {setting.least}')
    if setting.below is not None and any(number >= setting.below for number in numbers):
        raise InputError(f'{key} {value}: must be below {setting.below}')
