"""Settings: defaults, recipes, overrides, and what is refused."""
from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from src import config as module
from src.common.errors import InputError
from src.config import (
    ROOT,
    checkpoint_folder,
    experiment_cfg,
    final_checkpoint,
    load_model_config,
    parse,
    require_checkpoint,
)
from src.mmpose.transforms import Compose

SEED_KEYS = {
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
}
CONFIGS = sorted(path.stem for path in (ROOT / 'configs').glob('*_*x*.py') if '_custom_' not in path.stem)


def settings(*argv: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(experiment, model configuration) of a command line."""
    return parse(argparse.ArgumentParser(allow_abbrev=False), list(argv))[1:]


def step(pipeline: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(step for step in pipeline if step['type'] == kind)


# Defaults

def test_the_seeds_ten_keys_come_first_with_their_values() -> None:
    assert list(experiment_cfg.items())[:10] == list(SEED_KEYS.items())
    experiment, _ = settings()
    assert {key: experiment[key] for key in SEED_KEYS} == SEED_KEYS
    assert set(module.HELP) == set(experiment_cfg)


def test_the_seeds_training() -> None:
    _, config = settings()
    assert config['train'] == dict(epochs=210, batch_size=64, optimizer='AdamWeightDecay', schedule='step',
                                   lr_steps=(170, 200), lr_gamma=0.1, warmup_steps=500, warmup_ratio=0.001)
    assert step(config['train_pipeline'], 'TopDownHalfBodyTransform') == dict(
        type='TopDownHalfBodyTransform', num_joints_half_body=8, prob_half_body=0.3)
    assert step(config['train_pipeline'], 'TopDownGetRandomScaleRotation') == dict(
        type='TopDownGetRandomScaleRotation', rot_factor=30, scale_factor=0.25)


@pytest.mark.parametrize(('name', 'size', 'heatmap', 'sigma', 'batch', 'kernel'), [
    ('litehrnet_18_coco_256x192', (192, 256), (48, 64), 2, 64, 11),
    ('litehrnet_30_coco_384x288', (288, 384), (72, 96), 3, 32, 17)])
def test_sizes_belong_together(name: str, size, heatmap, sigma: int, batch: int, kernel: int) -> None:
    _, config = settings('--model_config', name)
    assert config['data']['image_size'] == size and config['data']['heatmap_size'] == heatmap
    assert step(config['train_pipeline'], 'TopDownGenerateTarget')['sigma'] == sigma
    assert config['train']['batch_size'] == batch and config['eval']['blur_kernel'] == kernel


@pytest.mark.parametrize('name', CONFIGS)
def test_every_configuration_resolves(name: str) -> None:
    _, config = settings('--model_config', name)
    height, width = map(int, name.rpartition('_')[2].split('x'))
    assert config['data']['image_size'] == (width, height)
    assert len(Compose(config['train_pipeline']).steps) > len(Compose(config['val_pipeline']).steps) > 3


def test_a_resolved_configuration_is_a_copy() -> None:
    settings('--train.epochs', '1', '--train_pipeline.TopDownRandomFlip.flip_prob', '0')
    experiment, config = settings()
    assert config['train']['epochs'] == 210
    assert step(config['train_pipeline'], 'TopDownRandomFlip')['flip_prob'] == 0.5
    experiment['device'] = 'changed'
    assert experiment_cfg['device'] == 'GPU'


# Overrides

@pytest.mark.parametrize(('option', 'value', 'expected'), [
    ('learning_rate', '1e-3', 1e-3), ('learning_rate', '2', 2.0), ('loss_scale', '1e3', 1000),
    ('loss_scale', '4096', 4096), ('random_seed', '7', 7), ('random_seed', 'None', None), ('max_steps', '12', 12),
    ('checkpoint_path', 'a b.ckpt', 'a b.ckpt'), ('experiment_tag', '12', '12'), ('skip_bad_images', 'true', True),
    ('skip_bad_images', 'False', False), ('skip_bad_images', '1', True), ('device', 'Ascend', 'Ascend')])
@pytest.mark.parametrize('joint', [True, False])
def test_experiment_options(option: str, value: str, expected: Any, joint: bool) -> None:
    experiment, _ = settings(*([f'--{option}={value}'] if joint else [f'--{option}', value]))
    assert experiment[option] == expected and type(experiment[option]) is type(expected)
    changed = {key for key in experiment_cfg if experiment[key] != experiment_cfg[key]}
    assert changed - {option, 'data_root', 'output_root'} == set()


def test_a_flag_without_value_is_true() -> None:
    experiment, _ = settings('--skip_bad_images', '--device', 'CPU')
    assert experiment['skip_bad_images'] is True and experiment['device'] == 'CPU'


@pytest.mark.parametrize(('option', 'value', 'expected'), [
    ('train.epochs', '30', 30), ('train.lr_gamma', '1', 1.0), ('train.lr_steps', '24,28.5', (24, 28.5)),
    ('train.lr_steps', '(5, 6)', (5, 6)), ('train.lr_steps', '9', (9,)), ('data.image_size', '[96,128]', (96, 128)),
    ('model.stage_channels', '8,16,32,64', (8, 16, 32, 64)), ('model.module', 'NAIVE', 'NAIVE'),
    ('eval.flip_test', 'false', False),
    ('eval.score_threshold', '-1', -1.0), ('data.val_images', '2017', '2017'), ('eval.decoding', 'udp', 'udp')])
@pytest.mark.parametrize('joint', [True, False])
def test_entries_of_the_model_configuration(option: str, value: str, expected: Any, joint: bool) -> None:
    _, config = settings(*([f'--{option}={value}'] if joint else [f'--{option}', value]))
    section, key = option.split('.')
    assert config[section][key] == expected and type(config[section][key]) is type(expected)


def test_the_heatmaps_follow_the_images() -> None:
    assert settings('--data.image_size', '96,128')[1]['data']['heatmap_size'] == (24, 32)


@pytest.mark.parametrize(('option', 'value', 'expected'), [
    ('train_pipeline.TopDownRandomFlip.flip_prob', '0', 0.0),
    ('train_pipeline.TopDownAffine.use_udp', 'true', True),  # at its default in the configuration
    ('val_pipeline.TopDownAffine.use_udp', 'true', True),
    ('train_pipeline.TopDownGetRandomScaleRotation.rot_prob', '1', 1.0),
    ('train_pipeline.TopDownGetRandomScaleRotation.rot_factor', '22.5', 22.5),
    ('train_pipeline.TopDownGenerateTarget.sigma', '1.5', 1.5),
    ('train_pipeline.TopDownGenerateTarget.encoding', 'UDP', 'UDP'),
    ('train_pipeline.NormalizeTensor.mean', '0,0,0.5', (0, 0, 0.5))])
def test_steps_of_a_pipeline_by_their_type(option: str, value: str, expected: Any) -> None:
    _, config = settings(f'--{option}', value)
    pipeline, kind, argument = option.split('.')
    assert step(config[pipeline], kind)[argument] == expected
    other = 'train_pipeline' if pipeline == 'val_pipeline' else 'val_pipeline'
    assert config[other] == settings()[1][other]
    built = next(s for s in Compose(config[pipeline]).steps if type(s).__name__ == kind)
    assert getattr(built, argument) == expected


# Precedence

def test_the_papers_recipe() -> None:
    experiment, config = settings('--recipe', 'paper')
    assert experiment['learning_rate'] * 8 == pytest.approx(2e-3) and experiment['weight_decay'] == 0
    assert config['train']['optimizer'] == 'Adam' and 'recipes' not in config


def test_the_command_line_beats_the_recipe_and_the_recipe_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(experiment_cfg, 'learning_rate', 0.5)
    monkeypatch.setitem(experiment_cfg, 'loss_scale', 8)
    assert settings()[0]['learning_rate'] == 0.5
    experiment, config = settings('--recipe', 'paper', '--weight_decay', '0.25', '--train.optimizer', 'SGD')
    assert experiment['learning_rate'] == 2.5e-4  # recipe over file
    assert experiment['loss_scale'] == 8  # file, untouched by the recipe
    assert experiment['weight_decay'] == 0.25 and config['train']['optimizer'] == 'SGD'  # command line over recipe
    assert settings('--recipe', 'paper', '--learning_rate', '0.5')[0]['learning_rate'] == 0.5


# A configuration of the user's own

OWN = '''
from configs.base import LITE_18
from configs.coco_base import coco_config

config = coco_config(dict(LITE_18, stage_modules=(1,), stage_channels=(8, 16)), image_size=(64, 64))
'''


def test_a_configuration_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / 'my-own.py'  # no module name: it is loaded as a file
    path.write_text(OWN)
    experiment, config = settings('--model_config', str(path), '--output_root', str(tmp_path), '--train.epochs', '2')
    assert config['model']['stage_channels'] == (8, 16) and config['train']['epochs'] == 2
    assert final_checkpoint(experiment) == tmp_path / 'checkpoints' / 'lhrnet18_256_coco_default' / 'my-own.ckpt'


def test_a_configuration_without_recipes_has_the_seeds(tmp_path: Path) -> None:
    path = tmp_path / 'plain.py'
    path.write_text(f'{OWN}\nconfig.pop("recipes", None)\n')
    assert settings('--model_config', str(path))[0]['learning_rate'] == 5e-5
    with pytest.raises(InputError, match="recipe 'paper'"):
        settings('--model_config', str(path), '--recipe', 'paper')


def test_a_file_that_is_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / 'odd.py'
    path.write_text('config = 3')
    with pytest.raises(InputError, match=r'odd\.py: defines no dict named config'):
        settings('--model_config', str(path))
    with pytest.raises(InputError, match=r'nowhere\.py'):
        settings('--model_config', str(tmp_path / 'nowhere.py'))


# Paths

def test_default_paths_stand_in_the_repository_wherever_it_is_called(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    experiment, _ = settings()
    root = Path(module.__file__).parents[1]
    assert Path(experiment['data_root']) == root / 'data' / 'coco'
    assert checkpoint_folder(experiment) == root / 'checkpoints' / 'lhrnet18_256_coco_default'
    assert settings('--data_root', 'here')[0]['data_root'] == 'here'
    given, _ = settings('--output_root', 'there', '--experiment_tag', 'x')
    assert final_checkpoint(given) == Path('there/checkpoints/x/litehrnet_18_coco_256x192.ckpt')


def test_the_checkpoint_to_read(tmp_path: Path) -> None:
    experiment, _ = settings('--output_root', str(tmp_path), '--experiment_tag', 'x')
    with pytest.raises(InputError, match=r'litehrnet_18_coco_256x192\.ckpt: no such checkpoint'):
        require_checkpoint(None, experiment)
    written = tmp_path / 'checkpoints' / 'x' / 'litehrnet_18_coco_256x192.ckpt'
    written.parent.mkdir(parents=True)
    written.touch()
    assert require_checkpoint(None, experiment) == written
    with pytest.raises(InputError, match=r'other\.ckpt: no such checkpoint'):
        require_checkpoint(str(tmp_path / 'other.ckpt'), experiment)


# Refusals

@pytest.mark.parametrize(('argv', 'words'), [
    (['--learning_rte', '1'], "unknown option '--learning_rte'.*'--learning_rate'"),
    (['--learn', '1'], "unknown option '--learn'"),
    (['stray'], "unknown option 'stray'"),
    (['--train.epoch', '3'], "--train.epoch: 'epoch'.*did you mean 'epochs'"),
    (['--trian.epochs', '3'], "'trian'.*did you mean 'train'"),
    (['--train.epochs.more', '3'], "'more' is not in"),
    (['--model.stage_channels', '1.5,2,3,4'], 'whole numbers'),
    (['--model.stage_modules', '1,1'], 'one branch more'),
    (['--train_pipeline.TopDownAfine.use_udp', '1'], "did you mean 'TopDownAffine'"),
    (['--train_pipeline.TopDownAffine.use_upd', '1'], "did you mean 'use_udp'"),
    (['--val_pipeline.TopDownRandomFlip.flip_prob', '0'], "'TopDownRandomFlip' is not in"),
    (['--train.epochs'], '--train.epochs: a value is missing'),
    (['--recipe', 'papier'], "recipe 'papier': did you mean 'paper'"),
    (['--model_config', 'litehrnet_18_coco_256x129'], "no such file .*did you mean 'litehrnet_18_coco_256x192'"),
    (['--model_config', '../configs/coco_base'], 'no such file'),
    (['--learning_rate', 'fast'], "--learning_rate 'fast': expected float, like 5e-05"),
    (['--learning_rate', 'nan'], "--learning_rate 'nan'"),
    (['--learning_rate', 'inf'], "--learning_rate 'inf'"),
    (['--loss_scale', '1e999'], "--loss_scale '1e999': expected int"),
    (['--random_seed', '1.5'], "--random_seed '1.5': expected int"),
    (['--start_epoch', '2.5'], "--start_epoch '2.5': expected int"),
    (['--skip_bad_images', 'yes'], "--skip_bad_images 'yes': expected true or false"),
    (['--eval.flip_test', 'maybe'], 'expected true or false'),
    (['--train.lr_steps', '1,x'], "--train.lr_steps '1,x': expected numbers with commas"),
    (['--train.lr_steps', '"1"'], 'expected numbers with commas'),
    (['--data.info', 'coco'], "--data.info 'coco': expected one of its entries"),
    (['--device', 'cpu'], "device 'cpu': choose one of GPU, CPU, Ascend"),
    (['--model.module', 'naive'], "model.module 'naive': choose one of LITE, NAIVE"),
    (['--train.optimizer', 'RAdam'], "train.optimizer 'RAdam': choose one of AdamWeightDecay, Adam, SGD"),
    (['--eval.decoding', 'best'], "eval.decoding 'best': choose one of none, default, dark, udp"),
    (['--eval.nms', 'off'], "eval.nms 'off': choose one of hard, soft, none"),
    (['--eval.backend', 'cocotools'], "eval.backend 'cocotools': choose one of auto, xtcocotools, pycocotools"),
    (['--eval.boxes', 'all'], "eval.boxes 'all': choose one of"),
    (['--eval.blur_kernel', '10'], 'eval.blur_kernel 10: must be odd'),
    (['--data.image_size', '192,250'], r'data.image_size \(192, 250\): .*multiples of 32'),
    (['--data.image_size', '0,32'], 'multiples of 32'),
    (['--data.image_size', '64'], 'multiples of 32'),
    (['--learning_rate', '-1'], 'learning_rate -1.0: must be at least 0'),
    (['--loss_scale', '0'], 'loss_scale 0: must be at least 1'),
    (['--random_seed', '-1'], 'random_seed -1'),
    (['--max_steps', '0'], 'max_steps 0'),
    (['--checkpoint_interval', '0'], 'checkpoint_interval 0'),
    (['--workers', '-1'], 'workers -1'),
    (['--train.epochs', '0'], 'train.epochs 0: must be at least 1'),
    (['--eval.batch_size', '0'], 'eval.batch_size 0'),
    (['--train.warmup_steps', '-5'], 'train.warmup_steps -5: must be at least 0')])
def test_refusals_name_the_value_in_one_line(argv: list[str], words: str) -> None:
    before = copy.deepcopy(experiment_cfg)
    with pytest.raises(InputError, match=words) as caught:
        settings(*argv)
    assert '\n' not in str(caught.value) and experiment_cfg == before


def test_every_recipe_of_every_configuration_resolves() -> None:
    for name in CONFIGS:
        for recipe in load_model_config(name)['recipes']:
            assert settings('--model_config', name, '--recipe', recipe)[0]['recipe'] == recipe


# Settings saved and taken up again

def saved(tmp_path: Path, *argv: str) -> tuple[Path, tuple[dict[str, Any], dict[str, Any]]]:
    """A config.json of these settings."""
    experiment, config = settings(*argv)
    path = tmp_path / 'config.json'
    path.write_text(json.dumps({'experiment': experiment, 'config': config}))
    return path, (experiment, config)


@pytest.mark.parametrize('name', CONFIGS)
def test_saved_settings_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    path, expected = saved(tmp_path, '--model_config', name, '--recipe', 'paper', '--learning_rate', '3e-4',
                           '--train_pipeline.TopDownAffine.use_udp', 'true', '--train.lr_steps', '3,4',
                           '--random_seed', '7', '--data_root', 'elsewhere')
    assert settings('--config', str(path)) == expected


def test_the_command_line_stands_above_saved_settings(tmp_path: Path) -> None:
    path, (experiment, config) = saved(tmp_path, '--recipe', 'paper', '--learning_rate', '3e-4')
    found, changed = settings('--config', str(path), '--train.epochs', '3', '--device', 'CPU')
    assert found == {**experiment, 'device': 'CPU'} and changed['train'] == {**config['train'], 'epochs': 3}
    assert settings('--config', str(path), '--recipe', 'paper')[0]['learning_rate'] == 2.5e-4


@pytest.mark.parametrize('spelling', ['--print_config', '--print-config'])
def test_printed_settings_can_be_passed_back(tmp_path: Path, spelling: str, capsys: pytest.CaptureFixture) -> None:
    argv = ['--train.epochs', '3', '--device', 'CPU']
    with pytest.raises(SystemExit) as caught:
        settings(spelling, *argv)
    assert caught.value.code == 0
    path = tmp_path / 'printed.json'
    path.write_text(capsys.readouterr().out)
    assert settings('--config', str(path)) == settings(*argv)


@pytest.mark.parametrize(('text', 'words'), [
    ('{"experiment": {}', 'not a JSON file'),
    ('[]', 'no saved settings'),
    ('{"experiment": {}}', 'no saved settings'),
    ('{"experiment": {"devise": "CPU"}, "config": {}}', "'devise'.*'device'"),
    ('{"experiment": {"start_epoch": "one"}, "config": {}}', "start_epoch 'one'"),
    ('{"experiment": {"random_seed": "one"}, "config": {}}', "random_seed 'one'"),
    ('{"experiment": {}, "config": {"train": {"epoch": 3}}}', "train: 'epoch'.*'epochs'"),
    ('{"experiment": {}, "config": {"train": 3}}', 'train 3'),
    ('{"experiment": {"device": "TPU"}, "config": {}}', 'GPU, CPU'),
])
def test_bad_saved_settings(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / 'config.json'
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        settings('--config', str(path))
    assert '\n' not in str(caught.value)


def test_saved_settings_of_another_model_configuration(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, '--model_config', 'litehrnet_30_coco_256x192')
    with pytest.raises(InputError, match='is of litehrnet_30'):
        settings('--config', str(path), '--model_config', 'litehrnet_18_coco_256x192')
