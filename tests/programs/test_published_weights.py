"""Every program that reads a checkpoint, given the name of published weights; they come from a folder."""
from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import eval as evaluation
import export
from src.common.errors import InputError
from src.config import parse, resolve
from src.prediction import load_model
from src.settings.build import build_network
from src.training.setup import make_network
from src.weights import published
from src.weights.checkpoint import network_state, read_state, to_torch
from src.weights.download import MIRROR
from src.weights.pth import write_pth
from src.weights.published import PUBLISHED, Published, cached
from tests.networks import randomise
from tests.weights.test_dialects import save_courses, save_paddle, save_zoo
from tools import convert_checkpoint, predict

CONFIG = 'litehrnet_tiny_coco_128x96'
NAME = f'mine_{CONFIG}'


@pytest.fixture(scope='module')
def usb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('usb')
    network = build_network(resolve({'model_config': CONFIG}, {})[1])
    randomise(network)
    write_pth(folder / 'published-1.pth', to_torch(network_state(network)))
    return folder


@pytest.fixture(autouse=True)
def weights(usb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Published weights of a small network, in the table, for a machine without network."""
    monkeypatch.setattr(published, 'cache_folder', lambda: tmp_path / 'cache')  # not that of the CPU operators
    monkeypatch.setenv(MIRROR, str(usb))
    digest = hashlib.sha256((usb / 'published-1.pth').read_bytes()).hexdigest()[:8]
    entry = Published(NAME, CONFIG, 'http://127.0.0.1:9/', 'published-1.pth', digest, 'AP 0.1', 'here')
    monkeypatch.setitem(PUBLISHED, NAME, entry)
    return entry


def settings(*argv: str) -> dict:
    parser = argparse.ArgumentParser()
    parser.add_argument('--checkpoint')
    return parse(parser, list(argv))[1]


def test_the_model_configuration_follows_from_the_name(tmp_path: Path) -> None:
    assert [settings('--checkpoint', NAME)[key] for key in ('model_config', 'experiment_tag')] == [CONFIG, NAME]
    given = settings('--checkpoint', NAME, '--model_config', 'litehrnet_18_coco_128x96', '--experiment_tag', 'x')
    assert [given[key] for key in ('model_config', 'experiment_tag')] == ['litehrnet_18_coco_128x96', 'x']
    assert settings('--checkpoint', 'other.ckpt') == settings()


@pytest.mark.slow
def test_predict_needs_no_more_than_the_name(weights: Published, usb: Path, tmp_path: Path) -> None:
    picture, box = np.random.default_rng(0).integers(0, 256, (80, 60, 3), np.uint8), [[0, 0, 60, 80]]
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    assert predict.main([str(tmp_path / 'a.png'), '--whole_image', '--checkpoint', NAME, '--batch', '1', '--output',
                         str(tmp_path / 'out')]) == 0
    [person] = json.loads((tmp_path / 'out' / 'results.json').read_text())
    model = load_model(usb / 'published-1.pth')  # the file's name says it too
    assert tuple(model.config['data']['image_size']) == (96, 128)
    np.testing.assert_allclose(np.reshape(person['keypoints'], (1, 17, 3)), model.predict(picture, box), atol=1e-3)
    with pytest.raises(InputError, match='neither a file nor the name of published weights'):
        load_model(f'{NAME}_')


@pytest.mark.slow
def test_evaluation_and_export_leave_the_cache_alone(weights: Published, synthetic: Path, tmp_path: Path) -> None:
    options = ['--device', 'CPU', '--output_root', str(tmp_path), '--checkpoint', NAME]
    assert evaluation.main([*options, '--data_root', str(synthetic), '--boxes', 'gt']) == 0
    assert export.main([*options, '--batch_size', '1']) == 0
    folder = tmp_path / 'checkpoints' / NAME
    assert {path.name for path in folder.iterdir()} == {'results_gt.json', 'metrics_gt.json', f'{CONFIG}.mindir'}
    assert json.loads((folder / 'metrics_gt.json').read_text())['model_config'] == CONFIG
    assert {path.name for path in cached(weights).parent.iterdir()} == {'published-1.pth', '.lock'}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server that has the files of a folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f'http://127.0.0.1:{running.server_address[1]}'
        running.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize('save', [save_zoo, save_courses, save_paddle])
def test_every_source_by_name(save: Callable, usb: Path, server: str, tmp_path: Path,
                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MIRROR)
    monkeypatch.setenv('no_proxy', '*')
    expected = read_state(usb / 'published-1.pth')
    file = save(expected, tmp_path)
    monkeypatch.setitem(PUBLISHED, NAME, Published(NAME, CONFIG, f'{server}/{file.name}', f'published{file.suffix}', '',
                                                   'none', 'here'))
    assert convert_checkpoint.main([NAME, str(tmp_path / 'b.pth')]) == 0
    experiment, config = resolve({'device': 'CPU', 'model_config': CONFIG, 'checkpoint_path': NAME}, {})
    for state in (read_state(tmp_path / 'b.pth'), network_state(make_network(experiment, config)[0])):
        assert state.keys() == expected.keys()
        assert all(np.array_equal(state[name], value) for name, value in expected.items())
    picture, box = np.random.default_rng(0).integers(0, 256, (80, 60, 3), np.uint8), [[0, 0, 60, 80]]
    found, wanted = (load_model(given, model_config=CONFIG).predict(picture, box)
                     for given in (NAME, tmp_path / 'b.pth'))
    np.testing.assert_array_equal(found, wanted)


def test_conversion_and_training_start_from_the_name(usb: Path, tmp_path: Path) -> None:
    assert convert_checkpoint.main([NAME, str(tmp_path / 'a.ckpt')]) == 0
    expected = read_state(usb / 'published-1.pth')
    experiment, config = resolve({'device': 'CPU', 'model_config': CONFIG, 'checkpoint_path': NAME}, {})
    for state in (read_state(tmp_path / 'a.ckpt'), network_state(make_network(experiment, config)[0])):
        assert state.keys() == expected.keys()
        for name, value in state.items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
