"""Encoding and decoding against MMPose 0.29, and their properties."""
from __future__ import annotations

import cv2
import numpy as np
import pytest

from src.mmpose.heatmap import MAX_STEP, METHODS, decode, encode, encode_megvii, encode_unbiased, flip_back, to_image

INPUT, MAP = (192, 256), (48, 64)
DECODED = [('none', 11, 'preds_none', None), ('default', 11, 'preds_default', None),
           ('dark', 11, 'preds_unbiased_k11', 'stable_unbiased_k11'),
           ('dark', 17, 'preds_unbiased_k17', 'stable_unbiased_k17'), ('udp', 11, 'preds_udp_k11', 'stable_udp_k11')]


@pytest.fixture(scope='module')
def reference(goldens):
    return np.load(goldens / 'decode.npz')


@pytest.fixture(scope='module')
def unit_crop():
    """Centre and scale of one crop in which a heatmap pixel is four image pixels and the origins agree."""
    return np.array([[96, 128]], np.float32), np.array([[192, 256]], np.float32) / 200


@pytest.mark.parametrize('joints, visible, target', [('tgt_joints', 'tgt_visible', 'tgt_target'),
                                                     ('val_joints', 'joints_visible', 'val_target'),
                                                     ('aug_joints', 'aug_joints_visible', 'aug_target')])
def test_encode_is_the_reference(goldens, joints, visible, target):
    data = np.load(goldens / 'data_pipeline.npz')
    maps, weights = zip(*(encode(j, v, INPUT, MAP, 2) for j, v in zip(data[joints], data[visible])))
    assert maps[0].dtype == weights[0].dtype == np.float32
    np.testing.assert_allclose(maps, data[target], atol=1e-6)
    np.testing.assert_array_equal(weights, data[target + '_weight'])


@pytest.mark.parametrize('sigma, size', [(2, (48, 64)), (3, (72, 96)), (1.5, (24, 32))])
def test_encode_cuts_at_three_sigma(sigma, size):
    image_size = (size[0] * 4, size[1] * 4)
    target, weight = encode(np.array([[40.0, 60, 0]]), np.ones((1, 3)), image_size, size, sigma)
    radius = int(3 * sigma)
    assert target[0, 15, 10] == 1 and weight[0, 0] == 1
    np.testing.assert_array_equal(target[0].any(axis=1).nonzero()[0], np.arange(15 - radius, 15 + radius + 1))
    np.testing.assert_allclose(target[0, 15, 11], np.exp(-1 / (2 * sigma ** 2)), rtol=1e-6)


def test_udp_encoding_keeps_the_fraction():
    joints = np.array([[17.3 * 191 / 47, 21.6 * 255 / 63, 0]])
    target, weight = encode(joints, np.ones((1, 3)), INPUT, MAP, 2, udp=True)
    y, x = np.mgrid[:64, :48]
    patch = (abs(x - 17) <= 6) & (abs(y - 22) <= 6)  # around the nearest pixel, the peak at the exact place
    expected = np.exp(-((x - 17.3) ** 2 + (y - 21.6) ** 2) / 8) * patch
    np.testing.assert_allclose(target[0], expected, atol=1e-6)
    assert weight[0, 0] == 1


@pytest.mark.parametrize('method, kernel, key, stable', DECODED)
def test_decode_is_the_reference(reference, method, kernel, key, stable):
    heatmaps = reference['heatmaps'].copy()
    keypoints, scores = decode(heatmaps, reference['center'], reference['scale'], method, kernel)
    compared = reference[stable] if stable else np.ones((8, 17), bool)
    if method == 'udp':
        compared = compared & reference['udp_compare_mask']
    size = np.array(MAP) - (method == 'udp')
    peaks = to_image(reference['argmax_xy'], size, reference['center'], reference['scale'])
    step = np.abs(reference[key] - peaks) * size / (reference['scale'][:, None] * 200)
    flown = compared & (step > MAX_STEP).any(axis=-1) & (reference['maxvals'][..., 0] > 0)
    assert flown.sum() == (method == 'udp')  # one map is a plateau; the reference's keypoint lies 22 pixels beside it
    compared = compared & ~flown
    assert keypoints.dtype == scores.dtype == np.float32 and compared.mean() > 0.9
    np.testing.assert_allclose(keypoints[compared], reference[key][compared], atol=1e-3)
    np.testing.assert_array_equal(scores, reference['maxvals'])
    np.testing.assert_array_equal(heatmaps, reference['heatmaps'])  # the input stays as it was


@pytest.mark.parametrize('method', METHODS)
def test_decode_of_flat_and_negative_maps_is_finite(method):
    heatmaps = np.zeros((2, 3, 64, 48), np.float32)
    heatmaps[0, 0], heatmaps[0, 1], heatmaps[1, 2] = 1, -1, np.random.default_rng(0).normal(-9, 1, (64, 48))
    keypoints, scores = decode(heatmaps, np.zeros((2, 2)), np.ones((2, 2)), method)
    assert np.isfinite(keypoints).all() and np.isfinite(scores).all()
    size = np.array([48, 64]) - (method == 'udp')
    np.testing.assert_allclose(keypoints[0, 1], -200 / size - 100, rtol=1e-6)  # heatmap point (-1, -1)


@pytest.mark.parametrize('method, udp, tolerance', [('none', False, 0.501), ('default', False, 0.501),
                                                    ('dark', True, 0.02), ('udp', True, 0.02)])
def test_decode_finds_what_encode_drew(method, udp, tolerance):
    """In heatmap pixels: half a pixel is lost where the target is rounded, nearly nothing where it is exact."""
    joints = np.random.default_rng(0).uniform([40, 40], [150, 210], (200, 2))
    maps = np.stack([encode(joint[None], np.ones((1, 1)), INPUT, MAP, 2, udp)[0] for joint in joints])
    places = joints / [191 / 47, 255 / 63] if udp else joints / 4
    extent = np.tile(np.array(MAP, np.float64) - (method == 'udp'), (200, 1))  # a crop as large as its heatmap
    keypoints, _ = decode(maps, extent / 2, extent / 200, method)
    # The quarter shift sees a tie in the drawn, symmetric peak; blurs see the patch's cut edges a little.
    assert np.abs(keypoints[:, 0] - places).max() < tolerance


@pytest.mark.parametrize('method', ['dark', 'udp'])
@pytest.mark.parametrize('slope', [1e-3, 1e-7])
def test_newton_step_stays_near_the_peak(method, slope):
    """Along a ridge, or where all is nearly flat, the second derivative says nothing about how far the peak is."""
    y, x = np.mgrid[:64, :48].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, slope, (400, 64, 48))
    maps = np.concatenate((0.5 + noise[:200], np.exp(-(y - 30.3) ** 2 / 8) + slope * x + noise[200:]))
    maps = maps.astype(np.float32)
    size = np.array(MAP) - (method == 'udp')
    crop = np.tile(size / 2, (400, 1)), np.tile(size / 200, (400, 1))  # a crop as large as its heatmap
    found, _ = decode(maps[:, None], *crop, method)
    peaks = np.stack(np.divmod(maps.reshape(400, -1).argmax(axis=1), 48)[::-1], axis=-1)
    distance = np.abs(found[:, 0] - peaks).max(axis=-1)
    assert distance.max() <= MAX_STEP + 1e-4 and (distance > MAX_STEP - 1e-4).any()


def test_megvii_decoding_finds_what_megvii_encoding_drew():
    joints = np.random.default_rng(0).uniform([40, 40], [150, 210], (200, 2))
    maps = np.stack([encode_megvii(joint[None], np.ones((1, 1)), INPUT, MAP)[0] for joint in joints])
    extent = np.tile(np.array(MAP, np.float64), (200, 1))
    keypoints, scores = decode(maps, extent / 2, extent / 200, 'megvii')
    # Half a pixel from cutting off the fraction, and the quarter shift of a tie that rounding decides.
    assert np.abs(keypoints[:, 0] - joints / 4).max() < 0.751
    np.testing.assert_allclose(scores, 1.5, rtol=1e-6)


def random_joints(draw_seed: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int], tuple[int, int]]:
    """Keypoints in and around an input, labels between 0 and 1, and the sizes of input and heatmap."""
    rng = np.random.default_rng(draw_seed)
    size = tuple(rng.integers(13, 60, 2).tolist())
    image_size = tuple(int(n * rng.choice([2, 4])) for n in size)
    joints = rng.uniform(-0.4, 1.4, (9, 2)) * image_size
    return joints.astype(np.float32), rng.choice([0, 0.3, 0.7, 1], (9, 1)), image_size, size


@pytest.mark.parametrize('seed', range(20))
@pytest.mark.parametrize('sigma', [1, 2.5])
def test_unbiased_targets_by_formula(seed, sigma):
    joints, visible, image_size, size = random_joints(seed)
    target, weight = encode_unbiased(joints, visible, image_size, size, sigma)
    y, x = np.mgrid[:size[1], :size[0]]
    assert target.dtype == weight.dtype == np.float32 and target.shape == (9, *size[::-1])
    for k, (joint, (shown,)) in enumerate(zip(joints.astype(float), visible)):
        place = joint * size / image_size
        reached = all(-3 * sigma - 1 <= value < n + 3 * sigma for value, n in zip(place, size))
        assert weight[k, 0] == np.float32(shown * reached)
        gaussian = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * sigma ** 2))
        np.testing.assert_allclose(target[k], gaussian * (reached and shown > 0.5), atol=1e-5)


@pytest.mark.parametrize('seed', range(20))
@pytest.mark.parametrize('kernel', [(11, 11), (9, 5)])
def test_megvii_targets_by_formula(seed, kernel):
    joints, visible, image_size, size = random_joints(seed)
    target, weight = encode_megvii(joints, visible, image_size, size, kernel)
    assert target.dtype == weight.dtype == np.float32 and target.shape == (9, *size[::-1])
    for k, (joint, (shown,)) in enumerate(zip(joints, visible)):
        x, y = (int(value * n / full) for value, n, full in zip(joint.tolist(), size, image_size))
        inside = 0 <= x < size[0] and 0 <= y < size[1]
        assert weight[k, 0] == np.float32(0 if shown == 1 and not inside else shown)
        blurred = np.zeros(size[::-1])
        if shown == 1 and inside:
            blurred[y, x] = 1
            blurred = cv2.GaussianBlur(blurred, kernel, 0)
            blurred *= 255 / blurred[y, x]
        np.testing.assert_allclose(target[k], blurred, rtol=1e-4, atol=1e-4)


def test_quarter_shift_goes_towards_the_higher_neighbour(unit_crop):
    heatmaps = np.zeros((1, 3, 64, 48), np.float32)
    heatmaps[0, :, 20, 10] = 1
    heatmaps[0, 0, 20, 11], heatmaps[0, 0, 19, 10] = 0.5, 0.4
    heatmaps[0, 1, 20, 9] = 0.5
    keypoints, _ = decode(heatmaps, *unit_crop)
    np.testing.assert_allclose(keypoints[0], [[41, 79], [39, 80], [40, 80]], atol=1e-4)


def test_flip_back_is_the_reference(reference):
    index = np.arange(17)
    for left, right in reference['flip_pairs']:
        index[[left, right]] = right, left
    flipped, rows = reference['flipped_net_output'], slice(*reference['flip_rows'])
    for shift, suffix in ((False, ''), (True, '_shifted')):
        restored = flip_back(flipped, index, shift)
        np.testing.assert_array_equal(restored, reference['flip_back' + suffix])
        average = (reference['heatmaps'][rows] + restored) / 2
        np.testing.assert_allclose(average, reference['average' + suffix], atol=1e-7)
        keypoints, scores = decode(average, reference['center'][rows], reference['scale'][rows])
        np.testing.assert_allclose(keypoints, reference['preds_default_of_average' + suffix], atol=1e-3)
        np.testing.assert_allclose(scores, reference['maxvals_of_average' + suffix], atol=1e-7)


def test_flip_back_twice_is_the_identity():
    heatmaps = np.random.default_rng(0).normal(size=(2, 4, 6, 5)).astype(np.float32)
    index = np.array([0, 2, 1, 3])
    np.testing.assert_array_equal(flip_back(flip_back(heatmaps, index, False), index, False), heatmaps)
