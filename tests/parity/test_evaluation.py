"""Really trained weights on real photographs, through eval.py: the one network here that can tell left from right.

The weights are PP-TinyPose's (wider naive Lite-HRNet-18) in the official format; what they give with MMPose's crops,
decoding and scoring stands in the reference data.
"""
from __future__ import annotations

import functools
import importlib.util
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

import eval as program
from src.config import load_model_config
from src.mmpose.annotations import read_annotations
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import BACKENDS, METRICS, Predictions, evaluate
from src.test_utils import predict
from tests.networks import mode

CONFIG = 'wider_naive_litehrnet_18_coco_256x192'
INFO = DatasetInfo.from_dict(load_model_config(CONFIG)['data']['info'])


@dataclass
class Evaluation:
    """What eval.py wrote, and the predictions of the decoding it was told and of DARK."""
    metrics: dict
    results: list
    default: Predictions | None = None
    dark: Predictions | None = None


def run(checkpoint: Path, data_root: Path, output: Path, *options: str) -> Evaluation:
    files = output / 'metrics.json', output / 'results.json'
    with mode(ms.get_context('mode')):
        assert program.main(['--device', 'CPU', '--model_config', CONFIG, '--checkpoint', str(checkpoint),
                             '--data_root', str(data_root), '--metrics_json', str(files[0]),
                             '--results_json', str(files[1]), *options]) == 0
    return Evaluation(*(json.loads(file.read_text()) for file in files))


@pytest.fixture(scope='module')
def weights(goldens: Path) -> Path:
    return goldens / 'tinypose_wider_naive_18_256x192.pth'


@pytest.fixture(scope='module')
def expected(goldens: Path):
    return np.load(goldens / 'tinypose_expected.npz')


@pytest.fixture(scope='module')
def evaluation(weights: Path, goldens: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Annotated boxes, default decoding. DARK reads the heatmaps a second time rather than the network."""
    found = {}

    def spy(forward, dataset, settings, workers: int) -> Predictions:
        heatmaps = []

        def remember(images: np.ndarray) -> np.ndarray:
            heatmaps.append(forward(images))
            return heatmaps[-1].copy()

        found['default'] = predict(remember, dataset, settings, workers)
        replay = functools.partial(next, iter(heatmaps))
        found['dark'] = predict(lambda images: replay(), dataset, {**settings, 'decoding': 'dark'}, workers)
        return found['default']

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, 'predict', spy)
        output = run(weights, goldens / 'coco_tiny', tmp_path_factory.mktemp('eval'), '--boxes', 'gt',
                     '--eval.batch_size', '6')
    output.default, output.dark = found['default'], found['dark']
    return output


def compare(metrics: dict, wanted: np.ndarray) -> None:
    figures = np.array([metrics[name] for name in METRICS])
    print(f'AP {figures[0]:.4f}, largest deviation of the ten figures {np.abs(figures - wanted).max():.1e}')
    assert abs(figures[0] - wanted[0]) < 0.01
    np.testing.assert_allclose(figures, wanted, atol=1e-3)


def test_figures_of_annotated_boxes(evaluation: Evaluation, expected) -> None:
    assert len(expected['stat_names']) == len(METRICS) == 10
    assert expected['stats_gt_default'][0] == pytest.approx(0.8354, abs=1e-4)
    assert evaluation.metrics['boxes_evaluated'] == 12 and evaluation.metrics['decoding'] == 'default'
    compare(evaluation.metrics, expected['stats_gt_default'])


@pytest.mark.parametrize(('decoding', 'key'), [('default', 'default'), ('dark', 'unbiased_k11')])
def test_joints_of_the_twelve_persons(evaluation: Evaluation, expected, decoding: str, key: str) -> None:
    found: Predictions = getattr(evaluation, decoding)
    np.testing.assert_array_equal(found.image_ids, expected['image_id'])
    np.testing.assert_array_equal(found.bbox_ids, expected['bbox_id'])
    np.testing.assert_allclose(found.boxes[:, :4], np.hstack((expected['center'], expected['scale'])), rtol=1e-4)
    wanted, stable = expected[f'gt_keypoints_{key}'], expected[f'gt_stable_{key}']
    assert stable.sum() >= 12 * 17 - 1
    pixels = np.linalg.norm(found.keypoints[..., :2] - wanted[..., :2], axis=2)[stable].max()
    scores = np.abs(found.keypoints[..., 2] - wanted[..., 2]).max()
    print(f'largest deviation: {pixels:.4f} pixels, {scores:.1e} in the score')
    assert pixels < 0.1 and scores < 1e-3


def test_all_backends_give_the_same_figures(evaluation: Evaluation, goldens: Path) -> None:
    truth = read_annotations(goldens / 'coco_tiny' / 'annotations' / 'person_keypoints_val2017.json', INFO)
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]  # one has no wheel for 3.12
    figures = [evaluate(evaluation.results, truth, sigmas=np.array(INFO.sigmas), backend=name) for name in installed]
    assert figures == [{name: evaluation.metrics[name] for name in METRICS}] * len(installed) and installed


@pytest.mark.slow
@pytest.mark.parametrize(('boxes', 'decoding', 'key', 'ap'), [
    ('gt', 'dark', 'stats_gt_unbiased_k11', 0.8618), ('det', 'default', 'stats_det_default', 0.8403),
    ('det', 'dark', 'stats_det_unbiased_k11', 0.8390)])
def test_figures_of_other_boxes_and_decodings(weights: Path, goldens: Path, expected, tmp_path: Path, boxes: str,
                                              decoding: str, key: str, ap: float) -> None:
    found = run(weights, goldens / 'coco_tiny', tmp_path, '--boxes', boxes, '--eval.decoding', decoding,
                '--eval.backend', 'pycocotools', '--eval.batch_size', '8')
    assert expected[key][0] == pytest.approx(ap, abs=1e-4)
    assert found.metrics['boxes_evaluated'] == {'gt': 12, 'det': 118}[boxes]
    compare(found.metrics, expected[key])


@pytest.mark.slow
@pytest.mark.parametrize(('boxes', 'smaller', 'ap'), [('gt', 0, 0.5670), ('gt', 1, 0.5719), ('det', 0, 0.5436)])
def test_sports_photographs(weights: Path, lspet: Path, tmp_path: Path, boxes: str, smaller: int, ap: float) -> None:
    """The reference's 0.572 is that of MMPose below 0.28, which makes annotated boxes a pixel smaller."""
    root = tmp_path / 'data'
    shutil.copytree(lspet / 'annotations', root / 'annotations')
    for name in ('val2017', 'person_detection_results'):
        (root / name).symlink_to(lspet / name)
    file = root / 'annotations' / 'person_keypoints_val2017.json'
    truth = json.loads(file.read_text())
    for person in truth['annotations']:
        x, y, width, height = person['bbox']
        person['bbox'] = x, y, width - smaller, height - smaller
    file.write_text(json.dumps(truth))
    found = run(weights, root, tmp_path, '--boxes', boxes)
    print({name: round(found.metrics[name], 4) for name in METRICS}, found.metrics['boxes_evaluated'])
    assert found.metrics['AP'] == pytest.approx(ap, abs=5e-4)
