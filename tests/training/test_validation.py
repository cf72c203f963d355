"""Evaluation during training and the options of the step, through train.py."""
from __future__ import annotations

import argparse
import csv
import json
import logging
import re
import shutil
import signal
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

import eval as eval_program
import train as train_program
from src.callback import EpochTable, Progress
from src.common import epoch_log
from src.common.errors import InputError
from src.config import parse
from src.settings.build import build_network
from src.training import signals
from src.training import validation as validation_module
from src.training.signals import StopSignals
from src.training.state import read_state
from src.training.validation import Validation, choose_boxes
from tests.networks import randomise, save_small
from tests.programs.test_programs import DETECTIONS, NETWORK, common, edit, train_options
from tests.training.test_saving import process

NAME, LOGGER = 'litehrnet_18_coco_256x192', logging.getLogger('validation')
WIDE = ('--data.info.sigmas', ','.join(['1.0'] * 17), '--eval.nms', 'none')  # so that untrained networks score too


def folder_of(output: Path) -> Path:
    return output / 'checkpoints' / 'tiny'


def weights(output: Path, tail: str = '') -> dict[str, np.ndarray]:
    return {k: v.asnumpy() for k, v in ms.load_checkpoint(str(folder_of(output) / f'{NAME}{tail}.ckpt')).items()}


@pytest.fixture(scope='module')
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights to start from: the heatmaps of initial ones are so flat that rounding decides where they are highest."""
    settings = {key[2:]: value for key, value in zip(NETWORK[::2], NETWORK[1::2]) if '.' in key}
    return str(save_small(tmp_path_factory.mktemp('start'), settings))


@pytest.fixture(scope='module')
def plain(synthetic: Path, start: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp('plain')
    assert train_program.main(train_options(synthetic, output, '--checkpoint_path', start)) == 0
    return output


@pytest.fixture(scope='module')
def watched(synthetic: Path, start: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training, evaluated after each epoch."""
    output = tmp_path_factory.mktemp('watched')
    assert train_program.main(train_options(synthetic, output, '--checkpoint_path', start, '--eval_interval', '1',
                                            '--eval.decoding', 'dark', *WIDE)) == 0
    return output


@pytest.mark.slow
def test_evaluation_does_not_touch_the_training(plain: Path, watched: Path) -> None:
    for name, value in weights(plain).items():
        np.testing.assert_array_equal(weights(watched)[name], value, err_msg=name)
    rows = [list(csv.DictReader((folder_of(output) / 'steps.csv').open())) for output in (plain, watched)]
    assert rows[0] == rows[1]
    assert not (folder_of(plain) / f'{NAME}_best.ckpt').exists()


def test_figures_are_those_of_eval(watched: Path, synthetic: Path, tmp_path: Path) -> None:
    rows = epoch_log.read(folder_of(watched) / epoch_log.FILE)
    assert [row['epoch'] for row in rows] == [1, 2] and all({'loss', 'AP', 'ARL'} <= set(row) for row in rows)
    log = (folder_of(watched) / 'train.log').read_text()
    told = re.findall(r'epoch (\d): AP ([\d.]+) with det boxes(, the best so far)?', log)
    assert [(int(epoch), float(ap)) for epoch, ap, _ in told] == [(row['epoch'], round(row['AP'], 4)) for row in rows]
    assert all(row['AP'] > 0 for row in rows)
    best = max(rows, key=lambda row: row['AP'])
    found = tmp_path / 'm.json'
    for row in rows:
        checkpoint = folder_of(watched) / f'{NAME}_epoch{row["epoch"]}.ckpt'
        assert eval_program.main(common(
            synthetic, watched, *WIDE, '--eval.decoding', 'dark', '--metrics_json', str(found), '--results_json',
            str(tmp_path / 'r.json'), '--checkpoint', str(checkpoint))) == 0
        assert json.loads(found.read_text())['AP'] == pytest.approx(row['AP'], abs=1e-6)
    kept = weights(watched, '_best')
    for name, value in weights(watched, f'_epoch{best["epoch"]}').items():
        np.testing.assert_array_equal(kept[name], value, err_msg=name)


@pytest.mark.slow
def test_options_of_the_step_reach_it(plain: Path, synthetic: Path, tmp_path: Path) -> None:
    """Moving averages, accumulation, clipping, cosine and freezing in one short training without a detector file."""
    start = folder_of(plain) / f'{NAME}.ckpt'
    options = train_options(
        synthetic, tmp_path, '--eval_interval', '2', '--ema_decay', '0.9', '--accumulate_steps', '2', '--clip_norm',
        '1e-4', '--freeze', 'stem', '--train.schedule', 'cosine', '--train.warmup_steps', '0', '--checkpoint_path',
        str(start), '--data.detections', 'absent.json', '--learning_rate', '1', '--train.optimizer', 'SGD',
        '--weight_decay', '0')
    assert train_program.main(options) == 0
    rows = list(csv.DictReader((folder_of(tmp_path) / 'steps.csv').open()))
    steps = len(rows)
    rates = [(1 + np.cos(np.pi * (i // 2 * 2) / steps)) / 2 for i in range(steps)]
    np.testing.assert_allclose([float(row['learning_rate']) for row in rows], rates, rtol=1e-5)
    log = (folder_of(tmp_path) / 'train.log').read_text()
    assert 'uses annotated boxes: there is no absent.json' in log and 'with gt boxes, the best so far' in log
    before, after, best = weights(plain), weights(tmp_path), weights(tmp_path, '_best')
    trained = read_state(folder_of(tmp_path) / f'{NAME}_epoch2.state').arrays
    assert list(after) == list(before) and trained['ema.updates'] == steps // 2
    changes = {}
    for name, value in after.items():
        np.testing.assert_array_equal(value, trained[f'ema.{name}'], err_msg=f'{name}: the averages are the result')
        np.testing.assert_array_equal(value, best[name], err_msg=f'{name}: both are the averages')
        changes[name] = np.linalg.norm(trained[name] - before[name])
        if name.startswith('backbone.stem.'):
            np.testing.assert_array_equal(trained[name], before[name], err_msg=f'{name}: frozen')
    assert any(not np.array_equal(value, trained[name]) for name, value in after.items())
    learned = [change for name, change in changes.items() if 'moving' not in name]
    assert 0 < np.linalg.norm(learned) <= 1.001e-4 * sum(rates[::2]), 'each update is clipped to 1e-4'


@pytest.mark.parametrize(('options', 'words'), [
    (('--ema_decay', '1'), 'ema_decay 1.0: must be below 1'),
    (('--clip_norm', '-1'), 'clip_norm -1.0: must be at least 0'),
    (('--accumulate_steps', '0'), 'accumulate_steps 0'),
    (('--accumulate_steps', '1000'), 'would not update the network once; pass fewer'),
    (('--train.schedule', 'cosin'), "train.schedule 'cosin': choose one of step, cosine"),
    (('--freeze', 'steam'), "freeze 'steam': no part of the network"),
])
def test_settings_that_cannot_be(synthetic: Path, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        train_program.main(train_options(synthetic, tmp_path, *options))
    assert not (tmp_path / 'checkpoints').exists()


def test_rank_0_alone_writes_and_the_best_is_kept(synthetic: Path, tmp_path: Path) -> None:
    _, experiment, config = parse(argparse.ArgumentParser(), common(synthetic, tmp_path, '--eval_interval', '1', *WIDE))
    network, progress, folder = build_network(config), Progress(1, 9, step=4), folder_of(tmp_path)
    randomise(network)
    folder.mkdir(parents=True)
    table = EpochTable(folder / epoch_log.FILE, progress, LOGGER)

    def evaluate(table: EpochTable | None) -> Validation:
        validation = Validation(network, progress, experiment, config, LOGGER, StopSignals(), table)
        validation.on_train_begin(None)
        validation.on_train_epoch_end(None)
        return validation

    evaluate(None)
    assert not list(folder.iterdir()) and progress.figures['AP'] > 0
    best = evaluate(table).best
    assert best == progress.figures['AP']
    assert {path.name for path in folder.iterdir()} == {epoch_log.FILE, f'{NAME}_best.ckpt', f'{NAME}_best.ckpt.sha256'}
    kept = weights(tmp_path, '_best')
    progress.step = 5
    last = network.keypoint_head.final_layer
    last.weight.set_data(ms.ops.zeros_like(last.weight))  # the same heatmap everywhere
    last.bias.set_data(ms.ops.zeros_like(last.bias))
    assert evaluate(table).best == best > progress.figures['AP']
    assert all(np.array_equal(value, kept[name]) for name, value in weights(tmp_path, '_best').items())
    assert [(row['epoch'], row['AP']) for row in epoch_log.read(table.path)] == [(4, best), (5, progress.figures['AP'])]


def test_the_best_is_the_best_that_could_be_saved(synthetic: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    _, experiment, config = parse(argparse.ArgumentParser(), common(synthetic, tmp_path, '--eval_interval', '1'))
    progress, folder = Progress(1, 9), folder_of(tmp_path)
    folder.mkdir(parents=True)
    table = EpochTable(folder / epoch_log.FILE, progress, LOGGER)

    def save(network: None, path: Path) -> None:
        if progress.epoch == 2:
            raise OSError(28, 'No space left on device')
        path.write_text(f'epoch {progress.epoch}')

    monkeypatch.setattr(validation_module, 'save_network', save)
    validation = Validation(None, progress, experiment, config, LOGGER, StopSignals(), table)
    for progress.step, score in enumerate((0.2, 0.5, 0.48), 1):
        validation._record({'AP': score}, 1.0)
    assert validation.best == 0.48 and validation.best_file.read_text() == 'epoch 3'
    assert [row['best'] for row in epoch_log.read(table.path)] == [0.2, 0.2, 0.48]
    resumed = Validation(None, progress, experiment, config, LOGGER, StopSignals(), table)
    epoch_log.restart(table.path, 2)  # as a training does that was stopped within epoch 3
    resumed.on_train_begin(None)
    assert resumed.best == 0.48, 'not the 0.5 that is in no file, nor what the log has left'
    resumed._record({'AP': 0.3}, 1.0)
    assert validation.best_file.read_text() == 'epoch 3'
    config['eval'].update(boxes='gt', metrics=('PCK',))  # as --resume may
    other = Validation(None, progress, experiment, config, LOGGER, StopSignals(), table)
    assert other.best is None, 'a PCK is not compared with an AP'
    config['eval'].update(boxes='det', metrics=('AP',))
    progress.step = 0
    assert Validation(None, progress, experiment, config, LOGGER, StopSignals(), table).best is None, 'another training'


@pytest.mark.slow
def test_a_bad_image_costs_the_evaluation_and_nothing_else(synthetic: Path, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    root, states = tmp_path / 'coco', []
    shutil.copytree(synthetic, root)
    image = sorted((root / 'val2017').iterdir())[0]
    image.write_bytes(image.read_bytes()[:-1000])
    evaluate = Validation.on_train_epoch_end

    def with_states(self: Validation, run_context: object) -> None:
        states.extend(path.name for path in folder_of(tmp_path).glob('*.state'))
        evaluate(self, run_context)

    monkeypatch.setattr(Validation, 'on_train_epoch_end', with_states)
    options = train_options(root, tmp_path, '--eval_interval', '1', '--train.epochs', '1', '--checkpoint_interval',
                            '1000')
    assert train_program.main(options) == 0
    assert states == [f'{NAME}_epoch1.state'], 'saved before the evaluation'
    assert (folder_of(tmp_path) / f'{NAME}.ckpt').is_file()
    assert re.search(rf'epoch 1: not evaluated \(.*{image.name}: .*truncated.*\); training continues',
                     (folder_of(tmp_path) / 'train.log').read_text())
    shutil.copy(synthetic / 'val2017' / image.name, image)
    assert train_program.main([*options, '--resume']) == 0, 'which makes up for the evaluation'
    row, = epoch_log.read(folder_of(tmp_path) / epoch_log.FILE)
    assert {'epoch', 'loss', 'AP'} <= set(row) and (folder_of(tmp_path) / f'{NAME}_best.ckpt').is_file()


@pytest.mark.slow
@pytest.mark.parametrize('sent', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_an_evaluation_loses_nothing(synthetic: Path, tmp_path: Path, sent: signal.Signals) -> None:
    root = tmp_path / 'coco'
    shutil.copytree(synthetic, root)
    edit(root / DETECTIONS, lambda boxes: boxes * 5000)
    options = ('--eval_interval', '1', '--eval.batch_size', '1', '--checkpoint_interval', '1000', *WIDE)
    with process(train_options(root, tmp_path, *options)) as run:
        while 'epoch 1: evaluating' not in run.stdout.readline():
            assert run.poll() is None
        time.sleep(1)
        began = time.time()
        run.send_signal(sent)
        output, _ = run.communicate(timeout=120)
    assert run.returncode == 128 + sent and time.time() - began < signals.GRACE, output
    assert 'epoch 1: evaluation stopped' in output and f'{sent.name} after step' in output
    state, = folder_of(tmp_path).glob('*.state')
    assert state.name == f'{NAME}_epoch1.state'
    assert train_program.main(train_options(synthetic, tmp_path, *options, '--resume')) == 0
    rows = epoch_log.read(folder_of(tmp_path) / epoch_log.FILE)
    assert [row['epoch'] for row in rows] == [1, 2] and all({'loss', 'AP'} <= set(row) for row in rows)


@pytest.mark.parametrize(('data', 'message'), [
    ({'type': 'mpii'}, 'there is no detection file'), ({'type': 'coco', 'detections': 'a.json'}, 'there is no a.json')])
def test_without_detections_annotated_boxes_are_used(data: dict, message: str, tmp_path: Path) -> None:
    boxes, found = choose_boxes({'data_root': str(tmp_path)}, {'data': data, 'eval': {'boxes': 'det'}})
    assert boxes == 'gt' and message in found


@pytest.mark.slow
def test_resumed_with_averages_and_half_an_accumulation(synthetic: Path, tmp_path: Path) -> None:
    """Epochs of an odd number of steps, updates of two steps: what waits at the end of an epoch is taken up again."""
    options = ('--ema_decay', '0.5', '--accumulate_steps', '2', '--eval_interval', '1', '--recipe', 'paper',
               '--train.batch_size', '3', *WIDE)
    whole, halves = tmp_path / 'whole', tmp_path / 'halves'
    assert train_program.main(train_options(synthetic, whole, *options)) == 0
    assert train_program.main(train_options(synthetic, halves, *options, '--train.epochs', '1')) == 0
    assert train_program.main(train_options(synthetic, halves, *options, '--resume')) == 0
    steps = list(csv.DictReader((folder_of(whole) / 'steps.csv').open()))
    assert len(steps) // 2 % 2 == 1
    assert list(csv.DictReader((folder_of(halves) / 'steps.csv').open())) == steps
    for tail in ('', '_best'):
        for name, value in weights(whole, tail).items():
            np.testing.assert_array_equal(weights(halves, tail)[name], value, err_msg=name)
    rows = [[(row['epoch'], row['AP']) for row in epoch_log.read(folder_of(output) / epoch_log.FILE)]
            for output in (whole, halves)]
    assert rows[0] == rows[1] and len(rows[0]) == 2


@pytest.mark.slow
def test_cosine_can_only_go_on_to_the_same_end(plain: Path, synthetic: Path, tmp_path: Path) -> None:
    options = train_options(synthetic, tmp_path, '--train.schedule', 'cosine', '--max_steps', '1')
    assert train_program.main(options) == 0
    with pytest.raises(InputError, match=r'train.epochs was 2 and is now 3'):
        train_program.main([*options, '--resume', '--train.epochs', '3'])
