"""train.py and eval.py on five MPII images, a small network and a ground-truth file written here in MPII's layout."""
from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import eval as eval_program
import train as train_program
from src import test_utils
from src.common.errors import InputError
from src.config import load_model_config
from src.mmpose.pck import GROUPS

FIGURES = [name + suffix for suffix in ('', '@0.1') for name in (*GROUPS, 'Mean')]


@pytest.fixture(scope='module')
def root(goldens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five images with a ground-truth file, whose head boxes are 60x80 pixels: head size 60."""
    root = tmp_path_factory.mktemp('data') / 'mpii'
    shutil.copytree(goldens / 'mpii_tiny', root, copy_function=shutil.copyfile)
    for folder in (root, root / 'annotations'):
        folder.chmod(0o755)
    persons = json.loads((root / 'annotations/mpii_val.json').read_text())
    savemat(root / 'annotations/mpii_gt_val.mat', dict(
        pos_gt_src=np.array([p['joints'] for p in persons]).transpose(1, 2, 0),
        jnt_missing=1 - np.array([p['joints_vis'] for p in persons]).T,
        headboxes_src=np.repeat(np.array([[0, 0], [60, 80]])[..., None], len(persons), axis=2)))
    return root


def options(root: Path, output: Path, *more: str) -> list[str]:
    return ['--device', 'CPU', '--model_config', 'litehrnet_18_mpii_256x256', '--data_root', str(root), '--output_root',
            str(output), '--experiment_tag', 'tiny', '--workers', '1', '--model.stage_modules', '1',
            '--model.stage_channels', '8,16', '--data.image_size', '64,64', *more]


@pytest.fixture(scope='module')
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output root of one step of training."""
    output = tmp_path_factory.mktemp('trained')
    assert train_program.main(options(root, output, '--train.epochs', '1', '--train.batch_size', '4')) == 0
    return output


def test_training_takes_its_step(trained: Path) -> None:
    rows = list(csv.DictReader((trained / 'checkpoints/tiny/steps.csv').open()))
    assert [row['finite'] for row in rows] == ['1'] and float(rows[0]['loss']) > 0


def test_evaluation_writes_the_figures_and_the_persons(trained: Path, root: Path) -> None:
    assert eval_program.main(options(root, trained)) == 0
    folder = trained / 'checkpoints/tiny'
    found = json.loads((folder / 'metrics_gt.json').read_text())
    assert list(found)[:16] == FIGURES and all(-1 <= found[name] <= 100 for name in FIGURES)
    assert found['boxes'] == 'gt' and found['boxes_evaluated'] == 5 and 'nms' not in found
    results = json.loads((folder / 'results_gt.json').read_text())
    assert len(results) == 5 and all(len(r['keypoints']) == 48 for r in results)


def test_perfect_heatmaps_score_within_their_grid(trained: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is replaced by the targets of the very crops: all that is left is the heatmap's resolution."""
    config = load_model_config('litehrnet_18_mpii_256x256')
    found = []

    def targets(forward, dataset, settings, workers):
        steps = [step for step in config['train_pipeline'] if 'Random' not in step['type']]
        samples = type(dataset)(dataset.info, root / 'annotations/mpii_val.json', root / 'images', (256, 256), (64, 64),
                                steps)
        maps = iter([samples.sample(i)['target'] for i in range(len(samples))])
        settings.update(flip_test=False, batch_size=1)
        found.append(predict(lambda images: next(maps)[None], dataset, settings, 1))
        return found[0]

    predict = test_utils.predict
    monkeypatch.setattr(eval_program, 'predict', targets)
    metrics = trained / 'perfect.json'
    whole = options(root, trained, '--metrics_json', str(metrics))
    whole[whole.index('64,64')] = '256,256'
    assert eval_program.main(whole) == 0
    scores = json.loads(metrics.read_text())
    assert [scores[name] for name in FIGURES[:8]] == [100] * 8
    persons = json.loads((root / 'annotations/mpii_val.json').read_text())
    error = np.linalg.norm(found[0].keypoints[..., :2] + 1 - [p['joints'] for p in persons], axis=-1)
    cell = 1.25 * 200 / 64 * np.array([p['scale'] for p in persons])
    visible = np.array([p['joints_vis'] for p in persons]) > 0
    assert (error / cell[:, None])[visible].max() < 0.75


def test_what_mpii_lacks_is_refused_before_the_network_runs(trained: Path, root: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_program, 'build_network', None)
    with pytest.raises(InputError, match=r"'det'.*--boxes gt"):
        eval_program.main(options(root, trained, '--boxes', 'det'))
    other = tmp_path / 'mpii'
    shutil.copytree(root, other)
    truth = other / 'annotations/mpii_gt_val.mat'
    annotations = other / 'annotations/mpii_val.json'
    annotations.write_text(json.dumps(json.loads(annotations.read_text())[:4]))
    with pytest.raises(InputError, match=r'mpii_gt_val\.mat: holds 5 persons, the annotations 4'):
        eval_program.main(options(other, trained))
    truth.unlink()
    with pytest.raises(InputError, match=r'mpii_gt_val\.mat: cannot be read') as caught:
        eval_program.main(options(other, trained))
    assert '\n' not in str(caught.value)


def test_unknown_data_type_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.type 'mpi'.*coco, mpii"):
        train_program.main(options(root, tmp_path, '--data.type', 'mpi'))


@pytest.mark.parametrize('name', ['litehrnet_18', 'litehrnet_30', 'naive_litehrnet_18', 'wider_naive_litehrnet_18'])
def test_configurations_differ_from_coco_in_data_half_body_and_shifted_windows_alone(name: str) -> None:
    mpii, coco = (load_model_config(f'{name}_{rest}') for rest in ('mpii_256x256', 'coco_256x192'))
    assert mpii['model'] == {**coco['model'], 'num_joints': 16}
    assert mpii['train'] == coco['train'] and mpii['val_pipeline'] == coco['val_pipeline']
    assert mpii['train_pipeline'] == [step for step in coco['train_pipeline'] if step['type'] not in (
        'TopDownHalfBodyTransform', 'TopDownRandomShiftBboxCenter')]
    assert mpii['eval'] == {**coco['eval'], 'boxes': 'gt', 'nms': 'none'}


def test_joints_are_in_mpii_order() -> None:
    info = load_model_config('litehrnet_18_mpii_256x256')['data']['info']
    names = info['joint_names']
    assert len(names) == len(info['sigmas']) == 16
    for left, right in info['flip_pairs']:
        assert names[left] == names[right].replace('right', 'left') != names[right]
        assert info['sigmas'][left] == info['sigmas'][right]
    assert [names[j] for j in info['upper_body']] == list(names[7:])
    for group, joints in GROUPS.items():
        assert all(group.lower() in names[j] for j in joints)
