"""The whole way against numbers of MMPose 0.29 that the repository holds (tests/data): nothing else is needed.

Network, one training step, data pipeline, targets, decoding, flip test, NMS, COCO's figures.
"""
from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import mindspore as ms
import numpy as np
import pytest

from configs.coco_base import dataset_info
from src.common.compat import RUNNING_VARIANCE_DDOF
from src.config import load_model_config
from src.loss import JointsMSELoss, NetWithLoss
from src.mmpose.annotations import read_annotations
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import BACKENDS, Predictions, evaluate, select
from src.mmpose.heatmap import decode, flip_back
from src.mmpose.nms import oks
from src.mmpose.pipeline import Compose
from src.model import LiteHRNet
from src.training.train_step import TrainStep
from src.utils import make_optimizer
from src.weights.checkpoint import BN_NAMES
from tests.data import inputs
from tests.networks import mode
from tests.parity.test_training import KeepGradients

INFO = DatasetInfo.from_dict(dataset_info)
ANN_INFO = dict(image_size=np.array(inputs.SIZE), heatmap_size=np.array(inputs.HEATMAP_SIZE), num_joints=17,
                flip_pairs=INFO.flip_pairs, flip_index=INFO.flip_index, upper_body_ids=INFO.upper_body)
OFFICIAL_LEAVES = {ours: official for official, ours in BN_NAMES.items()}
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope='module')
def reference() -> Arrays:
    with np.load(Path(inputs.__file__).with_name('reference.npz')) as file:
        return dict(file)


def official(name: str) -> str:
    """Return a parameter's name in the published checkpoints."""
    stem, _, leaf = name.rpartition('.')
    return f'{stem}.{OFFICIAL_LEAVES.get(leaf, leaf)}'


def network(name: str) -> LiteHRNet:
    """Return a network with the weights of `inputs.weight`."""
    made = LiteHRNet(inputs.SIZE, **load_model_config(name)['model'])
    for parameter in made.get_parameters():
        parameter.set_data(ms.Tensor(inputs.weight(official(parameter.name), parameter.shape)))
    return made


@pytest.mark.parametrize('name', [
    *inputs.NETWORKS[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in inputs.NETWORKS[2:])])
def test_heatmaps(reference: Arrays, name: str) -> None:
    made = network(name).set_train(False)
    assert '\n'.join(sorted(official(p.name) for p in made.get_parameters())) == bytes(
        reference[f'forward|{name}|names']).decode()
    with mode(ms.PYNATIVE_MODE):
        found = made(ms.Tensor(inputs.network_input())).asnumpy()
    expected = reference[f'forward|{name}|heatmaps']
    error = np.abs(found - expected).max() / np.abs(expected).max()
    print(f'largest deviation: {error:.1e} of the largest value')
    assert error < 2e-5


@pytest.fixture(scope='module')
def step() -> tuple[float, Arrays, Arrays]:
    """Loss, gradients and parameters of one training step of Lite-HRNet-18, by official names, sorted."""
    made = network(inputs.NETWORKS[0])
    optimizer = KeepGradients(make_optimizer('SGD', made, np.full(1, 0.01, np.float32), 0.0))
    with mode(ms.PYNATIVE_MODE):
        loss, finite = TrainStep(NetWithLoss(made, JointsMSELoss()), optimizer, 2.0 ** 16).set_train()(
            *map(ms.Tensor, inputs.training_batch()))
    assert bool(finite)
    gradients = {official(p.name): g.asnumpy().astype(np.float64) for p, g in zip(optimizer.parameters, optimizer.kept)}
    state = {official(p.name): p.asnumpy() for p in made.get_parameters()}
    return float(loss.asnumpy()), dict(sorted(gradients.items())), dict(sorted(state.items()))


@pytest.mark.needs_mindspore('2.0', 'without a graph 1.10 needs minutes and gigabytes for these gradients')
def test_loss_and_gradients(reference: Arrays, step: tuple[float, Arrays, Arrays]) -> None:
    loss, gradients, _ = step
    assert loss == pytest.approx(float(reference['training|loss']), rel=1e-5)
    expected = reference['training|gradient_norms']
    found = np.array([np.linalg.norm(gradient) for gradient in gradients.values()])
    nonzero = expected > 1e-6 * expected.max()  # that of a bias before a BN is 0, but for rounding
    deviation = np.abs(found / expected - 1)[nonzero]
    print(f'{nonzero.sum()} gradients: median {np.median(deviation):.1e}, largest {deviation.max():.1e}')
    assert nonzero.sum() > 700 and np.median(deviation) < 1e-3 and deviation.max() < 0.1
    assert found[~nonzero].max() < 1e-5 * expected.max()
    for key in (key for key in reference if key.startswith('training|gradient|')):
        expected, found = reference[key], gradients[key.rpartition('|')[2]]
        assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected), key


@pytest.mark.needs_mindspore('2.0', 'without a graph 1.10 needs minutes and gigabytes for these gradients')
def test_batch_norm_statistics(reference: Arrays, step: tuple[float, Arrays, Arrays]) -> None:
    for kind in ('running_mean', 'running_var')[:1 + RUNNING_VARIANCE_DDOF]:
        found = np.concatenate([value for name, value in step[2].items() if name.endswith(kind)])
        np.testing.assert_allclose(found, reference[f'training|{kind}'], rtol=1e-5, atol=1e-5)


class Coin:
    """A generator that always draws the same number."""

    def __init__(self, normal: float) -> None:
        self.normal = normal

    def random(self) -> float:
        return 0.0

    def standard_normal(self) -> float:
        return self.normal


def person(record: dict[str, Any], coin: float = 0.0) -> dict[str, Any]:
    """Return one of `inputs.persons()` as the pipeline gets it: BGR, as OpenCV reads images."""
    return {**record, 'img': np.ascontiguousarray(inputs.image()[..., ::-1]), 'ann_info': ANN_INFO, 'rotation': 0.0,
            'rng': Coin(coin)}


START = [dict(type='TopDownGetBboxCenterScale', padding=1.25)]
PLAIN = [dict(type='TopDownAffine'), dict(type='TopDownGenerateTarget', sigma=2)]
UDP = [dict(type='TopDownAffine', use_udp=True), dict(type='TopDownGenerateTarget', sigma=2, encoding='UDP')]


@pytest.mark.parametrize('kind', ['val', 'udp', 'augmented'])
def test_samples(reference: Arrays, kind: str) -> None:
    for row, (record, (flip, rotation, zoom)) in enumerate(zip(inputs.persons(), inputs.AUGMENTATIONS)):
        if kind == 'augmented':
            sample = Compose([*START, dict(type='TopDownRandomFlip', flip_prob=float(flip))])(person(record))
            sample.update(scale=sample['scale'] * zoom, rotation=rotation)
            sample = Compose(PLAIN)(sample)
        else:
            sample = Compose(START + (UDP if kind == 'udp' else PLAIN))(person(record))
        for key in ('center', 'scale', 'joints_3d', 'target', 'target_weight'):
            np.testing.assert_allclose(sample[key], reference[f'data_pipeline|{kind}|{key}'][row], rtol=1e-6, atol=1e-5,
                                       err_msg=key)
        error = np.abs(sample['img'].astype(int) - reference[f'data_pipeline|{kind}|img'][row])
        assert (error.max() == 0) if cv2.__version__.startswith('4.10') else (np.mean(error <= 2) > 0.99)


def test_half_bodies(reference: Arrays) -> None:
    steps = Compose([*START, dict(type='TopDownHalfBodyTransform', num_joints_half_body=8, prob_half_body=0.3)])
    samples = [steps(person(record, coin)) for record in inputs.persons() for coin in (0.0, 1.0)]
    windows = [np.concatenate([sample['center'], sample['scale']]) for sample in samples]
    np.testing.assert_allclose(windows, reference['data_pipeline|half_body|window'], rtol=1e-5)


def test_normalization(reference: Arrays) -> None:
    steps = [dict(type='ToTensor'), dict(type='NormalizeTensor', mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))]
    sample = Compose(steps)(dict(img=reference['data_pipeline|val|img'][0]))
    np.testing.assert_allclose(sample['img'], reference['data_pipeline|normalized'], atol=1e-6)


def test_targets_at_the_border(reference: Arrays) -> None:
    for row, points in enumerate(inputs.border_keypoints()):
        sample = Compose(PLAIN[1:])(dict(joints_3d=points, joints_3d_visible=np.ones((17, 3)), ann_info=ANN_INFO))
        np.testing.assert_allclose(sample['target'], reference['data_pipeline|border|target'][row], atol=1e-6)
        np.testing.assert_array_equal(sample['target_weight'], reference['data_pipeline|border|target_weight'][row])


@pytest.mark.parametrize('method', ['none', 'default', 'dark', 'udp'])
def test_decoding(reference: Arrays, method: str) -> None:
    found, scores = decode(inputs.heatmaps(), *inputs.crops(), method, 11)
    stable = reference[f'decoding|{method}|stable']
    assert stable.mean() > 0.9
    np.testing.assert_allclose(found[stable], reference[f'decoding|{method}|keypoints'][stable], atol=2e-3)
    np.testing.assert_allclose(scores, reference['decoding|scores'], rtol=1e-6)


def test_flip_test(reference: Arrays) -> None:
    maps = inputs.heatmaps()
    average = (maps + flip_back(maps[::-1].copy(), INFO.flip_index, True)) / 2
    np.testing.assert_allclose(np.concatenate(decode(average, *inputs.crops()), -1), reference['decoding|flip_test'],
                               atol=1e-3)


def test_oks(reference: Arrays) -> None:
    rows = inputs.candidates()
    preds, areas = rows['preds'][:12], rows['boxes'][:12, 4]
    found = [oks(one, preds, area, areas, np.array(INFO.sigmas)) for one, area in zip(preds, areas)]
    np.testing.assert_allclose(found, reference['selection|oks'], atol=1e-6)


@pytest.mark.parametrize('nms', ['hard', 'soft', 'none'])
@pytest.mark.parametrize('backend', [name for name in BACKENDS if importlib.util.find_spec(name)])
def test_selection_and_figures(reference: Arrays, tmp_path: Path, nms: str, backend: str) -> None:
    rows, sigmas = inputs.candidates(), np.array(INFO.sigmas)
    predictions = Predictions(rows['preds'], rows['boxes'], rows['image_id'].tolist(), [1] * len(rows['boxes']),
                              rows['bbox_id'])
    results = select(predictions, sigmas=sigmas, nms=nms)
    for key in ('image_id', 'score', 'keypoints'):
        np.testing.assert_allclose([row[key] for row in results], reference[f'selection|{nms}|{key}'], rtol=1e-6)
    file = tmp_path / 'ground_truth.json'
    file.write_text(json.dumps(inputs.ground_truth()))
    figures = list(evaluate(results, read_annotations(file, INFO), sigmas=sigmas, backend=backend).values())
    np.testing.assert_allclose(figures, reference[f'selection|{nms}|figures'], atol=1e-6)
