"""Training, evaluation and prediction with a config file of MMPose."""
from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import eval as eval_program
import export as export_program
import train as train_program
from src.common.errors import InputError
from src.prediction import load_model
from tests.mmpose_files import write_child, write_config
from tools import predict, report

TAG = ['--device', 'CPU', '--experiment_tag', 'mmpose']
NAME = 'small_coco_64x64'


@pytest.fixture(scope='module')
def file(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp('mmpose') / 'configs', str(synthetic))


@pytest.fixture(scope='module')
def trained(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output root of two steps, after which the config file is gone."""
    output = tmp_path_factory.mktemp('trained')
    assert train_program.main(['--mmpose_config', str(file), *TAG, '--output_root', str(output), '--max_steps',
                               '2']) == 0
    file.rename(file.with_suffix('.moved'))
    return output


@pytest.mark.slow
def test_trained_and_resumed_without_the_file(trained: Path, file: Path) -> None:
    folder = trained / 'checkpoints/mmpose'
    assert (folder / f'{NAME}.ckpt').is_file() and not file.exists()
    rows = list(csv.DictReader((folder / 'steps.csv').open()))
    assert len(rows) == 2 and all(row['finite'] == '1' for row in rows)
    # 5e-4 for eight devices, at the second of five steps of warm-up.
    assert float(rows[1]['learning_rate']) == pytest.approx(5e-4 / 8 * (0.001 + 0.999 / 5))
    assert train_program.main(['--config', str(folder / 'config.json'), '--resume', '--max_steps', '3']) == 0
    assert len(list(csv.DictReader((folder / 'steps.csv').open()))) == 3
    assert f'{NAME}_epoch1.state at step 2' in (folder / 'train.log').read_text()


@pytest.mark.slow
def test_evaluated_by_the_saved_settings(trained: Path) -> None:
    folder = trained / 'checkpoints/mmpose'
    assert eval_program.main(['--config', str(folder / 'config.json'), '--max_steps', '2']) == 0
    metrics = json.loads((folder / 'metrics_gt.json').read_text())
    assert metrics['model_config'] == NAME and metrics['nms'] == 'hard' and metrics['flip_test'] is True
    data = json.loads((folder / 'config.json').read_text())['experiment']['data_root']
    assert report.main(['--results', str(folder / 'results_gt.json'), '--annotations',
                        f'{data}/annotations/person_keypoints_val2017.json', '--images', f'{data}/val2017',
                        '--output', str(folder / 'report.html')]) == 0
    assert f'Evaluation of {NAME}' in (folder / 'report.html').read_text()


@pytest.mark.slow
def test_its_weights_predict(trained: Path, tmp_path: Path) -> None:
    """By the config.json beside them, or with the file given."""
    weights = trained / f'checkpoints/mmpose/{NAME}.ckpt'
    file = write_config(tmp_path / 'again')
    image, boxes = np.full((64, 64, 3), 9, np.uint8), [[0, 0, 64, 64]]
    beside, given = (load_model(weights, mmpose_config=config).predict(image, boxes) for config in (None, str(file)))
    assert beside.shape == (1, 17, 3) and np.array_equal(beside, given)


@pytest.mark.slow
def test_the_file_says_which_checkpoint(trained: Path, tmp_path: Path) -> None:
    """The network of another configuration does not fit the weights."""
    file = write_config(tmp_path / 'again')
    options = ['--mmpose_config', str(file), *TAG, '--output_root', str(trained), '--output',
               str(tmp_path / 'a.mindir')]
    with pytest.raises(InputError, match=rf'{NAME}\.ckpt'):
        export_program.main([*options, '--model_config', 'litehrnet_18_coco_256x192'])
    with pytest.raises(InputError, match=r'child\.ckpt: no such checkpoint'):
        export_program.main([*options, '--mmpose_config', str(write_child(file, 'total_epochs = 9'))])


def test_refused_by_every_program(tmp_path: Path) -> None:
    child = str(write_child(write_config(tmp_path), "model = dict(backbone=dict(type='HRNet'))"))
    (tmp_path / 'net.ckpt').write_bytes(b'')
    for main, more in ((train_program.main, []), (eval_program.main, []), (export_program.main, []), (
            predict.main, [str(Path(__file__).parents[2] / 'docs/predictions.jpg'), '--whole_image', '--checkpoint',
                           str(tmp_path / 'net.ckpt'), '--output', str(tmp_path / 'out')])):
        with pytest.raises(InputError, match=r"child\.py: model\.backbone\.type 'HRNet': no Lite-HRNet"):
            main([*more, '--mmpose_config', child])
