"""Settings: defaults, recipes, overrides, and what is refused."""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from src import config as module
from src.common.errors import InputError
from src.config import (
    ROOT,
    checkpoint_folder,
    crops_remark,
    experiment_cfg,
    final_checkpoint,
    load_model_config,
    parse,
    require_checkpoint,
    resolve,
)
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.pipeline import Compose

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
    ('tinypose_128x96', (96, 128), (24, 32), 1, 64, 5),
    ('litehrnet_18_wholebody_hand_256x256', (256, 256), (64, 64), 2, 32, 11),
    ('litehrnet_30_coco_384x288', (288, 384), (72, 96), 3, 32, 11)])
def test_sizes_belong_together(name: str, size, heatmap, sigma: int, batch: int, kernel: int) -> None:
    _, config = settings('--model_config', name)
    assert config['data']['image_size'] == size and config['data']['heatmap_size'] == heatmap
    assert step(config['train_pipeline'], 'TopDownGenerateTarget')['sigma'] == sigma
    assert config['train']['batch_size'] == batch and config['eval']['blur_kernel'] == kernel


@pytest.mark.parametrize('name', CONFIGS)
def test_windows_are_shifted_at_random_but_for_mpii(name: str) -> None:
    _, config = settings('--model_config', name)
    shifts = [step for step in config['train_pipeline'] if step['type'] == 'TopDownRandomShiftBboxCenter']
    assert shifts == ([] if 'mpii' in name else [
        dict(type='TopDownRandomShiftBboxCenter', shift_factor=0.16, prob=0.3)])
    assert not any('Shift' in step['type'] for step in config['val_pipeline'])


def test_mirrored_heatmaps_are_shifted_unless_decoding_is_udp(tmp_path: Path) -> None:
    def shift(*argv: str) -> bool:
        return settings(*argv)[1]['eval']['shift_heatmap']

    assert shift() is True and shift('--eval.decoding', 'dark') is True
    assert shift('--eval.decoding', 'udp') is False
    assert shift('--eval.decoding', 'udp', '--eval.shift_heatmap', 'true') is True
    saved = tmp_path / 'config.json'
    experiment, config = settings()
    saved.write_text(json.dumps(dict(experiment=experiment, config=config)))
    assert shift('--config', str(saved)) is True and shift('--config', str(saved), '--eval.decoding', 'udp') is False


def test_the_authors_batch_of_mpii() -> None:
    assert settings('--model_config', 'litehrnet_30_mpii_256x256')[1]['train']['batch_size'] == 64
    assert settings('--model_config', 'litehrnet_30_mpii_256x256', '--recipe', 'paper')[1]['train']['batch_size'] == 32


@pytest.mark.parametrize('name', CONFIGS)
def test_every_configuration_resolves(name: str) -> None:
    _, config = settings('--model_config', name)
    height, width = map(int, name.rpartition('_')[2].split('x'))
    assert config['data']['image_size'] == (width, height)
    assert len(Compose(config['train_pipeline']).steps) > len(Compose(config['val_pipeline']).steps) > 3


def test_hands() -> None:
    _, config = settings('--model_config', 'litehrnet_18_wholebody_hand_256x256')
    info = DatasetInfo.from_dict(config['data']['info'])
    assert config['model']['num_joints'] == len(info.sigmas) == 21 and info.can_flip and not info.flip_pairs
    assert info.joint_names[:6] == ('wrist', 'thumb1', 'thumb2', 'thumb3', 'thumb4', 'forefinger1')
    assert info.joint_names[-1] == 'pinky_finger4'
    assert len(info.skeleton) == 20 and {(0, 1), (3, 4), (0, 5), (0, 17), (19, 20)} < set(info.skeleton)
    turn = step(config['train_pipeline'], 'TopDownGetRandomScaleRotation')
    assert (turn['rot_factor'], turn['scale_factor']) == (90, 0.3)


def test_tinypose_decodes_as_its_weights_score_best() -> None:
    tinypose, wider = (settings('--model_config', name)[1] for name in (
        'tinypose_256x192', 'wider_naive_litehrnet_18_coco_256x192'))
    assert tinypose['eval'] == {**wider['eval'], 'decoding': 'dark'}
    assert {**tinypose, 'eval': None} == {**wider, 'eval': None}


def test_a_resolved_configuration_is_a_copy() -> None:
    settings('--train.epochs', '1', '--train_pipeline.TopDownRandomFlip.flip_prob', '0')
    experiment, config = settings()
    assert config['train']['epochs'] == 210
    assert step(config['train_pipeline'], 'TopDownRandomFlip')['flip_prob'] == 0.5
    experiment['device'] = 'changed'
    assert experiment_cfg['device'] == 'GPU'


# Precedence

def test_the_papers_recipe() -> None:
    experiment, config = settings('--recipe', 'paper')
    assert experiment['learning_rate'] * 8 == pytest.approx(2e-3) and experiment['weight_decay'] == 0
    assert config['train']['optimizer'] == 'Adam' and 'recipes' not in config


def test_the_recipe_for_short_trainings_augments_less() -> None:
    experiment, config = settings('--recipe', 'short', '--train.epochs', '4')
    assert experiment['learning_rate'] == 2e-3 and config['train'].items() >= {
        'optimizer': 'Adam', 'schedule': 'cosine', 'batch_size': 32, 'epochs': 4}.items()
    pipeline = config['train_pipeline']
    assert step(pipeline, 'TopDownHalfBodyTransform')['prob_half_body'] == 0
    assert step(pipeline, 'TopDownRandomShiftBboxCenter')['prob'] == 0
    assert step(pipeline, 'TopDownGetRandomScaleRotation').items() >= {'rot_factor': 10, 'scale_factor': 0.15}.items()


def test_the_recipe_for_short_trainings_goes_by_the_pipeline_there_is(tmp_path: Path) -> None:
    path = tmp_path / 'own.py'
    path.write_text(f'''{OWN}
turn = dict(type='TopDownGetRandomScaleRotation', rot_factor=90)
config['train_pipeline'][5:6] = [turn, dict(type='TopDownRandomTranslation')]
del config['train_pipeline'][4], config['train_pipeline'][2]
''')
    pipeline = settings('--model_config', str(path), '--recipe', 'short')[1]['train_pipeline']
    assert step(pipeline, 'TopDownGetRandomScaleRotation').items() >= {'rot_factor': 30, 'scale_factor': 0.3}.items()
    assert step(pipeline, 'TopDownRandomTranslation')['trans_prob'] == 0 and len(pipeline) == 10


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
    assert final_checkpoint({**experiment, 'model_config': 'mm.v2'}).name == 'mm.v2.ckpt'  # after mm.v2.py of MMPose


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


@pytest.mark.parametrize(('change', 'words'), [
    ('config["train"]["epoch"] = 3', r"own\.py: no setting 'train.epoch'; did you mean 'train.epochs'"),
    ('del config["eval"]["nms"]', r'own\.py: has no eval.nms'),
    ('del config["train"]', r'own\.py: has no train.epochs'),
    ('config["train"]["batch_size"] = "64"', r"own\.py: train.batch_size '64': expected int"),
    ('config["model"]["width"] = 3', r"own\.py: no setting 'model.width'"),
    ('config["model"]["num_joints"] = 3', 'model.num_joints 3: the data have 17 keypoints'),
    ('config["data"]["heatmap_size"] = (32, 32)', r'data.heatmap_size \(32, 32\): follows from'),
    ('config["recipes"] = {"seed": {"learning_rte": 1}}', "recipe seed: learning_rte: no entry.*'learning_rate'"),
    ('config["recipes"] = {"seed": {"train.epochs": "x"}}', "recipe seed: train.epochs 'x': expected int")])
def test_faults_of_a_configuration_of_ones_own(tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / 'own.py'
    path.write_text(f'{OWN}{change}\n')
    with pytest.raises(InputError, match=words) as caught:
        settings('--model_config', str(path))
    assert '\n' not in str(caught.value)


def test_a_configuration_of_ones_own_in_lists(tmp_path: Path) -> None:
    path = tmp_path / 'own.py'
    path.write_text(f'{OWN}config["data"]["image_size"] = [64, 64]\n'
                    'del config["model"]["num_joints"], config["data"]["heatmap_size"]\n')
    _, config = settings('--model_config', str(path))
    assert config['data']['image_size'] == (64, 64) and config['data']['heatmap_size'] == (16, 16)
    assert config['model'] == dict(module='LITE', stage_modules=(1,), stage_channels=(8, 16), num_joints=17)


@pytest.mark.parametrize(('key', 'value', 'words'), [
    ('devise', 'CPU', "src/config.py: devise: no entry 'devise'; did you mean 'device'"),
    ('learning_rate', '1e-3', "src/config.py: learning_rate '1e-3': expected float"),
    ('workers', None, 'src/config.py: workers None: expected int')])
def test_faults_of_an_edited_experiment(key: str, value: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(experiment_cfg, key, value)
    with pytest.raises(InputError, match=words):
        settings()


def test_an_edited_experiment_takes_numbers_of_either_type_and_any_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (('loss_scale', 1024.0), ('learning_rate', 1), ('workers', 0)):
        monkeypatch.setitem(experiment_cfg, key, value)
    experiment, _ = settings()
    assert [repr(experiment[key]) for key in ('loss_scale', 'learning_rate', 'workers')] == ['1024', '1.0', '0']


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


# Recipes

@pytest.mark.parametrize(('argv', 'words'), [
    (['--recipe', 'papier'], "recipe 'papier': did you mean 'paper'"),
    (['--model_config', 'litehrnet_18_coco_256x129'], "no such file .*did you mean 'litehrnet_18_coco_256x192'"),
    (['--model_config', '../configs/coco_base'], 'no such file')])
def test_refusals_name_the_value_in_one_line(argv: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        settings(*argv)
    assert '\n' not in str(caught.value)


def test_every_recipe_of_every_configuration_resolves() -> None:
    for name in CONFIGS:
        for recipe in load_model_config(name)['recipes']:
            assert settings('--model_config', name, '--recipe', recipe)[0]['recipe'] == recipe


OWN_CONFIG = """import copy
from configs.litehrnet_18_coco_256x192 import config
config = copy.deepcopy(config)
"""


def test_functions_as_steps_of_a_configuration_are_refused(tmp_path: Path) -> None:
    file = tmp_path / 'mine.py'
    file.write_text(f"{OWN_CONFIG}config['train_pipeline'].insert(1, len)\n")
    with pytest.raises(InputError, match=r'train_pipeline: .* is no step that config\.json can hold'):
        resolve({'model_config': str(file)}, {})


def test_a_dataset_info_of_mmpose(tmp_path: Path) -> None:
    file = tmp_path / 'mice.py'
    file.write_text(OWN_CONFIG + """config['data']['info'] = dict(
    dataset_name='mice', keypoint_info={0: dict(name='nose', swap=''), 1: dict(name='tail', type='lower')},
    skeleton_info={0: dict(link=('nose', 'tail'))}, joint_weights=[1, 1], sigmas=[0.02, 0.1])
config['model']['num_joints'] = None
""")
    found = resolve({'model_config': str(file)}, {})[1]
    assert found['model']['num_joints'] == 2 and found['data']['info']['name'] == 'mice'
    assert json.loads(json.dumps(found['data']['info']))['skeleton'] == [[0, 1]]


def test_other_crops_than_the_trainings_are_remarked_upon(tmp_path: Path) -> None:
    experiment, trained = settings()
    checkpoint = tmp_path / 'best.ckpt'
    assert crops_remark(checkpoint, trained) == ''
    (tmp_path / 'config.json').write_text(json.dumps(dict(experiment=experiment, config=trained)))
    assert crops_remark(checkpoint, trained) == ''
    assert crops_remark(checkpoint, settings('--eval.decoding', 'dark', '--train.epochs', '3')[1]) == ''
    assert crops_remark(checkpoint, settings('--val_pipeline.TopDownGetBboxCenterScale.padding', '1.25')[1]) == ''
    for changed in (['--val_pipeline.TopDownAffine.use_udp', 'true'], ['--data.image_size', '288,384']):
        remark = crops_remark(checkpoint, settings(*changed)[1])
        assert str(checkpoint) in remark and f'--config {tmp_path / "config.json"}' in remark


@pytest.mark.parametrize('content', ['{"model_type": "pose"}', 'no JSON', '{"experiment": {}, "config": {}}',
                                     '{"experiment": {}, "config": {"val_pipeline": 3, "data": {}}}'])
def test_a_config_of_something_else_beside_a_checkpoint_is_no_matter(tmp_path: Path, content: str) -> None:
    (tmp_path / 'config.json').write_text(content)
    assert crops_remark(tmp_path / 'net.pth', settings()[1]) == ''
