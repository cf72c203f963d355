"""The experiment's settings and how they are put together.

Edit `experiment_cfg`, or override on the command line: every key of it as `--key value`, every entry of the
model configuration as `--section.entry value` (`--train.epochs 30`, `--train_pipeline.TopDownAffine.use_udp true`).
Order of precedence: command line, recipe, this file and the model configuration.
"""
from __future__ import annotations

import argparse
import copy
import difflib
import importlib
import importlib.util
import json
import math
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from src.errors import InputError
from src.mmpose.evaluation import BACKENDS, NMS
from src.mmpose.heatmap import METHODS
from src.mmpose.transforms import TRANSFORMS

ROOT = Path(__file__).resolve().parents[1]

experiment_cfg = {
    'device': 'GPU',
    'model_config': 'litehrnet_18_coco_256x192',
    'learning_rate': 5e-5,
    'loss_scale': 2 ** 16,
    'weight_decay': 1e-6,
    'experiment_tag': 'lhrnet18_256_coco_default',
    'checkpoint_path': None,
    'start_epoch': 0,
    'checkpoint_interval': 5,
    'random_seed': None,
    # Beyond the seed's ten:
    'device_id': 0,
    'data_root': 'data/coco',
    'output_root': '.',
    'recipe': 'seed',
    'workers': 2,
    'cpu_threads': 0,
    'cpu_kernels': True,
    'max_steps': None,
    'skip_bad_images': False,
    'max_bad_steps': 20,
    'distributed': False,
}

HELP = {
    'device': 'GPU, CPU or Ascend',
    'model_config': 'module in configs/, or the path of a .py file like those',
    'learning_rate': 'per device; multiplied by the number of devices',
    'loss_scale': 'the loss is multiplied by it, the gradients divided by it',
    'weight_decay': 'not applied to biases and BN',
    'experiment_tag': 'checkpoints and logs go to <output_root>/checkpoints/<experiment_tag>/',
    'checkpoint_path': 'weights to start from (.ckpt, or an official .pth)',
    'start_epoch': 'first epoch; the learning-rate schedule starts there too',
    'checkpoint_interval': 'epochs between checkpoints',
    'random_seed': 'fixes shuffling, augmentation and initial weights; None: no shuffling',
    'device_id': 'number of the GPU or NPU',
    'data_root': 'folder with annotations/ and images: train2017/, val2017/, person_detection_results/; MPII: images/',
    'output_root': 'folder under which checkpoints/ is made',
    'recipe': "seed, or paper (the original authors' optimizer and learning rate)",
    'workers': 'processes that read and augment pictures; 0: threads of the main process',
    'cpu_threads': 'threads of the CPU kernels; 0: chosen by MindSpore',
    'cpu_kernels': "compile faster depthwise convolutions for this CPU (needs g++; without it MindSpore's are used)",
    'max_steps': 'stop after that many steps (for trials)',
    'skip_bad_images': 'replace unreadable training pictures by others and count them',
    'max_bad_steps': 'stop after that many steps in a row with non-finite gradients',
    'distributed': 'this process is one rank of a data-parallel run',
}

DEVICES = ('GPU', 'CPU', 'Ascend')
MODULES = ('LITE', 'NAIVE')
OPTIMIZERS = ('AdamWeightDecay', 'Adam', 'SGD')

# What a key of value None takes when it is given.
OPTIONAL = {'checkpoint_path': str, 'random_seed': int, 'max_steps': int}
# Paths that stand in the repository unless the user says otherwise.
ANCHORED = ('data_root', 'output_root')


def nearest(word: str, words: list[str]) -> str:
    """The part of an error message that names the nearest valid word, or all where none is near."""
    close = difflib.get_close_matches(word, words, 1, 0.5)
    return f'did you mean {close[0]!r}?' if close else f'valid: {", ".join(words)}'


def convert(key: str, text: str, like: Any) -> Any:
    """`text` from the command line as the type of the value it replaces.

    Raises:
        InputError: it can't be read as that type.
    """
    kind = OPTIONAL.get(key, str) if like is None else type(like)
    try:
        if like is None and text.lower() == 'none':
            return None
        if kind is bool:
            return {'true': True, '1': True, 'false': False, '0': False}[text.lower()]
        if kind in (tuple, list):
            values = json.loads(f'[{text.strip("()[] ")}]')
            if any(isinstance(v, (int, float)) for v in like) != all(isinstance(v, (int, float)) for v in values):
                raise ValueError(text)
            return kind(values)
        if kind is int and 'e' not in text.lower():
            return int(text)
        if kind in (int, float):
            number = float(text)
            if not math.isfinite(number) or (kind is int and number != int(number)):
                raise ValueError(text)
            return kind(number)
        if kind is dict:
            raise ValueError(text)
        return text
    except (KeyError, ValueError) as error:
        wanted = {bool: 'true or false', tuple: 'numbers with commas', dict: 'one of its entries'}.get(
            kind, kind.__name__)
        raise InputError(f'--{key} {text!r}: expected {wanted}, like {like!r}') from error


def spell_out(step: dict[str, Any]) -> None:
    """Adds to a step of a pipeline, in place, the arguments left at their defaults; ints for floats become floats."""
    for argument in fields(TRANSFORMS[step['type']]) if step['type'] in TRANSFORMS else ():
        if argument.default is not MISSING:
            value = step.get(argument.name, argument.default)
            step[argument.name] = float(value) if argument.type == 'float' else value


def set_dotted(config: dict[str, Any], key: str, value: Any, *, text: bool = True) -> None:
    """Sets `a.b.c` of nested dicts; in a pipeline, b is the type of a transform.

    Raises:
        InputError: no such entry, or `value` (text from the command line) has the wrong type.
    """
    *path, last = key.split('.')
    node: Any = config
    for i, part in enumerate([*path, last]):
        if isinstance(node, list):
            node = {step['type']: step for step in node}
            if part in node:
                spell_out(node[part])
        if not isinstance(node, dict) or part not in node:
            names = [str(n) for n in node] if isinstance(node, dict) else []
            raise InputError(f'--{key}: {part!r} is not in the model configuration; {nearest(part, names)}')
        if i < len(path):
            node = node[part]
    node[last] = convert(key, value, node[last]) if text else value


def load_model_config(name: str) -> dict[str, Any]:
    """The `config` dict of configs/<name>.py, or of the .py file at path `name`.

    Raises:
        InputError: there is no such module, or it has no `config`.
    """
    folder = ROOT / 'configs'
    path = Path(name) if name.endswith('.py') else folder / f'{name}.py'
    if not path.is_file() or not (name.endswith('.py') or name.isidentifier()):
        known = sorted(p.stem for p in folder.glob('*_*x*.py'))
        raise InputError(f'model_config {name!r}: no such file {path}; {nearest(name, known)}')
    if name.endswith('.py'):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(f'configs.{name}')
    if not isinstance(getattr(module, 'config', None), dict):
        raise InputError(f'{path}: defines no dict named config')
    return copy.deepcopy(module.config)


def add_experiment_options(parser: argparse.ArgumentParser) -> None:
    """One option per key of `experiment_cfg`; their values stay text until `resolve`."""
    group = parser.add_argument_group('experiment (src/config.py)')
    for key, value in experiment_cfg.items():
        flag = dict(nargs='?', const='true') if isinstance(value, bool) else {}
        group.add_argument(f'--{key}', default=argparse.SUPPRESS, metavar=key.upper().split('_')[-1],
                           help=f'{HELP[key]} (default: {value})', **flag)


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> tuple[argparse.Namespace, dict, dict]:
    """Command line to (options of the program, experiment settings, model configuration).

    Raises:
        InputError: an unknown key, a value of the wrong type, an unknown model configuration or recipe.
    """
    add_experiment_options(parser)
    parser.epilog = 'Any entry of the model configuration can be given as --section.entry VALUE (--train.epochs 30).'
    options, rest = parser.parse_known_args(argv)
    given = {k: vars(options).pop(k) for k in list(vars(options)) if k in experiment_cfg}
    experiment, config = resolve(given, pairs(rest, parser))
    return options, experiment, config


def pairs(words: list[str], parser: argparse.ArgumentParser) -> dict[str, str]:
    """`--a.b value` and `--a.b=value` words as a dict.

    Raises:
        InputError: a word that is neither, or an option without a value.
    """
    known = [s for a in parser._actions for s in a.option_strings]
    found, words = {}, list(words)
    while words:
        word = words.pop(0)
        key, equals, value = word.partition('=')
        if not key.startswith('--') or '.' not in key:
            raise InputError(f'unknown option {word!r}; {nearest(key, known)}')
        if not equals:
            if not words:
                raise InputError(f'{key}: a value is missing')
            value = words.pop(0)
        found[key[2:]] = value
    return found


def resolve(given: dict[str, str], dotted: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Defaults, then the recipe, then what was given (as text): (experiment settings, model configuration).

    Raises:
        InputError: see `parse`.
    """
    experiment = dict(experiment_cfg)
    experiment.update({k: convert(k, v, experiment_cfg[k]) for k, v in given.items()})
    config = load_model_config(experiment['model_config'])
    recipes = {'seed': {}, **config.pop('recipes', {})}
    if experiment['recipe'] not in recipes:
        raise InputError(f'recipe {experiment["recipe"]!r}: {nearest(experiment["recipe"], list(recipes))}')
    for key, value in recipes[experiment['recipe']].items():
        if '.' in key:
            set_dotted(config, key, value, text=False)
        elif key not in given:
            experiment[key] = value
    for key, value in dotted.items():
        set_dotted(config, key, value)
    for key in ANCHORED:
        if key not in given:
            experiment[key] = str(ROOT / experiment[key])
    check(experiment, config)
    return experiment, config


def check(experiment: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuses values that no run can use.

    Raises:
        InputError: names the key and what it takes.
    """
    train, evaluation = config['train'], config['eval']
    for key, value, valid in (('device', experiment['device'], DEVICES),
                              ('model.module', config['model']['module'], MODULES),
                              ('data.type', config['data']['type'], ('coco', 'mpii')),
                              ('train.optimizer', train['optimizer'], OPTIMIZERS),
                              ('eval.boxes', evaluation['boxes'], ('det', 'gt')),
                              ('eval.decoding', evaluation['decoding'], METHODS),
                              ('eval.nms', evaluation['nms'], NMS),
                              ('eval.backend', evaluation['backend'], ('auto', *BACKENDS))):
        if value not in valid:
            raise InputError(f'{key} {value!r}: choose one of {", ".join(valid)}')
    least = {'learning_rate': 0, 'loss_scale': 1, 'weight_decay': 0, 'start_epoch': 0, 'checkpoint_interval': 1,
             'device_id': 0, 'workers': 0, 'cpu_threads': 0, 'max_bad_steps': 1, 'random_seed': 0, 'max_steps': 1}
    for key, bound in least.items():
        if experiment[key] is not None and experiment[key] < bound:
            raise InputError(f'{key} {experiment[key]}: must be at least {bound}')
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


def checkpoint_folder(experiment: dict[str, Any]) -> Path:
    """Where this experiment's checkpoints, log and settings stand."""
    return Path(experiment['output_root']) / 'checkpoints' / experiment['experiment_tag']


def final_checkpoint(experiment: dict[str, Any]) -> Path:
    """The checkpoint that training writes last and eval.py and export.py read: <model_config>.ckpt."""
    return checkpoint_folder(experiment) / f'{Path(experiment["model_config"]).stem}.ckpt'


def require_checkpoint(given: str | None, experiment: dict[str, Any]) -> Path:
    """The checkpoint a program reads: `given`, else the one training wrote.

    Raises:
        InputError: it does not exist.
    """
    path = Path(given) if given else final_checkpoint(experiment)
    if not path.is_file():
        raise InputError(f'{path}: no such checkpoint; train first (same --experiment_tag and --model_config) or pass '
                         '--checkpoint FILE')
    return path
