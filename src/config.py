"""The experiment's settings and how they are put together.

Edit `experiment_cfg`, or override on the command line: every key of it as `--key value`, every entry of the
model configuration as `--section.entry value` (`--train.epochs 30`, `--train_pipeline.TopDownAffine.use_udp true`).
Order of precedence: command line, recipe, this file and the model configuration. `--print_config` shows the result;
saved (training leaves it as config.json), it is taken up again by `--config FILE`, in the place of the last three.
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

from src.common.errors import InputError
from src.common.inputs import load_json
from src.mmpose.own_data import resolve_info
from src.mmpose.transforms import TRANSFORMS
from src.settings.checks import check

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
    'compile_cache': True,
    'amp_level': 'O0',
    'dataset_sink_mode': False,
    'enable_graph_kernel': False,
    'max_steps': None,
    'skip_bad_images': False,
    'max_bad_steps': 20,
    'distributed': False,
    'resume': 'no',
    'keep_checkpoints': 0,
    'tensorboard': False,
    'eval_interval': 0,
    'ema_decay': 0.0,
    'clip_norm': 0.0,
    'accumulate_steps': 1,
    'freeze': None,
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
    'cpu_threads': 'threads of the CPU operators; 0: all cores',
    'cpu_kernels': "compile faster operators for this CPU (needs g++; without it MindSpore's are used)",
    'compile_cache': 'keep the compiled training step for the next start (one process; under ~/.cache/litehrnet)',
    'amp_level': 'O0: float32; O2: float16, but for BN and the loss; O3: float16 all through',
    'dataset_sink_mode': "feed the device through MindSpore's data channel (GPU and Ascend; no effect on a CPU)",
    'enable_graph_kernel': "MindSpore's fusion of small operators (GPU and Ascend)",
    'max_steps': 'stop after that many steps (for trials)',
    'skip_bad_images': 'replace unreadable training pictures by others and count them',
    'max_bad_steps': 'stop after that many steps in a row with non-finite gradients',
    'distributed': 'this process is one rank of a data-parallel run',
    'resume': 'yes (or no value): go on from the newest whole training state of this experiment; auto: if there is one',
    'keep_checkpoints': 'newest <model_config>_epoch<n>.ckpt that stay; 0: all',
    'tensorboard': 'write TensorBoard events too (needs: pip install tensorboardX)',
    'eval_interval': 'epochs between evaluations during training, which keep <model_config>_best.ckpt; 0: none',
    'ema_decay': 'share that moving averages of the weights keep at each update (0.9998 or so); they are then what is '
                 'evaluated and saved; 0: none',
    'clip_norm': 'gradients of a larger global norm are scaled down to it; 0: never',
    'accumulate_steps': 'steps whose mean gradient makes one update: a batch so many times larger',
    'freeze': 'parts that training leaves alone, with commas: backbone, stem, stage0, head_layer, ...',
}

# What an option given without a value means.
BARE = {'resume': 'yes'}
# What a key of value None takes when it is given.
OPTIONAL = {'checkpoint_path': str, 'freeze': str, 'random_seed': int, 'max_steps': int, 'model.num_joints': int}
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
        bare = 'true' if isinstance(value, bool) else BARE.get(key)
        flag = dict(nargs='?', const=bare) if bare else {}
        group.add_argument(f'--{key}', default=argparse.SUPPRESS, metavar=key.upper().split('_')[-1],
                           help=f'{HELP[key]} (default: {value})', **flag)


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> tuple[argparse.Namespace, dict, dict]:
    """Command line to (options of the program, experiment settings, model configuration).

    Raises:
        InputError: an unknown key, a value of the wrong type, an unknown model configuration or recipe.
    """
    add_experiment_options(parser)
    parser.add_argument('--config', metavar='FILE', help='start from settings saved as config.json, or printed by '
                                                         '--print_config')
    parser.add_argument('--print_config', '--print-config', action='store_true',
                        help='print all settings as JSON and exit')
    parser.epilog = 'Any entry of the model configuration can be given as --section.entry VALUE (--train.epochs 30).'
    options, rest = parser.parse_known_args(argv)
    given = {k: vars(options).pop(k) for k in list(vars(options)) if k in experiment_cfg}
    experiment, config = resolve(given, pairs(rest, parser), options.config)
    if options.print_config:
        print(json.dumps({'experiment': experiment, 'config': config}, indent=1))
        parser.exit()
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


def read_saved(path: Path | str) -> dict[str, dict[str, Any]]:
    """A saved config.json: {'experiment': ..., 'config': ...}.

    Raises:
        InputError: the file is missing, no JSON, or of another kind.
    """
    saved = load_json(Path(path))
    if not isinstance(saved, dict) or not all(isinstance(saved.get(key), dict) for key in ('experiment', 'config')):
        raise InputError(f"{path}: no saved settings; training writes them as config.json, --print_config prints them")
    return saved


def overlay(settings: dict[str, Any], saved: dict[str, Any], where: str) -> None:
    """Puts saved values into `settings`, in place, lists as tuples where they were tuples; entries not saved stay.

    Raises:
        InputError: an unknown key, or a value of another type than the one it replaces.
    """
    for key, value in saved.items():
        if key not in settings:
            raise InputError(f'{where}: {key!r} is no setting; {nearest(key, list(settings))}')
        like = settings[key]
        if isinstance(like, dict) and isinstance(value, dict) and key != 'info':  # saved whole, see `read_joints`
            overlay(like, value, f'{where}: {key}')
            continue
        value = restore(value)
        kind = OPTIONAL.get(key, object) if like is None else (int, float) if isinstance(like, float) else type(like)
        if not (isinstance(value, kind) or (value is None and key in OPTIONAL)):
            raise InputError(f'{where}: {key} {value!r}: expected a value like {like!r}')
        settings[key] = float(value) if isinstance(like, float) else value


def restore(value: Any) -> Any:
    """What was a tuple before it was JSON; lists of dicts (pipelines) are lists there too."""
    if isinstance(value, dict):
        return {key: restore(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return (list if value and isinstance(value[0], dict) else tuple)(map(restore, value))
    return value


def resolve(given: dict[str, str], dotted: dict[str, str],
            file: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Defaults, then the recipe (or saved settings), then what was given (as text).

    Args:
        given: keys of `experiment_cfg`.
        dotted: entries of the model configuration.
        file: saved settings; the recipe they name is in them already.

    Returns:
        experiment settings and model configuration.

    Raises:
        InputError: see `parse`, `read_saved` and `overlay`.
    """
    saved = read_saved(file) if file else {'experiment': {}, 'config': {}}
    experiment = dict(experiment_cfg)
    overlay(experiment, saved['experiment'], str(file))
    if file and given.get('model_config', experiment['model_config']) != experiment['model_config']:
        raise InputError(f'--model_config {given["model_config"]}: {file} is of {experiment["model_config"]}; leave '
                         'one of them away')
    if file and experiment['model_config'].endswith('.py') and 'model_config' not in given:
        raise InputError(f'{file}: names the program {experiment["model_config"]}, which is not run on the word of a '
                         f'file; pass --model_config {experiment["model_config"]} too if it is yours')
    experiment.update({k: convert(k, v, experiment_cfg[k]) for k, v in given.items()})
    config = load_model_config(experiment['model_config'])
    recipes = {'seed': {}, **config.pop('recipes', {})}
    overlay(config, saved['config'], str(file))
    if experiment['recipe'] not in recipes:
        raise InputError(f'recipe {experiment["recipe"]!r}: {nearest(experiment["recipe"], list(recipes))}')
    for key, value in recipes[experiment['recipe']].items() if not file or 'recipe' in given else ():
        if '.' in key:
            set_dotted(config, key, value, text=False)
        elif key not in given:
            experiment[key] = value
    for key, value in dotted.items():
        set_dotted(config, key, value)
    for key in ANCHORED:
        if key not in given and key not in saved['experiment']:
            experiment[key] = str(ROOT / experiment[key])
    check(experiment, config)
    read_joints(experiment, config)
    return experiment, config


def read_joints(experiment: dict[str, Any], config: dict[str, Any]) -> None:
    """Makes `data.info` whole, in place (see `resolve_info`), and `model.num_joints` follow from it.

    Raises:
        InputError: no file tells the joints, or `model.num_joints` says otherwise.
    """
    data, model = config['data'], config['model']
    files = [Path(experiment['data_root']) / data[f'{split}_annotations'] for split in ('train', 'val')]
    data['info'] = resolve_info(data['info'], files)
    joints = len(data['info']['joint_names'])
    if model['num_joints'] not in (None, joints):
        raise InputError(f'model.num_joints {model["num_joints"]}: the data have {joints} joints; leave it away')
    model['num_joints'] = joints


def uses_kernels(experiment: dict[str, Any]) -> bool:
    """Whether the network runs on the operators of src/cpu, where they can be compiled."""
    return experiment['device'] == 'CPU' and experiment['cpu_kernels'] and experiment['amp_level'] == 'O0'


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
