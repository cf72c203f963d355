"""Options given as text take the place and the type of settings."""
from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from src.common.errors import InputError
from src.config import experiment_cfg
from src.mmpose.pipeline import Compose
from src.settings.table import EXPERIMENT
from tests.test_config import OWN, settings, step


@pytest.mark.parametrize(('option', 'value', 'expected'), [
    ('learning_rate', '1e-3', 1e-3), ('learning_rate', '2', 2.0), ('loss_scale', '1e3', 1000),
    ('loss_scale', '4096', 4096), ('random_seed', '7', 7), ('random_seed', 'None', None), ('max_steps', '12', 12),
    ('checkpoint_path', 'a b.ckpt', 'a b.ckpt'), ('experiment_tag', '12', '12'), ('skip_bad_images', 'true', True),
    ('skip_bad_images', 'False', False), ('skip_bad_images', '1', True), ('device', 'Ascend', 'Ascend')])
@pytest.mark.parametrize('joint', [True, False])
def test_experiment_options(option: str, value: str, expected: Any, joint: bool) -> None:
    experiment, _ = settings(*([f'--{option}={value}'] if joint else [f'--{option}', value]))
    assert experiment[option] == expected and type(experiment[option]) is type(expected)
    defaults, _ = settings()
    assert {key for key in EXPERIMENT if experiment[key] != defaults[key]} <= {option}


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


def test_a_value_with_spaces_and_one_that_looks_like_an_option() -> None:
    _, config = settings('--data.val_images=my images', '--data.val_annotations=--odd')
    assert (config['data']['val_images'], config['data']['val_annotations']) == ('my images', '--odd')


@pytest.mark.parametrize(('key', 'value'), [('checkpoint_path', 'a.ckpt'), ('random_seed', 3), ('max_steps', 3),
                                            ('freeze', 'stem')])
def test_none_is_taken_whatever_the_default(key: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(experiment_cfg, key, value)
    assert settings()[0][key] == value
    assert settings(f'--{key}', 'none')[0][key] is None
    assert settings('--recipe', 'paper', f'--{key}', 'None')[0][key] is None


@pytest.mark.parametrize('text', ['170,200', '(170, 200)', '[170, 200,]'])
def test_epochs_take_the_place_of_none_and_none_of_epochs(text: str, tmp_path: Path) -> None:
    path = tmp_path / 'constant.py'
    path.write_text(f'{OWN}config["train"]["lr_steps"] = ()\n')
    assert settings('--model_config', str(path))[1]['train']['lr_steps'] == ()
    assert settings('--model_config', str(path), '--train.lr_steps', text)[1]['train']['lr_steps'] == (170, 200)
    for nothing in ('', '()', '[]'):
        assert settings('--train.lr_steps', nothing)[1]['train']['lr_steps'] == ()


@pytest.mark.parametrize(('option', 'value', 'expected'), [
    ('flip_pairs', '((1, 2), (3, 4))', ((1, 2), (3, 4))), ('skeleton', '(0,1),(1,2)', ((0, 1), (1, 2))),
    ('upper_body', '()', ()), ('name', 'own', 'own'),
    ('joint_names', ','.join('abcdefghijklmnopq'), tuple('abcdefghijklmnopq'))])
def test_entries_of_the_data_set_info(option: str, value: str, expected: Any) -> None:
    assert settings(f'--data.info.{option}', value)[1]['data']['info'][option] == expected


def test_a_file_of_data_info_brings_its_number_of_keypoints(tmp_path: Path) -> None:
    path = tmp_path / 'info.json'
    path.write_text(json.dumps({'joint_names': ['head', 'left_hand', 'right_hand']}))
    _, config = settings('--data.info', str(path))
    assert config['model']['num_joints'] == 3 and config['data']['info']['flip_pairs'] == [[1, 2]]
    with pytest.raises(InputError, match=r"'coco': flip_pairs .* does not fit 3 keypoints"):
        settings('--data.info.joint_names', 'head,left_hand,right_hand')


def test_the_heatmaps_follow_the_images() -> None:
    assert settings('--data.image_size', '96,128')[1]['data']['heatmap_size'] == (24, 32)
    _, config = settings('--data.image_size', '96,128', '--data.heatmap_size', '24,32')
    assert config['data']['heatmap_size'] == (24, 32)


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


@pytest.mark.parametrize(('argv', 'words'), [
    (['--learning_rte', '1'], "unknown option '--learning_rte'.*'--learning_rate'"),
    (['--learn', '1'], "unknown option '--learn'"),
    (['stray'], "unknown option 'stray'"),
    (['--train.epoch', '3'], "--train.epoch: no entry 'epoch'; did you mean 'epochs'"),
    (['--trian.epochs', '3'], "'trian'.*did you mean 'train'"),
    (['--train.epochs.more', '3'], "--train.epochs.more: 210 has no entries"),
    (['--train_pipeline.TopDownAfine.use_udp', '1'], "did you mean 'TopDownAffine'"),
    (['--train_pipeline.TopDownAffine.use_upd', '1'], "did you mean 'use_udp'"),
    (['--val_pipeline.TopDownRandomFlip.flip_prob', '0'], "no entry 'TopDownRandomFlip'"),
    (['--train.epochs'], '--train.epochs: a value is missing'),
    (['--learning_rate', 'fast'], "--learning_rate 'fast': expected float, like 5e-05"),
    (['--learning_rate', 'nan'], "--learning_rate 'nan'"),
    (['--learning_rate', 'inf'], "--learning_rate 'inf'"),
    (['--loss_scale', '1e999'], "--loss_scale '1e999': expected int"),
    (['--random_seed', '1.5'], "--random_seed '1.5': expected int"),
    (['--start_epoch', '2.5'], "--start_epoch '2.5': expected int"),
    (['--loss_scale', '0.5'], "--loss_scale '0.5': expected int, like 65536"),
    (['--device.id', '1'], "--device.id: 'GPU' has no entries such as 'id'"),
    (['--data.image_size', '192x256'], "--data.image_size '192x256': expected whole numbers with commas"),
    (['--train_pipeline.TopDownRandomFlip.flip_prob', 'nan'], "flip_prob 'nan': expected float, like 0.5"),
    (['--skip_bad_images', 'yes'], "--skip_bad_images 'yes': expected true or false"),
    (['--eval.flip_test', 'maybe'], 'expected true or false'),
    (['--train.lr_steps', '1,x'], "--train.lr_steps '1,x': expected numbers with commas"),
    (['--train.lr_steps', '"1"'], 'expected numbers with commas'),
    (['--data.info', 'nowhere.json'], 'nowhere.json does not exist')])
def test_refusals_name_the_value_in_one_line(argv: list[str], words: str) -> None:
    before = copy.deepcopy(experiment_cfg)
    with pytest.raises(InputError, match=words) as caught:
        settings(*argv)
    assert '\n' not in str(caught.value) and experiment_cfg == before
