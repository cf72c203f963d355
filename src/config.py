"""The experiment's settings and how they are put together.

Edit `experiment_cfg`, or override on the command line: every setting of an experiment as `--key value`, every entry of
the model configuration as `--section.entry value` (`--train.epochs 30`, `--train_pipeline.TopDownAffine.use_udp true`).
Order of precedence: command line, recipe, this file and the model configuration, in whose place `--mmpose_config FILE`
takes a config file of MMPose. `--print_config` prints the result; saved (training writes it as config.json), it takes
the place of all but the command line with `--config FILE`.
"""
from __future__ import annotations

import argparse
import copy
import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from configs.base import RECIPES
from src.common.errors import InputError, nearest
from src.common.inputs import load_json
from src.mmpose.own_data import resolve_info
from src.mmpose.pipeline import Compose
from src.settings.checks import check, check_entries
from src.settings.mmpose import translate
from src.settings.overrides import apply, flatten, pairs, restore
from src.settings.table import CONFIGURATION, EXPERIMENT
from src.weights.download import locate
from src.weights.published import find_published, weights_folder

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
    # Any other setting of `EXPERIMENT` in src/settings/table.py may follow, with a value to replace its default.
}


def load_model_config(name: str) -> dict[str, Any]:
    """Return the `config` dict of configs/<name>.py, or of the .py file at path `name`.

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
    """Add an option for each setting of an experiment; their values stay text until `resolve`."""
    group = parser.add_argument_group('experiment (src/config.py)')
    for key, setting in EXPERIMENT.items():
        alone = 'true' if setting.kind is bool else setting.flag_value
        group.add_argument(f'--{key}', default=argparse.SUPPRESS, metavar=key.upper().split('_')[-1],
                           help=f'{setting.help} (default: {experiment_cfg.get(key, setting.default)})',
                           **dict(nargs='?', const=alone) if alone else {})
    parser.epilog = '\n  '.join(['model configuration (configs/), as --section.entry VALUE:', *(
        f'{key:<26} {setting.help}' for key, setting in CONFIGURATION.items())])


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> tuple[argparse.Namespace, dict, dict]:
    """Return (options of the program, experiment settings, model configuration) of a command line.

    A `--checkpoint` that names published weights says the model configuration, unless the command line does.

    Raises:
        InputError: an unknown key, a value of the wrong type, an unknown model configuration or recipe, or weights to
            start a training from where none is.
    """
    add_experiment_options(parser)
    parser.add_argument('--config', metavar='FILE', help='start from settings saved as config.json, or printed by '
                                                         '--print_config')
    parser.add_argument('--print_config', '--print-config', action='store_true',
                        help='print all settings as JSON and exit')
    options, rest = parser.parse_known_args(argv)
    given = {key: vars(options).pop(key) for key in list(vars(options)) if key in EXPERIMENT}
    if 'checkpoint_path' in given and 'checkpoint' in options:
        raise InputError(f'--checkpoint_path {given["checkpoint_path"]}: what a training starts from; this program '
                         'reads --checkpoint')
    names = [name for action in parser._actions for name in action.option_strings]
    published = find_published(getattr(options, 'checkpoint', None) or '')
    if published and not options.config:
        given = {'model_config': published.model_config, 'experiment_tag': published.name, **given}
    experiment, config = resolve(given, pairs(rest, names), options.config)
    if options.print_config:
        print(json.dumps({'experiment': experiment, 'config': config}, indent=1))
        parser.exit()
    return options, experiment, config


def read_saved(path: Path | str) -> dict[str, dict[str, Any]]:
    """Return a saved config.json: {'experiment': ..., 'config': ...}.

    Raises:
        InputError: the file is missing, no JSON, or of another kind.
    """
    saved = load_json(Path(path))
    if not isinstance(saved, dict) or not all(isinstance(saved.get(key), dict) for key in ('experiment', 'config')):
        raise InputError(f"{path}: no saved settings; training writes them as config.json, --print_config prints them")
    saved['experiment'].pop('enable_graph_kernel', None)  # of earlier versions; it never worked
    return saved


def resolve(given: dict[str, str], dotted: dict[str, str],
            file: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return experiment settings and model configuration: defaults, recipe (or saved settings), command line.

    Args:
        given: settings of the experiment, as text.
        dotted: entries of the model configuration, as text.
        file: saved settings; the recipe they name is in them already.

    Raises:
        InputError: an unknown key, a value that no run can use, a missing file.
    """
    saved = read_saved(file) if file else {'experiment': {}, 'config': {}}
    settings = {key: setting.default for key, setting in EXPERIMENT.items()}
    apply(settings, experiment_cfg, 'src/config.py: ')
    apply(settings, saved['experiment'], f'{file}: ')
    name, of_file, config = load_base(given, settings, saved, file)
    apply(settings, of_file, f'{name}: ')
    given = {key: text for key, text in given.items() if key != 'model_config' or key not in of_file}
    recipes = {'seed': {}, **config.pop('recipes', {})}
    check_entries(config, name)
    for key, setting in CONFIGURATION.items():
        if setting.default is not None:
            section, _, entry = key.partition('.')
            config[section].setdefault(entry, setting.default)
    settings.update(config)
    apply(settings, flatten(config), f'{name}: ')
    apply(settings, flatten(saved['config']), f'{file}: ')
    recipe, applied = given.get('recipe', settings['recipe']), settings['recipe'] if file else 'seed'
    if recipe not in recipes:
        raise InputError(f'recipe {recipe!r}: {nearest(recipe, recipes)}')
    if applied not in ('seed', recipe):
        raise InputError(f'--recipe {recipe}: {file} has the settings of the recipe {applied!r}, which this would only '
                         'override in part; omit one of them')
    chosen = {} if file and recipe == applied else recipes[recipe]
    for key in {**chosen, **dotted}:  # what follows from it follows anew
        if key.startswith('data.info'):
            settings['model']['num_joints'] = None
        if key == 'data.image_size':
            settings['data']['heatmap_size'] = None
        if key == 'eval.decoding':
            settings['eval']['shift_heatmap'] = None
    apply(settings, chosen, f'{name}, recipe {recipe}: ')
    apply(settings, {**given, **dotted}, '--', text=True)
    for key, setting in EXPERIMENT.items():
        if setting.repo_relative and key not in {**given, **saved['experiment'], **of_file}:
            settings[key] = str(ROOT / settings[key])
    experiment, config = ({key: settings[key] for key in keys} for keys in (EXPERIMENT, config))
    check(experiment, config)
    fill_derived(experiment, config)
    return experiment, config


def load_base(given: dict[str, str], settings: dict[str, Any], saved: dict[str, dict[str, Any]],
              file: str | None) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return what all else overrides: its name, settings of the experiment, model configuration.

    Args:
        given: settings of the experiment from the command line, as text.
        settings: the experiment's so far.
        saved: the content of `file`. What was made of a config file of MMPose stands in it whole; that file is not read
            again.
        file: saved settings.

    Raises:
        InputError: an unknown model configuration, or two in conflict.
    """
    name, mmpose = (given.get(key, settings[key]) for key in ('model_config', 'mmpose_config'))
    if file:
        check_saved_names(given, settings, file)
        if mmpose:
            return file, {}, {**copy.deepcopy(saved['config']), 'recipes': dict(RECIPES)}
    elif mmpose:
        network = load_model_config(name)['model'] if 'model_config' in given else None
        return mmpose, *translate(Path(mmpose), network)
    return name, {}, load_model_config(name)


def check_saved_names(given: dict[str, str], settings: dict[str, Any], file: str) -> None:
    """Refuse saved settings of another model configuration, and those that name a program.

    Args:
        given: settings of the experiment from the command line, as text.
        settings: those saved in the file.
        file: the saved settings.

    Raises:
        InputError: names the file and both model configurations.
    """
    for key in ('model_config', 'mmpose_config'):
        if key in given and given[key] != settings[key]:
            of = settings[key] or settings['model_config']
            raise InputError(f'--{key} {given[key]}: {file} is of {of}; omit one of them')
    name = settings['model_config']
    if name.endswith('.py') and 'model_config' not in given:
        raise InputError(f'{file}: refusing to execute {name}, a .py file named in JSON; pass --model_config {name} to '
                         'allow it')


def fill_derived(experiment: dict[str, Any], config: dict[str, Any]) -> None:
    """Fill in, in place, what follows from other entries.

    These are `data.heatmap_size`, all of `data.info`, `model.num_joints` and `eval.shift_heatmap`.

    Raises:
        InputError: no file names the keypoints, or `model.num_joints` is another number.
    """
    data, model, evaluation = config['data'], config['model'], config['eval']
    if evaluation['shift_heatmap'] is None:  # in UDP's coordinates they are aligned as they are
        evaluation['shift_heatmap'] = evaluation['decoding'] != 'udp'
    data['heatmap_size'] = tuple(n // 4 for n in data['image_size'])
    files = [Path(experiment['data_root']) / data[f'{split}_annotations'] for split in ('train', 'val')]
    data['info'] = resolve_info(data['info'], files)
    count = len(data['info']['joint_names'])
    if model.get('num_joints') not in (None, count):
        raise InputError(f'model.num_joints {model["num_joints"]}: the data have {count} keypoints; omit it')
    model['num_joints'] = count


def uses_kernels(experiment: dict[str, Any]) -> bool:
    """Return whether the network runs on the operators of src/cpu, where they can be compiled."""
    return experiment['device'] == 'CPU' and experiment['cpu_kernels'] and experiment['amp_level'] == 'O0'


def checkpoint_folder(experiment: dict[str, Any]) -> Path:
    """Return the folder of this experiment's checkpoints, log and settings."""
    return Path(experiment['output_root']) / 'checkpoints' / experiment['experiment_tag']


def model_name(model_config: str) -> str:
    """Return what files of a model are called: a configuration's name, or that of its .py file."""
    return Path(model_config).name.removesuffix('.py')


def final_checkpoint(experiment: dict[str, Any]) -> Path:
    """Return the file that training writes last and eval.py and export.py read: <model_config>.ckpt."""
    return checkpoint_folder(experiment) / f'{model_name(experiment["model_config"])}.ckpt'


def require_checkpoint(given: str | None, experiment: dict[str, Any]) -> Path:
    """Return the checkpoint that a program reads: `given` (a file or published weights), else the one training wrote.

    Raises:
        InputError: it does not exist.
    """
    path = locate(given) if given else final_checkpoint(experiment)
    if not path.is_file():
        raise InputError(f'{path}: no such checkpoint; train first (same --experiment_tag and --model_config) or pass '
                         '--checkpoint FILE')
    return path


def crops_remark(checkpoint: Path, config: dict[str, Any]) -> str:
    """Return a remark where the settings that training left beside a checkpoint cut other crops, else ''."""
    file = checkpoint.with_name('config.json')
    try:
        trained = restore(read_saved(file)['config'])
        same = (Compose(trained['val_pipeline']).steps, trained['data']['image_size']) == (
            Compose(config['val_pipeline']).steps, config['data']['image_size'])
    except (InputError, KeyError, TypeError):  # there is none, or one of something else
        return ''
    return '' if same else (f'{checkpoint}: trained with another val_pipeline or data.image_size than these settings '
                            f'have; --config {file} has the same')


def results_folder(checkpoint: Path, experiment: dict[str, Any]) -> Path:
    """Return where what is made of a checkpoint goes: beside it, but not into the cache of published weights."""
    return checkpoint_folder(experiment) if checkpoint.parent == weights_folder() else checkpoint.parent
