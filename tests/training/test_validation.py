"""Evaluation during training and the options of the step, through train.py."""
from __future__ import annotations

import argparse
import csv
import json
import logging
import re
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

import eval as eval_program
import train as train_program
from src.common import epoch_log
from src.common.errors import InputError
from src.config import parse
from src.training import validation
from tests.networks import tiny
from tests.programs.test_programs import common, train_options

NAME = 'litehrnet_18_coco_256x192'
WIDE = ('--data.info.sigmas', ','.join(['1.0'] * 17), '--eval.nms', 'none')  # so that untrained networks score too


def folder_of(output: Path) -> Path:
    return output / 'checkpoints' / 'tiny'


def weights(output: Path, tail: str = '') -> dict[str, np.ndarray]:
    return {k: v.asnumpy() for k, v in ms.load_checkpoint(str(folder_of(output) / f'{NAME}{tail}.ckpt')).items()}


@pytest.fixture(scope='module')
def plain(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp('plain')
    assert train_program.main(train_options(synthetic, output)) == 0
    return output


@pytest.fixture(scope='module')
def watched(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training, evaluated after each epoch."""
    output = tmp_path_factory.mktemp('watched')
    assert train_program.main(train_options(synthetic, output, '--eval_interval', '1', '--eval.decoding', 'dark',
                                            *WIDE)) == 0
    return output


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


def test_options_of_the_step_reach_it(plain: Path, synthetic: Path, tmp_path: Path) -> None:
    """Moving averages, accumulation, clipping, cosine and freezing in one short training without a detector file."""
    start = folder_of(plain) / f'{NAME}.ckpt'
    options = train_options(
        synthetic, tmp_path, '--eval_interval', '2', '--ema_decay', '0.9', '--accumulate_steps', '2', '--clip_norm',
        '1', '--freeze', 'stem', '--train.schedule', 'cosine', '--train.warmup_steps', '0', '--checkpoint_path',
        str(start), '--data.detections', 'absent.json', '--learning_rate', '1e-3')
    assert train_program.main(options) == 0
    rows = list(csv.DictReader((folder_of(tmp_path) / 'steps.csv').open()))
    steps = len(rows)
    expected = [1e-3 * (1 + np.cos(np.pi * (i // 2 * 2) / steps)) / 2 for i in range(steps)]
    np.testing.assert_allclose([float(row['learning_rate']) for row in rows], expected, rtol=1e-5)
    log = (folder_of(tmp_path) / 'train.log').read_text()
    assert 'takes annotated boxes: there is no absent.json' in log and 'with gt boxes, the best so far' in log
    before, after = weights(plain), weights(tmp_path)
    changed = {name for name, value in after.items() if not np.array_equal(value, before[name])}
    assert changed and not any(name.startswith('backbone.stem.') for name in changed)
    assert 'keypoint_head.final_layer.weight' in changed and list(after) == list(before)
    for name, value in weights(tmp_path, '_best').items():
        np.testing.assert_array_equal(value, after[name], err_msg=f'{name}: both are the averages')


@pytest.mark.parametrize(('options', 'words'), [
    (('--ema_decay', '1'), 'ema_decay 1.0: must be below 1'),
    (('--clip_norm', '-1'), 'clip_norm -1.0: must be at least 0'),
    (('--accumulate_steps', '0'), 'accumulate_steps 0'),
    (('--train.schedule', 'cosin'), "train.schedule 'cosin': choose one of step, cosine"),
    (('--freeze', 'steam'), "freeze 'steam': no part of the network"),
])
def test_settings_that_cannot_be(synthetic: Path, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        train_program.main(train_options(synthetic, tmp_path, *options))
    assert not (tmp_path / 'checkpoints').exists()


@pytest.mark.parametrize('writes', [True, False])
def test_only_the_first_rank_writes(synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                    writes: bool) -> None:
    _, experiment, config = parse(argparse.ArgumentParser(), common(synthetic, tmp_path, '--eval_interval', '1'))
    folder_of(tmp_path).mkdir(parents=True)
    watch = validation.Validation(tiny(), experiment, config, 3, logging.getLogger('test'), writes)
    monkeypatch.setattr(validation, 'predict', lambda *arguments: None)
    monkeypatch.setattr(validation, 'select_persons', lambda *arguments: [])
    watch.on_train_begin(None)
    for ap in (0.5, 0.25):
        watch.dataset.evaluate = lambda *arguments, ap=ap: {'AP': ap}
        watch.on_train_epoch_end(None)
    assert watch.best == 0.5
    names = {path.name for path in folder_of(tmp_path).iterdir()}
    assert {epoch_log.FILE, f'{NAME}_best.ckpt'} <= names if writes else not names
    if writes:
        assert epoch_log.read(folder_of(tmp_path) / epoch_log.FILE) == [dict(epoch=4, AP=0.5), dict(epoch=5, AP=0.25)]


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


def test_cosine_can_only_go_on_to_the_same_end(plain: Path, synthetic: Path, tmp_path: Path) -> None:
    options = train_options(synthetic, tmp_path, '--train.schedule', 'cosine', '--max_steps', '1')
    assert train_program.main(options) == 0
    with pytest.raises(InputError, match=r'train.epochs was 2 and is now 3'):
        train_program.main([*options, '--resume', '--train.epochs', '3'])
