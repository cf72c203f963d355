"""Settings saved as config.json, or printed, and taken up again."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.common.errors import InputError
from tests.test_config import CONFIGS, settings


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
    assert settings('--config', str(path), '--recipe', 'paper') == (experiment, config), 'it is in the file'
    _, changed = settings('--config', str(path), '--data.image_size', '96,128')
    assert changed['data']['heatmap_size'] == (24, 32)


def test_a_recipe_comes_after_saved_settings_of_the_seeds_alone(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, '--recipe', 'short')
    for other in ('seed', 'paper'):
        with pytest.raises(InputError, match=f"--recipe {other}: .*config.json has the settings of the recipe 'short'"):
            settings('--config', str(path), '--recipe', other)
    assert settings('--config', str(path), '--recipe', 'short') == settings('--recipe', 'short')
    path, _ = saved(tmp_path)
    assert settings('--config', str(path), '--recipe', 'short') == settings('--recipe', 'short')


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
    ('{"experiment": {}, "config": {"train": {"epoch": 3}}}', "train.epoch: no entry 'epoch'.*'epochs'"),
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
