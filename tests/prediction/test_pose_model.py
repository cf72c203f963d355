"""The Python API: the same numbers as the evaluation, whatever file the network comes from."""
from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.config import fill_derived, resolve
from src.deployment.export import export_network
from src.prediction import PoseModel, load_model
from src.prediction.pose_model import IMAGES_AHEAD
from src.settings.build import build_dataset, build_network
from src.test_utils import forward_of, predict
from src.weights.checkpoint import save_network
from tests.animals import make_animals
from tests.networks import FREE_MINDIR, randomise, save_small

SMALL = {'model.stage_modules': '1', 'model.stage_channels': '8,16', 'data.image_size': '64,64'}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network's checkpoint with its config.json."""
    return save_small(tmp_path_factory.mktemp('network'), SMALL)


@pytest.fixture(scope='module')
def model(checkpoint: Path) -> PoseModel:
    return load_model(checkpoint, batch_size=2)


def test_the_same_numbers_as_evaluation(model: PoseModel, synthetic: Path) -> None:
    dataset = build_dataset({'data_root': str(synthetic), 'random_seed': 0}, model.config, 'val', 'det')
    expected = predict(model.forward, dataset, model.config['eval'], 1)
    pictures = [(cv2.imread(dataset.records[rows[0]]['image_file']),
                 [[*dataset.records[i]['bbox'], dataset.records[i]['bbox_score']] for i in rows])
                for rows in dataset.groups()]
    found = list(model.predict_many(pictures))
    for rows, (keypoints, windows) in zip(dataset.groups(), found):
        np.testing.assert_allclose(keypoints, expected.keypoints[rows], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(windows, expected.boxes[rows], rtol=1e-6)
    image, boxes = max(pictures, key=lambda pair: len(pair[1]))
    alone = model.predict(image, np.array(boxes)[:, :4])
    assert alone.dtype == np.float32 and alone.shape == (len(boxes), 17, 3) and len(boxes) > 1
    np.testing.assert_allclose(alone, max(found, key=lambda pair: len(pair[0]))[0], rtol=1e-5, atol=1e-4)


def test_pictures_without_persons_keep_their_place(model: PoseModel) -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    counts = [0, 2, 0, 0, 3, 1, 0]
    found = list(model.predict_many((image, [[5, 5, 40, 60]] * count) for count in counts))
    assert [len(keypoints) for keypoints, _ in found] == counts
    assert model.predict(image, []).shape == (0, 17, 3)
    np.testing.assert_allclose(found[4][0], np.repeat(found[1][0][:1], 3, 0), atol=1e-4)


@pytest.mark.parametrize(('persons', 'ahead'), [([1], 2), ([0], 1), ([1, *[0] * 99], IMAGES_AHEAD)])
def test_images_are_taken_no_further_ahead_than_needed(model: PoseModel, persons: list[int], ahead: int) -> None:
    taken = []

    def images() -> Iterator[tuple[np.ndarray, list]]:
        for number in range(100):
            taken.append(number)
            yield np.zeros((64, 64, 3), np.uint8), [[0, 0, 64, 64]] * persons[number % len(persons)]

    next(model.predict_many(images()))
    assert len(taken) == ahead


def test_flip_test_is_optional(checkpoint: Path, model: PoseModel) -> None:
    image = np.random.default_rng(1).integers(0, 256, (80, 60, 3), np.uint8)
    box = [[0, 0, 60, 80]]
    plain = load_model(checkpoint, flip_test=False)
    assert not np.allclose(plain.predict(image, box), model.predict(image, box), atol=1e-3)


@pytest.mark.parametrize(('image', 'boxes', 'words'), [
    (np.zeros((9, 9), np.uint8), [], r'\(H, W, 3\)'),
    (np.zeros((9, 9, 3)), [], 'uint8'),
    ('picture.jpg', [], 'uint8'),
    (np.zeros((9, 9, 3), np.uint8), [1, 2, 3, 4], r'\(N, 4\)'),
    (np.zeros((9, 9, 3), np.uint8), [['a', 0, 1, 1]], 'numbers'),
    (np.zeros((9, 9, 3), np.uint8), [[0, 0, 0, 4]], 'positive'),
    (np.zeros((9, 9, 3), np.uint8), [[0, 0, float('nan'), 4]], 'finite'),
    (np.zeros((9, 9, 3), np.uint8), [[0, 3e38, 4, 4]], 'at most 1e'),
])
def test_bad_pictures_and_boxes(model: PoseModel, image, boxes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        model.predict(image, boxes)


def test_bad_files(checkpoint: Path, tmp_path: Path) -> None:
    orphan = tmp_path / 'mine.ckpt'
    orphan.write_bytes(checkpoint.read_bytes())
    with pytest.raises(InputError, match='model_config'):
        load_model(orphan)
    with pytest.raises(InputError, match=r'mine.ckpt: .*network'):  # another network
        load_model(orphan, model_config='litehrnet_tiny_coco_128x96')
    with pytest.raises(InputError, match='no such file'):
        load_model(tmp_path / 'absent.onnx')
    with pytest.raises(InputError, match='suffix'):
        load_model(tmp_path / 'net.tflite')
    for name in ('bad.mindir', *(['bad.onnx'] if importlib.util.find_spec('onnxruntime') else [])):
        (tmp_path / name).write_bytes(b'no network')
        with pytest.raises(InputError, match=f'{name}: not readable'):
            load_model(tmp_path / name, model_config='litehrnet_tiny_coco_128x96')


def test_a_file_and_another_models_configuration(tmp_path: Path) -> None:
    pytest.importorskip('onnxruntime')
    config = resolve({'device': 'CPU', 'model_config': 'litehrnet_tiny_coco_128x96'}, {})[1]
    network, path, image = build_network(config), tmp_path / 'net.onnx', np.zeros((99, 99, 3), np.uint8)
    export_network(network, path, 'ONNX', config, 'litehrnet_tiny_coco_128x96')
    for name, words in (('litehrnet_18_coco_256x192', r'net\.onnx: does not take \(2, 3, 256, 192\) .*model_config'),
                        ('litehrnet_18_wholebody_hand_256x256', 'net.onnx: does not take')):
        with pytest.raises(InputError, match=words) as caught:
            load_model(path, model_config=name).predict(image, [[0, 0, 99, 99]])
        assert '\n' not in str(caught.value)
    own = tmp_path / 'own.py'
    own.write_text('from configs.litehrnet_18_wholebody_hand_256x256 import config as hands\n'
                   'config = dict(hands, data=dict(hands["data"], image_size=(96, 128), heatmap_size=None))\n')
    with pytest.raises(InputError, match='finds 17 keypoints, and the model configuration has 21'):
        load_model(path, model_config=str(own)).predict(image, [[0, 0, 99, 99]])
    model = importlib.import_module('onnx').load(path)
    del model.metadata_props[:]
    model.metadata_props.add(key='model_config', value='my net')  # of another tool
    importlib.import_module('onnx').save(model, path)
    keypoints = load_model(path, model_config='litehrnet_tiny_coco_128x96').predict(image, [[0, 0, 99, 99]])
    assert keypoints.shape == (1, 17, 3)


def test_a_checkpoint_named_after_its_configuration_needs_no_more(tmp_path: Path) -> None:
    _, config = resolve({'model_config': 'litehrnet_tiny_coco_128x96'}, {})
    network = build_network(config)
    save_network(network, tmp_path / 'litehrnet_tiny_coco_128x96_epoch3.ckpt')
    assert load_model(tmp_path / 'litehrnet_tiny_coco_128x96_epoch3.ckpt').config['data']['image_size'] == (96, 128)


@pytest.mark.slow
@FREE_MINDIR
@pytest.mark.parametrize('normalised', [True, False])
def test_a_file_with_its_own_normalisation_sees_the_image_as_it_is(tmp_path: Path, normalised: bool) -> None:
    """Also where the pipeline has none: crops of 0 to 1 must not be rounded to black."""
    _, config = resolve({'device': 'CPU'}, SMALL)
    if not normalised:
        config['val_pipeline'] = [step for step in config['val_pipeline'] if step['type'] != 'NormalizeTensor']
    network = build_network(config)
    randomise(network)
    export_network(network, tmp_path / 'net.mindir', 'MINDIR', config, 'small', preprocess='bgr')
    image, boxes = np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8), [[5, 5, 60, 80], [0, 0, 40, 40]]
    found = load_model(tmp_path / 'net.mindir', batch_size=2, flip_test=False).predict(image, boxes)
    config['eval'].update(batch_size=2, flip_test=False)
    expected = PoseModel(forward_of(network), config).predict(image, boxes)
    np.testing.assert_allclose(found, expected, atol=1e-2, rtol=1e-4)


def test_the_categories_are_those_of_the_training(checkpoint: Path, tmp_path: Path) -> None:
    assert load_model(checkpoint).categories == [1]
    animals, file = make_animals(tmp_path / 'mice', 2, 2), tmp_path / 'mice/annotations/val.json'
    experiment, config = resolve(
        {'device': 'CPU', 'model_config': 'litehrnet_18_custom_256x192', 'data_root': str(animals)}, SMALL)
    fill_derived(experiment, config)
    save_network(build_network(config), tmp_path / 'net.ckpt')
    (tmp_path / 'config.json').write_text(json.dumps({'experiment': experiment, 'config': config}))
    assert load_model(tmp_path / 'net.ckpt').categories == [3]
    file.unlink()
    assert load_model(tmp_path / 'net.ckpt').categories is None
