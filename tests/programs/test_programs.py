"""train.py, eval.py and export.py as a user runs them, on tiny data and a tiny network."""
from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

import eval as eval_program
import export as export_program
import train as train_program
from src.common import epoch_log
from src.common.errors import InputError
from src.training import tensorboard
from tests.networks import FREE_MINDIR
from tests.training.test_tensorboard import read_events

ROOT = Path(__file__).resolve().parents[2]
NETWORK = ['--model.stage_modules', '1', '--model.stage_channels', '8,16', '--data.image_size', '64,64']


def common(data_root: Path, output: Path, *more: str) -> list[str]:
    return ['--device', 'CPU', '--data_root', str(data_root), '--output_root', str(output), '--experiment_tag', 'tiny',
            '--workers', '1', *NETWORK, *more]


def train_options(data_root: Path, output: Path, *more: str) -> list[str]:
    return common(data_root, output, '--train.epochs', '2', '--train.batch_size', '4', '--random_seed', '3',
                  '--checkpoint_interval', '1', *more)


@pytest.fixture(scope='module')
def trained(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output root of a training of two epochs."""
    output = tmp_path_factory.mktemp('trained')
    assert train_program.main(train_options(synthetic, output, '--tensorboard')) == 0
    return output


def test_training_writes_checkpoints_logs_and_events(trained: Path) -> None:
    folder = trained / 'checkpoints' / 'tiny'
    names = {p.name for p in folder.iterdir()}
    assert {'litehrnet_18_coco_256x192.ckpt', 'litehrnet_18_coco_256x192_epoch1.ckpt', 'train.log', 'config.json',
            'steps.csv', 'epochs.jsonl'} <= names
    assert not [n for n in names if '.part' in n]
    rows = list(csv.DictReader((folder / 'steps.csv').open()))
    steps_per_epoch = sum(row['epoch'] == '1' for row in rows)
    assert len(rows) == 2 * steps_per_epoch and all(row['finite'] == '1' for row in rows)
    log = (folder / 'train.log').read_text()
    for epoch in ('1', '2'):
        mean = np.mean([float(row['loss']) for row in rows if row['epoch'] == epoch])
        assert f'epoch {epoch}: loss {mean:.6f}' in log
        row = epoch_log.read(folder / epoch_log.FILE)[int(epoch) - 1]
        assert row['epoch'] == int(epoch) and row['loss'] == pytest.approx(mean, rel=1e-6)
        assert row['learning_rate'] == float([r for r in rows if r['epoch'] == epoch][-1]['learning_rate'])
        assert row['skipped_steps'] == 0 and row['images_per_second'] > 0 and row['seconds'] > 0
    events = read_events(folder / tensorboard.FOLDER)[0]
    assert [value for _, value in events['step/loss']] == pytest.approx([float(r['loss']) for r in rows], rel=1e-6)
    assert [value for _, value in events['epoch/epoch']] == [1, 2]
    final, first, last = (ms.load_checkpoint(str(folder / f'litehrnet_18_coco_256x192{tail}.ckpt'))
                          for tail in ('', '_epoch1', '_epoch2'))
    assert all(np.array_equal(final[k].asnumpy(), last[k].asnumpy()) for k in final)
    assert any(not np.array_equal(final[k].asnumpy(), first[k].asnumpy()) for k in final)


@pytest.mark.parametrize('boxes', ['gt', 'det'])
def test_evaluation_finds_the_checkpoint_and_writes_both_files(trained: Path, synthetic: Path, boxes: str,
                                                               tmp_path: Path) -> None:
    metrics = tmp_path / 'm.json'
    assert eval_program.main(common(synthetic, trained, '--boxes', boxes, '--metrics_json', str(metrics))) == 0
    figures = json.loads(metrics.read_text())
    assert list(figures)[:10] == ['AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL']
    assert figures['boxes'] == boxes and figures['flip_test'] is True and figures['decoding'] == 'default'
    results = json.loads((trained / 'checkpoints' / 'tiny' / f'results_{boxes}.json').read_text())
    assert results and all(len(r['keypoints']) == 51 for r in results)


@pytest.mark.parametrize('batch_size', [pytest.param('0', marks=FREE_MINDIR), '2'])
def test_export_is_reloaded_and_compared(trained: Path, synthetic: Path, tmp_path: Path, batch_size: str,
                                         capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / 'a b' / 'Netz+größer.mindir'  # MindSpore itself takes no such names
    assert export_program.main(common(synthetic, trained, '--output', str(output), '--batch_size', batch_size)) == 0
    assert 'largest difference' in capsys.readouterr().out
    images = np.random.default_rng(1).standard_normal((2, 3, 64, 64), np.float32)
    heatmaps = ms.nn.GraphCell(ms.load(str(output)))(ms.Tensor(images)).asnumpy()
    assert heatmaps.shape == (2, 17, 16, 16) and np.ptp(heatmaps) > 0


@pytest.mark.parametrize('decoding', ['udp', 'megvii'])
def test_keypoints_of_other_heatmaps_are_not_exported(trained: Path, synthetic: Path, decoding: str) -> None:
    with pytest.raises(InputError, match=f'--decode: .* wrong for heatmaps of eval.decoding {decoding}; leave it out'):
        export_program.main(common(synthetic, trained, '--decode', '--eval.decoding', decoding))


@pytest.mark.slow
def test_weights_to_start_from_and_first_epoch(trained: Path, synthetic: Path, tmp_path: Path) -> None:
    start = trained / 'checkpoints' / 'tiny' / 'litehrnet_18_coco_256x192_epoch1.ckpt'
    options = train_options(synthetic, tmp_path, '--checkpoint_path', str(start), '--start_epoch', '1',
                            '--max_steps', '1')
    assert train_program.main(options) == 0
    rows = list(csv.DictReader((tmp_path / 'checkpoints' / 'tiny' / 'steps.csv').open()))
    before = list(csv.DictReader((trained / 'checkpoints' / 'tiny' / 'steps.csv').open()))
    assert [row['epoch'] for row in rows] == ['2']
    assert rows[0]['learning_rate'] == next(row['learning_rate'] for row in before if row['epoch'] == '2')


def broken_copy(synthetic: Path, target: Path) -> Path:
    shutil.copytree(synthetic, target)
    return target


def spoil_image(root: Path) -> str:
    image = sorted((root / 'train2017').iterdir())[0]
    image.write_bytes(image.read_bytes()[:-1000])
    return image.name


def test_truncated_image_is_named(synthetic: Path, tmp_path: Path) -> None:
    root = broken_copy(synthetic, tmp_path / 'coco')
    name = spoil_image(root)
    with pytest.raises(InputError, match=f'{name}: .*truncated') as caught:
        train_program.main(train_options(root, tmp_path))
    assert '\n' not in str(caught.value)
    assert not list(tmp_path.rglob('*.ckpt'))


@pytest.mark.slow
def test_truncated_image_is_replaced_and_counted_when_asked(synthetic: Path, tmp_path: Path) -> None:
    root = broken_copy(synthetic, tmp_path / 'coco')
    spoil_image(root)
    assert train_program.main(train_options(root, tmp_path, '--skip_bad_images')) == 0
    assert 'unreadable images replaced' in (tmp_path / 'checkpoints/tiny/train.log').read_text()


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


def unknown_image(boxes: list) -> list:
    return [{**boxes[0], 'image_id': 987654}] + boxes[1:]


TRAIN_JSON, VAL_JSON = (f'annotations/person_keypoints_{split}2017.json' for split in ('train', 'val'))
DETECTIONS = 'person_detection_results/COCO_val2017_detections_AP_H_56_person.json'


@pytest.mark.parametrize(('program', 'spoil', 'words'), [
    (train_program, lambda r: shutil.rmtree(r), 'no such folder'),
    (train_program, lambda r: (r / TRAIN_JSON).unlink(), 'person_keypoints_train2017.json'),
    (train_program, lambda r: shutil.rmtree(r / 'train2017'), 'train2017'),
    (train_program, lambda r: (r / TRAIN_JSON).write_text('{"images": [], "annotations"'), 'train2017.json'),
    (train_program, lambda r: edit(r / TRAIN_JSON, lambda c: [1, 2]), 'train2017.json'),
    (train_program, lambda r: edit(r / TRAIN_JSON, lambda c: {**c, 'annotations': []}), 'train2017.json'),
    (eval_program, lambda r: (r / DETECTIONS).unlink(), 'detections_AP_H_56_person.json.*--boxes gt'),
    (eval_program, lambda r: edit(r / DETECTIONS, unknown_image), '987654'),
    (eval_program, lambda r: (r / VAL_JSON).unlink(), 'person_keypoints_val2017.json'),
])
def test_bad_data_is_one_line(program, spoil, words: str, trained: Path, synthetic: Path, tmp_path: Path) -> None:
    root = broken_copy(synthetic, tmp_path / 'coco')
    spoil(root)
    options = train_options(root, tmp_path) if program is train_program else common(root, trained)
    with pytest.raises(InputError, match=words) as caught:
        program.main(options)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'checkpoints').exists()


def test_checkpoint_of_another_network_truncated_or_absent(trained: Path, synthetic: Path, tmp_path: Path) -> None:
    checkpoint = trained / 'checkpoints' / 'tiny' / 'litehrnet_18_coco_256x192.ckpt'
    cut = tmp_path / 'cut.ckpt'
    cut.write_bytes(checkpoint.read_bytes()[:5000])
    wider = common(synthetic, trained)
    wider[wider.index('8,16')] = '16,32'
    for options, words in ((wider, 'litehrnet_18_coco_256x192.ckpt'),
                           (common(synthetic, trained, '--checkpoint', str(cut)), 'cut.ckpt'),
                           (common(synthetic, tmp_path), 'no such checkpoint')):
        for program in (eval_program, export_program):
            with pytest.raises(InputError, match=words) as caught:
                program.main(options)
            assert '\n' not in str(caught.value)
    assert not list(tmp_path.rglob('*.mindir'))


@pytest.mark.parametrize(('options', 'words'), [
    (['--learning_rte', '1'], "learning_rte.*'--learning_rate'"),
    (['--learning_rate', 'fast'], 'learning_rate.*fast'),
    (['--model_config', 'litehrnet_19_coco_256x192'], 'litehrnet_18_coco_256x192'),
    (['--train.epoch', '3'], "'epochs'"),
    (['--device', 'CPU', '--device_id', '7'], 'device_id 7'),
    (['--device', 'TPU'], 'GPU, CPU, Ascend'),
    (['--device', 'GPU', '--device_id', '0'], '--device CPU'),
])
def test_bad_settings_end_the_process_with_one_line(options: list[str], words: str, synthetic: Path) -> None:
    process = subprocess.run([sys.executable, str(ROOT / 'train.py'), '--data_root', str(synthetic), *options],
                          capture_output=True, text=True)
    assert process.returncode == 1
    *_, last = process.stderr.strip().splitlines()
    assert last.startswith('error: ')
    assert re.search(words, last), last
    assert 'Traceback' not in process.stderr


@pytest.mark.parametrize('program', ['train.py', 'eval.py', 'export.py'])
def test_help_names_every_setting_with_its_default(program: str) -> None:
    process = subprocess.run([sys.executable, str(ROOT / program), '--help'], capture_output=True, text=True,
                             check=True)
    assert '--checkpoint_interval' in process.stdout and '(default: 5e-05)' in process.stdout
