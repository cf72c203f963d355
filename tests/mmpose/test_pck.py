"""PCKh by hand, and reading of mpii_gt_val.mat (written here in its layout)."""
from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from src.common.errors import InputError
from src.mmpose.pck import GROUPS, evaluate, load_ground_truth, pckh


@pytest.fixture
def persons():
    """Ground truth of four persons, counted from zero, all joints visible, head boxes with sides 30 and 40."""
    joints = np.random.default_rng(0).uniform(20, 200, (4, 16, 2))
    corners = np.repeat(np.array([[10, 20], [40, 60]], np.float64)[..., None], 4, axis=2)
    return joints, np.ones((4, 16)), corners


@pytest.fixture
def mat_file(persons, tmp_path):
    joints, visible, corners = persons
    file = tmp_path / 'mpii_gt_val.mat'
    savemat(file, dict(pos_gt_src=(joints + 1).transpose(1, 2, 0), headboxes_src=corners, jnt_missing=1 - visible.T))
    return file


def test_groups_and_mean_weigh_as_in_mmpose(persons):
    target, visible, _ = persons
    pred = target.copy()
    pred[0, 13] += [0, 5.1]   # one of four left shoulders: 75, the right ones 100
    pred[:2, 0] += [5.1, 0]   # two of two visible right ankles
    visible[2:, 0] = 0
    pred[:, 6:8] += 99        # pelvis and thorax never count
    scores = pckh(pred, target, visible, np.full(4, 10.0))
    assert scores == pytest.approx(dict(Head=100, Shoulder=87.5, Elbow=100, Wrist=100, Hip=100, Knee=100, Ankle=50,
                                        Mean=100 * 51 / 54))


def test_the_threshold_itself_counts(persons):
    target, visible, _ = persons
    pred = np.round(target) + [4, 0]
    assert pckh(pred, np.round(target), visible, np.full(4, 8.0))['Mean'] == 100
    assert pckh(pred, np.round(target), visible, np.full(4, 7.9))['Mean'] == 0


def test_nothing_visible_is_minus_one(persons):
    target, visible, _ = persons
    visible[:, list(GROUPS['Wrist'])] = 0
    assert pckh(target, target, visible, np.ones(4))['Wrist'] == -1
    assert set(pckh(target, target, visible * 0, np.ones(4)).values()) == {-1}


def test_the_ground_truth_file_is_read_in_its_layout(persons, mat_file):
    joints, visible, head_sizes = load_ground_truth(mat_file, 4)
    np.testing.assert_allclose(joints, persons[0] + 1)
    np.testing.assert_array_equal(visible, persons[1])
    np.testing.assert_allclose(head_sizes, 0.6 * 50)


def test_evaluate_counts_from_one_and_drops_repeats(persons, mat_file):
    order = [2, 0, 3, 1, 2]
    preds = persons[0][order] + [6.0, 0]  # 0.2 head sizes off
    preds[-1] = 0
    ground_truth = load_ground_truth(mat_file, 4)
    scores = evaluate(preds, np.array(order), ground_truth)
    assert list(scores)[7:9] == ['Mean', 'Head@0.1'] and len(scores) == 16
    assert scores['Mean'] == 100 and scores['Mean@0.1'] == 0
    assert evaluate(preds - [3.5, 0], np.array(order), ground_truth)['Mean@0.1'] == 100


def test_other_persons_and_bad_files_are_refused(mat_file, tmp_path):
    with pytest.raises(InputError, match='holds 4 persons, the annotations 3'):
        load_ground_truth(mat_file, 3)
    with pytest.raises(InputError, match=r'absent\.mat.*head sizes'):
        load_ground_truth(tmp_path / 'absent.mat', 4)
    broken = tmp_path / 'broken.mat'
    broken.write_bytes(mat_file.read_bytes()[:300])
    with pytest.raises(InputError, match=r'broken\.mat'):
        load_ground_truth(broken, 4)
    savemat(broken, dict(something=1))
    with pytest.raises(InputError, match='pos_gt_src'):
        load_ground_truth(broken, 4)
