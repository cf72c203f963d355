"""Hands of COCO-WholeBody by PCK, AUC, EPE and NME, and CrowdPose's AP, through eval.py and training's evaluation."""
from __future__ import annotations

import argparse
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import eval as eval_program
from src.callback import EpochTable, Progress
from src.common import epoch_log
from src.common.errors import InputError
from src.config import final_checkpoint, parse
from src.mmpose.evaluation import BACKENDS
from src.settings.build import build_network
from src.training.signals import StopSignals
from src.training.validation import Validation
from src.weights.checkpoint import save_network
from tests.networks import randomise

HAND, OWN = 'litehrnet_18_wholebody_hand_256x256', 'litehrnet_18_custom_256x192'
INSTALLED = [name for name in BACKENDS if importlib.util.find_spec(name)]
RNG = np.random.default_rng(0)


def points(count: int, box: list[int]) -> np.ndarray:
    """Keypoints (count, 3) in a box, the second not labelled."""
    found = np.concatenate([RNG.uniform(box[:2], np.add(box[:2], box[2:]), (count, 2)), np.full((count, 1), 2)], 1)
    found[1] = 0
    return np.round(found, 1)


def write(root: Path, file: str, folder: str, images: list[dict[str, Any]], **content: Any) -> Path:
    """Write an annotation file and its images of noise, 96 x 80."""
    (root / 'annotations').mkdir(parents=True)
    (root / folder).mkdir()
    for image in images:
        image.update(file_name=f'{image["id"]}.png', width=96, height=80)
        cv2.imwrite(str(root / folder / image['file_name']), RNG.integers(0, 256, (80, 96, 3), np.uint8))
    (root / 'annotations' / file).write_text(json.dumps(dict(images=images, **content)))
    return root


@pytest.fixture(scope='module')
def hands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two persons with both hands, one with the left, one with none, and a crowd; the first hand leaves the image."""
    boxes = {1: ([-4, 10, 30, 20], [50, 40, 24, 36]), 2: ([5, 5, 40, 40], [40, 8, 50, 30]), 3: ([30, 20, 33, 44], None),
             4: (None, None), 5: ([1, 1, 60, 60], None)}
    annotations = []
    for number, pair in boxes.items():
        entry = dict(id=number, image_id=1 + number % 2, category_id=1, iscrowd=int(number == 5), area=4000, bbox=[0, 0,
                     90, 70], keypoints=[9, 9, 2] * 17, num_keypoints=17)
        for side, box in zip(('lefthand', 'righthand'), pair):
            entry.update({f'{side}_valid': box is not None, f'{side}_box': box or [0] * 4,
                          f'{side}_kpts': points(21, box).ravel().tolist() if box else [0] * 63})
        annotations.append(entry)
    return write(tmp_path_factory.mktemp('hands') / 'coco', 'coco_wholebody_val_v1.0.json', 'val2017',
                 [dict(id=1), dict(id=2)], annotations=annotations,
                 categories=[dict(id=1, name='person', keypoints=[f'body{number}' for number in range(17)])])


def options(name: str, root: Path, output: Path, *more: str) -> list[str]:
    return ['--device', 'CPU', '--model_config', name, '--data_root', str(root), '--output_root', str(output),
            '--experiment_tag', 'tiny', '--workers', '1', '--model.stage_modules', '1', '--model.stage_channels', '8,8',
            '--data.image_size', '32,32', '--eval.nms', 'none', '--eval.flip_test', 'false', '--eval.batch_size', '5',
            *more]


def evaluated(argv: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What eval.py writes of a network with random weights: metrics and results."""
    _, experiment, config = parse(argparse.ArgumentParser(), argv)
    checkpoint = final_checkpoint(experiment)
    if not checkpoint.is_file():
        checkpoint.parent.mkdir(parents=True)
        network = build_network(config)
        randomise(network)
        save_network(network, checkpoint)
    assert eval_program.main(argv) == 0
    return tuple(json.loads((checkpoint.parent / f'{name}_gt.json').read_text()) for name in ('metrics', 'results'))


def truth_of(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (5, 21, 3) and the larger sides of the boxes (5,) of the hands, in the order of the records."""
    entries = json.loads((root / 'annotations/coco_wholebody_val_v1.0.json').read_text())['annotations']
    found = [(entry[f'{side}_kpts'], max(entry[f'{side}_box'][2:])) for number in (2, 1, 3) for entry in entries
             for side in ('lefthand', 'righthand') if entry['id'] == number and entry[f'{side}_valid']]
    return np.array([keypoints for keypoints, _ in found]).reshape(-1, 21, 3), np.array([side for _, side in found])


def test_hands_are_scored_by_what_the_results_say(hands: Path, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture) -> None:
    metrics, results = evaluated(options(HAND, hands, tmp_path))
    assert list(metrics)[:3] == ['PCK', 'AUC', 'EPE'] and metrics['boxes_evaluated'] == len(results) == 5
    assert metrics['pck_threshold'] == 0.2 and not {'AP', 'NME', 'nms', 'backend'} & set(metrics)
    truth, sides = truth_of(hands)
    found = np.array([result['keypoints'] for result in results]).reshape(-1, 21, 3)
    distance = np.delete(np.hypot(*np.moveaxis(found[..., :2] - truth[..., :2], 2, 0)), 1, 1)
    assert 0 < metrics['PCK'] < 1
    assert metrics['EPE'] == pytest.approx(distance.mean(), rel=1e-5)
    assert metrics['PCK'] == pytest.approx((distance < 0.2 * sides[:, None]).mean())
    assert metrics['AUC'] == pytest.approx(np.mean([(distance < 1.5 * step).mean() for step in range(20)]))
    assert f'PCK {metrics["PCK"]:.4f}  AUC {metrics["AUC"]:.4f}  EPE {metrics["EPE"]:.4f}' in capsys.readouterr().out


@pytest.mark.slow
def test_every_combination_of_metrics(hands: Path, tmp_path: Path) -> None:
    argv = options(HAND, hands, tmp_path, '--eval.metrics', 'NME,AP,PCK', '--eval.nme_keypoints', '0,9',
                   '--eval.pck_threshold', '0.5')
    runs = [evaluated([*argv, '--eval.backend', backend]) for backend in INSTALLED]
    metrics, results = runs[0]
    for name in ('AP', 'ARL', 'NME', 'PCK'):
        assert all(others[name] == pytest.approx(metrics[name], abs=1e-9) for others, _ in runs)
    assert metrics['nme_keypoints'] == [0, 9] and metrics['pck_threshold'] == 0.5 and metrics['nms'] == 'none'
    truth, sides = truth_of(hands)
    found = np.array([result['keypoints'] for result in results]).reshape(-1, 21, 3)
    distance = np.delete(np.hypot(*np.moveaxis(found[..., :2] - truth[..., :2], 2, 0)), 1, 1)
    units = np.hypot(*(truth[:, 0, :2] - truth[:, 9, :2]).T)
    assert metrics['NME'] == pytest.approx((distance / units[:, None]).mean(), rel=1e-5)
    assert metrics['PCK'] == pytest.approx((distance < 0.5 * sides[:, None]).mean())


@pytest.mark.slow
def test_plain_files_of_hands_score_the_same(hands: Path, tmp_path: Path) -> None:
    """As converters write them: a hand for a person, 21 keypoints."""
    names = [f'finger{number}' for number in range(21)]
    content = json.loads((hands / 'annotations/coco_wholebody_val_v1.0.json').read_text())
    plain = [dict(id=10 * entry['id'] + place, image_id=entry['image_id'], category_id=1, bbox=entry[f'{side}_box'],
                  iscrowd=entry['iscrowd'], keypoints=entry[f'{side}_kpts'])
             for entry in content['annotations'] for place, side in enumerate(('lefthand', 'righthand'))
             if entry[f'{side}_valid']]
    content.update(annotations=plain, categories=[dict(id=1, name='hand', keypoints=names)])
    (hands / 'annotations/plain.json').write_text(json.dumps(content))
    expected, results = evaluated(options(HAND, hands, tmp_path))
    found, again = evaluated(options(HAND, hands, tmp_path, '--data.val_annotations', 'annotations/plain.json'))
    assert found == expected and again == results


def test_detected_boxes_have_no_distances(hands: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'det': eval.metrics PCK, AUC, EPE .*--eval.boxes gt") as caught:
        evaluated(options(HAND, hands, tmp_path, '--eval.boxes', 'det'))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('metric', 'values', 'best'), [
    ('EPE', (9.0, 4.0, 6.0), 4.0), pytest.param('PCK', (0.3, 0.7, 0.5), 0.7, marks=pytest.mark.slow)])
def test_training_keeps_the_best_by_the_first_metric(hands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                     metric: str, values: tuple, best: float) -> None:
    _, experiment, config = parse(argparse.ArgumentParser(), options(
        HAND, hands, tmp_path, '--eval_interval', '1', '--eval.metrics', f'{metric},AUC'))
    network, progress, file = build_network(config), Progress(1, 9), final_checkpoint(experiment)
    randomise(network)
    file.parent.mkdir(parents=True)
    table = EpochTable(file.with_name(epoch_log.FILE), progress, logging.getLogger('metrics'))

    def validation() -> Validation:
        return Validation(network, progress, experiment, config, logging.getLogger('metrics'), StopSignals(), table)

    found, saved = validation(), []
    monkeypatch.setattr('src.training.validation.save_network', lambda network, path: saved.append(progress.epoch))
    for progress.step, value in enumerate(values, 1):
        with monkeypatch.context() as patch:
            for name in ('predict', 'select_persons'):
                patch.setattr(f'src.training.validation.{name}', lambda *arguments: None)
            patch.setattr(found.dataset, 'evaluate', lambda *arguments, value=value: {metric: value, 'AUC': 0.5})
            found.on_train_epoch_end(None)
    assert saved == [1, 2] and found.best == best
    assert [row[metric] for row in epoch_log.read(table.path)] == list(values)
    found.best_file.touch()
    resumed = validation()
    resumed.on_train_begin(None)
    assert resumed.best == best
    progress.step = 4
    resumed.on_train_epoch_end(None)  # the true figure of random weights
    row = epoch_log.read(table.path)[-1]
    assert row['epoch'] == 4 and row[metric] > 0 and set(row) == {'epoch', metric, 'AUC', 'best', 'best_of'}


@pytest.fixture(scope='module')
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images, a person in each, without areas, as CrowdPose's; nobody is in a crowd of 0.8 or more."""
    images = [dict(id=4, crowdIndex=0.0), dict(id=5, crowdIndex=0.2), dict(id=6, crowdIndex=0.5)]
    annotations = [dict(id=image['id'], image_id=image['id'], category_id=1, iscrowd=0, bbox=box, num_keypoints=3,
                        keypoints=points(4, box).ravel().tolist())
                   for image, box in zip(images, ([5, 5, 60, 70], [30, 10, 40, 40], [2, 20, 90, 55]))]
    return write(tmp_path_factory.mktemp('crowd') / 'crowdpose', 'val.json', 'images', images, annotations=annotations,
                 categories=[dict(id=1, name='person', keypoints=['head', 'left_hand', 'right_hand', 'tail'])])


@pytest.mark.parametrize('backend', INSTALLED)
def test_crowdpose_has_three_more_scores(crowd: Path, tmp_path: Path, backend: str,
                                         capsys: pytest.CaptureFixture) -> None:
    """With sigmas so large everything is right, and of nobody nothing is known."""
    info = tmp_path / 'info.json'
    info.write_text(json.dumps(dict(sigmas=99.0, use_area=False)))
    metrics, _ = evaluated(options(OWN, crowd, tmp_path, '--data.info', str(info), '--eval.backend', backend))
    assert [metrics[name] for name in ('AP', 'AP_easy', 'AP_medium', 'AP_hard')] == pytest.approx([1, 1, 1, -1])
    assert metrics['use_area'] is False and metrics['backend'] == backend
    output = capsys.readouterr().out
    assert 'AP_easy 1.0000  AP_medium 1.0000  AP_hard -1.0000' in output and 'mended' not in output
