"""eval.py around the network: what it says of the data, what it writes and in which order. The network's place is taken
by the annotations themselves."""
from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

import eval as program
from src.common.errors import InputError
from src.mmpose.coco import CocoDataset
from src.mmpose.evaluation import Predictions
from tests.networks import save_small

VAL = 'annotations/person_keypoints_val2017.json'
SETTINGS = {'model.stage_modules': '1', 'model.stage_channels': '8,16', 'data.image_size': '64,64'}


def annotated(forward: Any, dataset: CocoDataset, settings: dict, workers: int) -> Predictions:
    """Predict the annotated persons; the keypoints of a detector's boxes are all 0."""
    keypoints = np.stack([np.where(r['joints_3d_visible'] > 0, r['joints_3d'], 0) for r in dataset.records])
    keypoints[..., 2] = 0.9
    boxes = np.stack([[0, 0, 1, 1, r['bbox'][2] * r['bbox'][3], r['bbox_score']] for r in dataset.records])
    columns = ([r[key] for r in dataset.records] for key in ('image_id', 'category_id', 'bbox_id'))
    return Predictions(keypoints, boxes, *columns)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp('net'), SETTINGS)


@pytest.fixture
def root(synthetic: Path, tmp_path: Path) -> Path:
    return shutil.copytree(synthetic, tmp_path / 'coco', ignore=shutil.ignore_patterns('train2017'))


def change(root: Path, edit: Callable[[dict], Any]) -> None:
    content = json.loads((root / VAL).read_text())
    edit(content)
    (root / VAL).write_text(json.dumps(content))


@pytest.fixture
def evaluate(checkpoint: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(program, 'predict', annotated)
    options = [option for key, value in SETTINGS.items() for option in (f'--{key}', value)]
    return lambda *more: program.main([
        '--device', 'CPU', '--data_root', str(root), '--checkpoint', str(checkpoint), '--results_json',
        str(tmp_path / 'r.json'), '--metrics_json', str(tmp_path / 'm.json'), '--workers', '1', *options, *more])


def test_an_error_in_scoring_leaves_the_results(evaluate: Callable, tmp_path: Path, monkeypatch) -> None:
    def fail(*arguments: Any) -> None:
        raise InputError('no backend')
    monkeypatch.setattr(CocoDataset, 'evaluate', fail)
    with pytest.raises(InputError, match='no backend'):
        evaluate('--boxes', 'gt')
    assert json.loads((tmp_path / 'r.json').read_text()) and not (tmp_path / 'm.json').exists()


@pytest.mark.parametrize('option', ['--results_json', '--metrics_json'])
def test_files_that_cannot_be_written_are_told_before_the_work(evaluate: Callable, tmp_path: Path, option: str,
                                                               monkeypatch) -> None:
    monkeypatch.setattr(program, 'build_network', None)
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=r'file/x\.json: cannot be written'):
        evaluate('--boxes', 'gt', option, str(tmp_path / 'file' / 'x.json'))
    assert {path.name for path in tmp_path.iterdir()} == {'coco', 'file'}


@pytest.mark.parametrize(('more', 'words'), [
    (('--results_json', '{}/m.json'), r'm\.json: named for the results and for the scores'),
    (('--checkpoint_path', 'other.ckpt'), 'other.ckpt: what a training starts from; this program reads --checkpoint')])
def test_options_that_would_mislead_are_refused(evaluate: Callable, tmp_path: Path, more: tuple[str, ...], words: str,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, 'build_network', None)
    with pytest.raises(InputError, match=words):
        evaluate(*(word.format(tmp_path) for word in more))


def test_a_batch_is_no_larger_than_the_data(evaluate: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(program, 'predict_heatmaps', lambda forward, images, size, *more: sizes.append(size))
    assert evaluate('--boxes', 'gt', '--eval.batch_size', '1000000') == 0
    assert 0 < sizes[0] < 1000


@pytest.mark.slow
def test_ctrl_c_is_one_line(checkpoint: Path, root: Path) -> None:
    options = [option for key, value in SETTINGS.items() for option in (f'--{key}', value)]
    process = subprocess.Popen(
        [sys.executable, program.__file__, '--device', 'CPU', '--data_root', str(root), '--boxes', 'gt', '--checkpoint',
         str(checkpoint), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    while ' boxes, boxes gt' not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == 'interrupted\n' and process.returncode == 130


@pytest.mark.parametrize('edit', [lambda content: content.pop('annotations'),
                                  lambda content: content.update(annotations=[])], ids=['none', 'empty'])
def test_images_that_nobody_annotated_get_results_and_no_score(evaluate: Callable, root: Path, tmp_path: Path, edit,
                                                              capsys: pytest.CaptureFixture) -> None:
    change(root, edit)
    assert evaluate('--boxes', 'det') == 0
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert len(json.loads((tmp_path / 'r.json').read_text())) > 0 and metrics['boxes'] == 'det' and 'AP' not in metrics
    assert 'no score: the annotations have no person with labelled keypoints' in capsys.readouterr().out
    with pytest.raises(InputError, match='no person with labelled keypoints'):
        evaluate('--boxes', 'gt')


def test_what_was_mended_and_omitted_is_said(evaluate: Callable, root: Path, tmp_path: Path,
                                            capsys: pytest.CaptureFixture) -> None:
    def edit(content: dict) -> None:
        del content['annotations'][0]['bbox']
        content['annotations'].append({**content['annotations'][1], 'id': 'chair', 'category_id': 2})
    change(root, edit)
    assert evaluate('--boxes', 'gt') == 0
    assert (f'{VAL}: mended 1 boxes (taken from the labelled keypoints); omitted 1 annotations of other categories'
            in capsys.readouterr().out)
    assert json.loads((tmp_path / 'm.json').read_text())['AP'] == pytest.approx(1)


@pytest.mark.parametrize('backend', ['xtcocotools', 'pycocotools'])
def test_results_bear_the_ids_of_the_file_whatever_they_are(evaluate: Callable, root: Path, tmp_path: Path,
                                                            backend: str) -> None:
    pytest.importorskip(backend)
    ids: dict[int, Any] = {}

    def edit(content: dict) -> None:
        for number, image in enumerate(content['images']):
            ids[image['id']] = image['id'] = (number, f'image {number}', 2 ** 65 + number, -number)[number % 4]
        for number, annotation in enumerate(content['annotations']):
            annotation.update(id=(number, str(number))[number % 2], image_id=ids[annotation['image_id']],
                              category_id='p')
        content['categories'][0]['id'] = 'p'
    change(root, edit)
    assert evaluate('--boxes', 'gt', '--eval.backend', backend) == 0
    results = json.loads((tmp_path / 'r.json').read_text())
    assert {result['image_id'] for result in results} == set(ids.values())
    assert {result['category_id'] for result in results} == {'p'}
    assert json.loads((tmp_path / 'm.json').read_text())['AP'] == pytest.approx(1)
