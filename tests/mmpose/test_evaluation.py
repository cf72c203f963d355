"""Rescoring, suppression and COCO's ten figures against MMPose 0.29 with both COCO tools."""
from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest

from src.common.errors import InputError
from src.mmpose.evaluation import BACKENDS, METRICS, default_backend, evaluate, precision_recall, select, write_results

MODES = {'hard': 'oks_nms', 'soft': 'soft_oks_nms', 'none': 'no_nms'}
INSTALLED = [name for name in BACKENDS if importlib.util.find_spec(name)]


@pytest.fixture(scope='module')
def reference(goldens):
    return np.load(goldens / 'evaluation_public.npz')


@pytest.fixture(scope='module')
def truth_file(goldens):
    return goldens / 'coco_tiny/annotations/person_keypoints_val2017.json'


def _select(data, nms):
    return select(data['preds'], data['boxes'], data['image_id'], data['bbox_id'], sigmas=data['oks_sigmas'], nms=nms)


@pytest.mark.parametrize('nms', MODES)
def test_select_is_the_reference(goldens, reference, nms):
    results, mode = _select(reference, nms), MODES[nms]
    expected = json.loads((goldens / f'coco_results_{mode}_public.json').read_text())
    assert [set(result) for result in results] == [set(result) for result in expected]
    for key in expected[0]:
        np.testing.assert_allclose([result[key] for result in results], [result[key] for result in expected],
                                   rtol=1e-6, err_msg=key)
    np.testing.assert_array_equal([result['image_id'] for result in results], reference[f'{mode}_kept_image_id'])
    np.testing.assert_allclose([result['score'] for result in results], reference[f'{mode}_kept_score'], rtol=1e-6)


@pytest.mark.parametrize('nms', MODES)
@pytest.mark.parametrize('backend', INSTALLED)
def test_figures_are_the_reference(reference, truth_file, capsys, nms, backend):
    stats = evaluate(_select(reference, nms), truth_file, sigmas=reference['oks_sigmas'], backend=backend)
    assert tuple(stats) == METRICS
    np.testing.assert_allclose(list(stats.values()), reference[f'{MODES[nms]}_stats_{backend}'], atol=1e-6)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('backend', INSTALLED)
def test_sets_of_other_joints_are_scored(tmp_path, backend):
    """Three joints: the truth itself scores 1, with 3 px off on area 100 and sigma 0.1 OKS is exp(-9 / 8) = 0.32."""
    joints = np.array([[10, 10, 2], [30, 10, 2], [20, 40, 2]], np.float64)
    annotation = dict(id=1, image_id=1, category_id=1, keypoints=joints.ravel().tolist(), num_keypoints=3, iscrowd=0,
                      area=100.0, bbox=[0, 0, 50, 50])
    file = tmp_path / 'truth.json'
    file.write_text(json.dumps(dict(info={}, images=[dict(id=1, width=64, height=64)], annotations=[annotation],
                                    categories=[dict(id=1, name='person')])))
    boxes, sigmas = np.array([[25, 25, 0.25, 0.25, 2500, 1]]), np.array([0.1, 0.1, 0.1])
    for offset, expected in ((0, 1.0), (3, 0.0)):
        preds = joints + [offset, 0, 0]
        results = select(preds[None], boxes, [1], [0], sigmas=sigmas)
        assert evaluate(results, file, sigmas=sigmas, backend=backend)['AP'] == pytest.approx(expected)
        assert evaluate(results, file, sigmas=sigmas * 100, backend=backend)['AP'] == pytest.approx(1)


def test_rescoring_counts_confident_joints_only():
    preds = np.zeros((2, 4, 3))
    preds[0, :, 2] = 0.1, 0.2, 0.6, 0.8
    results = select(preds, np.array([[0, 0, 1, 1, 1, 0.5], [9, 9, 1, 1, 1, 1]]), [7, 8], [0, 0], sigmas=np.ones(4))
    assert [result['score'] for result in results] == pytest.approx([0.35, 0])


def test_the_first_of_repeated_boxes_stays_and_images_keep_their_order():
    preds = np.arange(5 * 2 * 3, dtype=np.float64).reshape(5, 2, 3)
    results = select(preds, np.ones((5, 6)), [9, 4, 9, 9, 4], [3, 0, 1, 3, 0], sigmas=np.ones(2), nms='none')
    kept = [(result['image_id'], result['keypoints'][0]) for result in results]
    assert kept == [(9, 12.0), (9, 0.0), (4, 6.0)]


def test_no_detection_is_zero_not_a_crash(truth_file, caplog):
    results = select(np.zeros((0, 17, 3)), np.zeros((0, 6)), [], [], sigmas=np.ones(17))
    assert results == []
    assert evaluate(results, truth_file, sigmas=np.ones(17)) == dict.fromkeys(METRICS, 0.0)
    assert 'no person' in caplog.text


def test_written_results_read_back(reference, tmp_path):
    results = _select(reference, 'hard')
    write_results(results, tmp_path / 'new' / 'results.json')
    assert json.loads((tmp_path / 'new' / 'results.json').read_text()) == results
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['results.json']


def test_backends_that_are_absent_or_unknown_are_named(truth_file, monkeypatch):
    for name in BACKENDS:
        monkeypatch.setitem(sys.modules, f'{name}.coco', None)
        with pytest.raises(InputError, match=f'pip install {name}'):
            evaluate([], truth_file, sigmas=np.ones(17), backend=name)
    with pytest.raises(InputError, match='cocotools'):
        evaluate([], truth_file, sigmas=np.ones(17), backend='coco')


def test_default_backend(monkeypatch):
    assert default_backend() == INSTALLED[0]
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'xtcocotools' else object())
    assert default_backend() == 'pycocotools'


@pytest.mark.parametrize('backend', INSTALLED)
def test_precision_recall_curves_average_to_the_figures(reference, truth_file, backend):
    results = _select(reference, 'hard')
    thresholds, recalls, precision = precision_recall(results, truth_file, sigmas=reference['oks_sigmas'],
                                                      backend=backend)
    assert precision.shape == (len(thresholds), len(recalls)) == (10, 101)
    stats = dict(zip(METRICS, reference[f'{MODES["hard"]}_stats_{backend}']))
    np.testing.assert_allclose([precision.mean(), precision[0].mean(), precision[5].mean()],
                               [stats['AP'], stats['AP50'], stats['AP75']], atol=1e-6)
    assert (np.diff(precision, axis=1) <= 0).all()
