"""Rescoring, suppression and COCO's ten figures against MMPose 0.29 with both COCO tools."""
from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys

import numpy as np
import pytest

from configs.coco_base import dataset_info
from src.common.errors import InputError
from src.mmpose.annotations import read_annotations
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import (
    BACKENDS,
    METRICS,
    Predictions,
    default_backend,
    evaluate,
    precision_recall,
    read_results,
    select,
    write_results,
)

COCO = DatasetInfo.from_dict(dataset_info)
MODES = {'hard': 'oks_nms', 'soft': 'soft_oks_nms', 'none': 'no_nms'}
INSTALLED = [name for name in BACKENDS if importlib.util.find_spec(name)]


@pytest.fixture(scope='module')
def reference(goldens):
    return np.load(goldens / 'evaluation_public.npz')


@pytest.fixture(scope='module')
def truth(goldens):
    return read_annotations(goldens / 'coco_tiny/annotations/person_keypoints_val2017.json', COCO)


def predictions(keypoints, boxes, image_ids, bbox_ids, category_ids=None):
    return Predictions(keypoints, boxes, image_ids, category_ids or [1] * len(boxes), bbox_ids)


def _select(data, nms):
    return select(predictions(data['preds'], data['boxes'], data['image_id'].tolist(), data['bbox_id']),
                  sigmas=data['oks_sigmas'], nms=nms)


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
def test_figures_are_the_reference(reference, truth, capsys, nms, backend):
    stats = evaluate(_select(reference, nms), truth, sigmas=reference['oks_sigmas'], backend=backend)
    assert tuple(stats) == METRICS
    np.testing.assert_allclose(list(stats.values()), reference[f'{MODES[nms]}_stats_{backend}'], atol=1e-6)
    assert capsys.readouterr().out == ''


def three_keypoints(folder, *annotations, **more):
    """Annotations of three keypoints on area 100: 3 px off, with sigma 0.1, OKS is exp(-9 / 8) = 0.32."""
    base = dict(image_id=1, category_id=1, keypoints=JOINTS.ravel().tolist(), num_keypoints=3, iscrowd=0, area=100.0,
                bbox=[0, 0, 50, 50])
    content = {'images': [dict(id=1, file_name='a.png', width=640, height=64)], 'annotations': [
        {**base, 'id': number, **changes} for number, changes in enumerate(annotations, 1)], **more}
    (folder / 'truth.json').write_text(json.dumps(content))
    return read_annotations(folder / 'truth.json', THREE)


THREE = DatasetInfo('three', ('a', 'b', 'c'), (), (), (0.1,) * 3, ())
JOINTS = np.array([[10, 10, 2], [30, 10, 2], [20, 40, 2]], np.float64)
SIGMAS = np.full(3, 0.1)


def result(offset=0.0, score=0.9):
    keypoints = (JOINTS + [offset, 0, -1]).ravel().tolist()
    return dict(image_id=1, category_id=1, score=score, keypoints=keypoints)


@pytest.mark.parametrize('backend', INSTALLED)
def test_sets_of_other_joints_are_scored(tmp_path, backend):
    file = three_keypoints(tmp_path, {})
    for offset, expected in ((0, 1.0), (3, 0.0)):
        assert evaluate([result(offset)], file, sigmas=SIGMAS, backend=backend)['AP'] == pytest.approx(expected)
        assert evaluate([result(offset)], file, sigmas=SIGMAS * 100, backend=backend)['AP'] == pytest.approx(1)


@pytest.mark.parametrize('backend', INSTALLED)
@pytest.mark.parametrize('ids', [
    lambda n: n - 1, lambda n: -n, lambda n: f'a-{n}', lambda n: 2 ** 63 + n, lambda n: -(2 ** 62) * n,
    lambda n: n if n % 2 else str(n), lambda n: n + 0.5], ids=['zero', 'negative', 'text', '64 bit', 'negative 64 bit',
                                                                'mixed', 'fractions'])
def test_scores_do_not_depend_on_the_ids(goldens, reference, tmp_path, backend, ids):
    """Of images and annotations; 0 and negative ones stand for "no match" in the backends' own books."""
    content = json.loads((goldens / 'coco_tiny/annotations/person_keypoints_val2017.json').read_text())
    images = {image['id']: ids(number) for number, image in enumerate(content['images'], 1)}
    for image in content['images']:
        image['id'] = images[image['id']]
    for number, annotation in enumerate(content['annotations'], 1):
        annotation.update(id=ids(number), image_id=images[annotation['image_id']])
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    results = [{**r, 'image_id': images[r['image_id']]} for r in _select(reference, 'hard')]
    stats = evaluate(results, read_annotations(tmp_path / 'gt.json', COCO), sigmas=reference['oks_sigmas'],
                     backend=backend)
    np.testing.assert_allclose(list(stats.values()), reference[f'oks_nms_stats_{backend}'], atol=1e-6)


@pytest.mark.parametrize('backend', INSTALLED)
def test_persons_whose_keypoints_all_score_nothing_count_by_their_own_score(tmp_path, backend):
    """As in COCO's own scoring: one that lies right is found, one that does not is a false positive."""
    file, low = three_keypoints(tmp_path, {}), (JOINTS * [1, 1, 0] - [0, 0, 0.1]).ravel().tolist()
    wrong = ((JOINTS + [9, 0, -9]) * [1, 1, 0]).ravel().tolist()
    assert evaluate([{**result(), 'keypoints': low}], file, sigmas=SIGMAS, backend=backend)['AP'] == pytest.approx(1)
    both = [{**result(), 'keypoints': wrong}, result(score=0.5)]
    assert evaluate(both, file, sigmas=SIGMAS, backend=backend)['AP'] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize('backend', INSTALLED)
@pytest.mark.parametrize('labels', [0, 17.0, None, '3'])
def test_labels_tell_how_many_keypoints_there_are(tmp_path, backend, labels):
    file = three_keypoints(tmp_path, dict(num_keypoints=labels))
    assert evaluate([result(20)], file, sigmas=SIGMAS, backend=backend)['AP'] == 0
    assert evaluate([result()], file, sigmas=SIGMAS, backend=backend)['AP'] == pytest.approx(1)


@pytest.mark.parametrize('backend', INSTALLED)
@pytest.mark.parametrize('other', [dict(keypoints=[0] * 9, num_keypoints=3), dict(iscrowd=True, keypoints=[0] * 9),
                                   dict(keypoints=[], num_keypoints=0)])
def test_people_without_labels_and_crowds_are_neither_right_nor_wrong(tmp_path, backend, other):
    file = three_keypoints(tmp_path, {}, dict(bbox=[100, 0, 50, 50], **other))
    assert evaluate([result(100, 0.95), result()], file, sigmas=SIGMAS, backend=backend)['AP'] == pytest.approx(1)
    assert evaluate([result(300, 0.95), result()], file, sigmas=SIGMAS, backend=backend)['AP'] < 0.6


@pytest.mark.parametrize('backend', INSTALLED)
def test_several_categories_are_scored_as_by_cocos_tools(tmp_path, backend):
    """The mean over the categories, each against the results that bear it; others do not count."""
    categories = [dict(id=k, name=str(k), keypoints=['a', 'b', 'c']) for k in (5, 2, 9)] + [dict(id=7, name='chair')]
    far = dict(keypoints=(JOINTS + [100, 0, 0]).ravel().tolist(), bbox=[100, 0, 50, 50])
    file = three_keypoints(tmp_path, dict(category_id=5), dict(category_id=2, **far),
                           dict(category_id=7, bbox=[0, 0, 64, 64], keypoints=[0] * 9), categories=categories)
    assert file.categories == [5, 2, 9] and file.omitted == {'annotations of other categories': 1}

    def score(*found):
        return evaluate([{**r, 'category_id': c} for r, c in found], file, sigmas=SIGMAS, backend=backend)['AP']
    assert score((result(), 5), (result(100), 2)) == pytest.approx(1)
    assert score((result(), 5), (result(100), 5)) == pytest.approx(0.5)
    assert score((result(), 5), (result(100), 2), (result(30, 0.99), 7)) == pytest.approx(1)
    assert score((result(), 7)) == 0


def crowds(folder, *indices):
    """An image for each crowdIndex, a person of area 100 by its box in each."""
    images = [dict(id=number, file_name='a.png', width=640, height=64, crowdIndex=index)
              for number, index in enumerate(indices, 10)]
    return three_keypoints(folder, *(dict(image_id=image['id']) for image in images), images=images)


@pytest.mark.parametrize('backend', INSTALLED)
def test_crowdposes_images_are_scored_by_how_crowded_they_are(tmp_path, backend):
    """Bounds and meaning of xtcocotools: easy is below 0.2, hard from 0.8."""
    file = crowds(tmp_path, 0, 0.19, 0.2, 0.79, 0.8, 1)
    right = [{**result(), 'image_id': image} for image in (10, 12, 13)]
    scores = evaluate(right, file, sigmas=SIGMAS, backend=backend)
    assert tuple(scores) == (*METRICS, 'AP_easy', 'AP_medium', 'AP_hard')
    # Half of the persons found: precision is 1 up to a recall of a half, which 51 of 101 places have.
    assert [scores[name] for name in ('AP', 'AP_easy', 'AP_medium', 'AP_hard')] == pytest.approx(
        [51 / 101, 51 / 101, 1, 0])
    nobody = evaluate([], file, sigmas=SIGMAS, backend=backend)
    assert tuple(nobody) == tuple(scores) and set(nobody.values()) == {0}
    calm = evaluate([{**result(), 'image_id': 10}], crowds(tmp_path, 0.1), sigmas=SIGMAS, backend=backend)
    assert (calm['AP_easy'], calm['AP_medium'], calm['AP_hard']) == (pytest.approx(1), -1, -1)


@pytest.mark.parametrize('backend', INSTALLED)
def test_people_of_whom_crowdpose_sees_nothing_are_neither_right_nor_wrong(tmp_path, backend):
    """They match the results nearest to them, once each."""
    images = [dict(id=1, file_name='a.png', width=640, height=64, crowdIndex=0.5)]
    far = dict(keypoints=(JOINTS + [100, 0, 0]).ravel().tolist(), bbox=[100, 0, 50, 50], num_keypoints=0)
    file = three_keypoints(tmp_path, {}, far, images=images)

    def score(*found):
        return evaluate(list(found), file, sigmas=SIGMAS, backend=backend)['AP_medium']
    assert score(result()) == score(result(100, 0.95), result()) == pytest.approx(1)
    assert score(result(100, 0.95), result(100, 0.95), result()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize('backend', INSTALLED)
def test_oks_by_the_boxes_where_areas_do_not_count(tmp_path, backend):
    """20 px off: OKS is 0.004 by the area, 100, and by 0.53 of 50 x 50 0.66, which reaches four of ten thresholds."""
    file = three_keypoints(tmp_path, {})
    boxes = read_annotations(file.file, dataclasses.replace(THREE, use_area=False))
    scores = {name: evaluate([result(20)], truth, sigmas=SIGMAS * 3, backend=backend)
              for name, truth in (('area', file), ('box', boxes))}
    assert scores['area']['AP50'] == 0
    oks = np.exp(-20 ** 2 / (2 * 0.53 * 50 * 50 * (2 * 0.3) ** 2))
    assert 0.65 < oks < 0.7 and scores['box']['AP'] == pytest.approx(0.4) and scores['box']['APM'] == pytest.approx(0.4)


def test_results_bear_the_category_of_their_box():
    keypoints, boxes = np.ones((3, 2, 3)), np.ones((3, 6))
    keypoints[:, :, 0] += np.array([[0], [500], [900]])
    boxes[:, 5] = 0.9, 0.8, 0.7
    results = select(predictions(keypoints, boxes, ['x', 7, 'x'], [0, 0, 1], [3, 'dog', 4]), sigmas=np.ones(2))
    assert [(r['image_id'], r['category_id']) for r in results] == [('x', 3), ('x', 4), (7, 'dog')]


def test_rescoring_counts_confident_joints_only():
    preds = np.zeros((2, 4, 3))
    preds[0, :, 2] = 0.1, 0.2, 0.6, 0.8
    results = select(predictions(preds, np.array([[0, 0, 1, 1, 1, 0.5], [9, 9, 1, 1, 1, 1]]), [7, 8], [0, 0]),
                     sigmas=np.ones(4))
    assert [result['score'] for result in results] == pytest.approx([0.35, 0])


def test_the_first_of_repeated_boxes_stays_and_images_keep_their_order():
    preds = np.arange(5 * 2 * 3, dtype=np.float64).reshape(5, 2, 3)
    results = select(predictions(preds, np.ones((5, 6)), [9, 4, 9, 9, 4], [3, 0, 1, 3, 0]), sigmas=np.ones(2),
                     nms='none')
    kept = [(result['image_id'], result['keypoints'][0]) for result in results]
    assert kept == [(9, 12.0), (9, 0.0), (4, 6.0)]


def test_no_detection_is_zero_not_a_crash(truth, caplog):
    results = select(predictions(np.zeros((0, 17, 3)), np.zeros((0, 6)), [], []), sigmas=np.ones(17))
    assert results == []
    assert evaluate(results, truth, sigmas=np.ones(17)) == dict.fromkeys(METRICS, 0.0)
    assert 'no person' in caplog.text


def test_written_results_read_back(reference, tmp_path):
    results = _select(reference, 'hard')
    write_results(results, tmp_path / 'new' / 'results.json')
    assert json.loads((tmp_path / 'new' / 'results.json').read_text()) == results
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['results.json']


def test_backends_that_are_absent_or_unknown_are_named(truth, monkeypatch):
    for name in BACKENDS:
        monkeypatch.setitem(sys.modules, f'{name}.coco', None)
        with pytest.raises(InputError, match=f'pip install {name}'):
            evaluate([], truth, sigmas=np.ones(17), backend=name)
    with pytest.raises(InputError, match='cocotools'):
        evaluate([], truth, sigmas=np.ones(17), backend='coco')


def test_default_backend(monkeypatch):
    assert default_backend() == INSTALLED[0]
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'xtcocotools' else object())
    assert default_backend() == 'pycocotools'


@pytest.mark.parametrize('backend', INSTALLED)
def test_precision_recall_curves_average_to_the_figures(reference, truth, backend):
    results = _select(reference, 'hard')
    thresholds, recalls, precision = precision_recall(results, truth, sigmas=reference['oks_sigmas'],
                                                      backend=backend)
    assert precision.shape == (len(thresholds), len(recalls)) == (10, 101)
    stats = dict(zip(METRICS, reference[f'{MODES["hard"]}_stats_{backend}']))
    np.testing.assert_allclose([precision.mean(), precision[0].mean(), precision[5].mean()],
                               [stats['AP'], stats['AP50'], stats['AP75']], atol=1e-6)
    assert (np.diff(precision, axis=1) <= 0).all()


@pytest.mark.parametrize(('content', 'words'), [
    ({}, 'not a list'), ([{}], "result 0 has no key 'keypoints'"), ([{**result(), 'image_id': 9}], 'image 9'),
    ([{**result(), 'keypoints': [1, 2, 3]}], 'result 0 .*9 numbers'),
    ([result(), result(score=float('nan'))], 'result 1 .*not finite')])
def test_wrong_results_are_refused(tmp_path, content, words):
    (tmp_path / 'r.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf'r\.json.*{words}'):
        read_results(tmp_path / 'r.json', three_keypoints(tmp_path, {}), THREE)


def test_results_of_other_categories_are_omitted_and_counted(tmp_path):
    annotations = three_keypoints(tmp_path, {})
    (tmp_path / 'r.json').write_text(json.dumps([result(), {**result(), 'category_id': 2}]))
    assert read_results(tmp_path / 'r.json', annotations, THREE) == [result()]
    assert annotations.remarks.endswith('omitted 1 results of other categories')
