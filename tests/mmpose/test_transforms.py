"""The steps of the pipeline against the reference's numbers."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from configs.coco_base import dataset_info
from src.common.errors import InputError
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.heatmap import encode, encode_megvii, encode_unbiased
from src.mmpose.image import read_image
from src.mmpose.pipeline import Compose
from src.mmpose.transforms import half_body_box
from tests.mmpose.test_image import jpeg, with_segment

INFO = DatasetInfo.from_dict(dataset_info)
ANN_INFO = dict(image_size=np.array((192, 256)), heatmap_size=np.array((48, 64)), num_joints=17,
                flip_pairs=INFO.flip_pairs, flip_index=INFO.flip_index, upper_body_ids=INFO.upper_body)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TENSOR = [dict(type='ToTensor'), dict(type='NormalizeTensor', mean=MEAN, std=STD)]


class Dice:
    """Stands in for a Generator: uniform deviates are `uniform`, normal ones `normal`."""

    def __init__(self, uniform: float = 0.0, normal: float = 0.0) -> None:
        self.value, self.normal = uniform, normal

    def random(self) -> float:
        return self.value

    def standard_normal(self) -> float:
        return self.normal

    def uniform(self, low: float, high: float, count: int) -> np.ndarray:
        return np.full(count, low + (high - low) * self.value)


@pytest.fixture(scope='module')
def data(goldens: Path) -> dict[str, np.ndarray]:
    with np.load(goldens / 'data_pipeline.npz') as file:
        return dict(file)


def person(data: dict[str, np.ndarray], goldens: Path, row: int) -> dict[str, Any]:
    return dict(image_file=str(goldens / f'coco_tiny/val2017/{data["image_id"][row]:012d}.jpg'), rotation=0.0,
                bbox=data['clean_bbox_xywh'][row], joints_3d=data['joints'][row],
                joints_3d_visible=data['joints_visible'][row], ann_info=ANN_INFO, rng=np.random.default_rng(0))


def assert_same_crop(got: np.ndarray, expected: np.ndarray) -> None:
    """Exact with the reference's OpenCV; others may round differently."""
    error = np.abs(got.astype(int) - expected)
    assert got.dtype == np.uint8 and got.shape == expected.shape
    assert (error.max() == 0) if cv2.__version__.startswith('4.10') else (np.mean(error <= 2) > 0.999)


def assert_sample(sample: dict[str, Any], data: dict[str, np.ndarray], kind: str, row: int) -> None:
    np.testing.assert_allclose(sample['center'], data[f'{kind}_center'][row], rtol=1e-6)
    np.testing.assert_allclose(sample['scale'], data[f'{kind}_scale'][row], rtol=1e-6)
    np.testing.assert_allclose(sample['joints_3d'], data[f'{kind}_joints'][row], rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(sample['target'], data[f'{kind}_target'][row], atol=1e-6)
    np.testing.assert_array_equal(sample['target_weight'], data[f'{kind}_target_weight'][row])
    assert_same_crop(sample['img'], data[f'{kind}_crop_uint8'][row])


@pytest.mark.parametrize('row', range(6))
def test_validation_sample_equals_the_reference(goldens: Path, data: dict[str, np.ndarray], row: int) -> None:
    steps = ('LoadImageFromFile', 'TopDownGetBboxCenterScale', 'TopDownAffine', 'TopDownGenerateTarget')
    sample = Compose([dict(type=step) for step in steps])(person(data, goldens, row))
    assert_sample(sample, data, 'val', row)


@pytest.mark.parametrize('row', range(6))
def test_augmented_sample_equals_the_reference(goldens: Path, data: dict[str, np.ndarray], row: int) -> None:
    start = Compose([dict(type='LoadImageFromFile'), dict(type='TopDownGetBboxCenterScale', padding=1.25),
                     dict(type='TopDownRandomFlip', flip_prob=float(data['aug_flip'][row]))])
    sample = start(person(data, goldens, row))
    sample['scale'] = sample['scale'] * data['aug_scale_factor'][row]
    sample['rotation'] = data['aug_rotation'][row]
    sample = Compose([dict(type='TopDownAffine'), dict(type='TopDownGenerateTarget', sigma=2)])(sample)
    np.testing.assert_array_equal(sample['joints_3d_visible'], data['aug_joints_visible'][row])
    assert_sample(sample, data, 'aug', row)


def test_steps_leave_the_records_arrays_alone(goldens: Path, data: dict[str, np.ndarray]) -> None:
    record = person(data, goldens, 0)
    before = {key: record[key].copy() for key in ('bbox', 'joints_3d', 'joints_3d_visible')}
    record.update(img=read_image(record['image_file']), center=np.float32((390, 218)), scale=np.float32((1.6, 2.2)))
    inputs = {key: record[key].copy() for key in ('img', 'center', 'scale')}
    arrays = {key: record[key] for key in (*before, *inputs)}
    names = ('TopDownGetBboxCenterScale', 'TopDownRandomShiftBboxCenter', 'TopDownRandomFlip',
             'TopDownHalfBodyTransform', 'TopDownGetRandomScaleRotation', 'TopDownAffine', 'TopDownGenerateTarget')
    Compose([*(dict(type=name) for name in names), *TENSOR])({**record, 'rng': Dice()})
    for key, value in {**before, **inputs}.items():
        np.testing.assert_array_equal(arrays[key], value, err_msg=key)


def test_normalised_crop_equals_the_reference(data: dict[str, np.ndarray]) -> None:
    apart = [dict(type='ToTensor'), dict(type='Collect', keys=['img'], meta_keys=[]), TENSOR[1]]
    for row, expected in zip(data['val_crop_normalised_index'], data['val_crop_normalised_f16']):
        crop = data['val_crop_uint8'][row]
        fused = Compose(TENSOR)({'img': crop})['img']
        assert fused.dtype == np.float32 and fused.flags.c_contiguous
        np.testing.assert_array_equal(fused.astype(np.float16).astype(np.float32)[expected == 0], 0)
        np.testing.assert_allclose(fused, expected.astype(np.float32), rtol=6e-4, atol=1e-5)
        np.testing.assert_allclose(Compose(apart)({'img': crop, 'ann_info': {}})['img'], fused, atol=1e-6)


@pytest.mark.parametrize('prefix, joints, visible', [('halfbody', 'joints', 'joints_visible'),
                                                      ('hbsyn', 'hbsyn_joints', 'hbsyn_visible')])
def test_half_body_equals_the_reference(data: dict[str, np.ndarray], prefix: str, joints: str, visible: str) -> None:
    for row, (points, shown) in enumerate(zip(data[joints], data[visible])):
        for choice, want_upper in enumerate((True, False)):
            window = half_body_box(points[:, :2], INFO.upper_body, (192, 256), want_upper, shown[:, 0])
            assert (window is not None) == data[f'{prefix}_valid'][row, choice]
            if window:
                np.testing.assert_allclose(window[0], data[f'{prefix}_center'][row, choice], rtol=1e-5)
                np.testing.assert_allclose(window[1], data[f'{prefix}_scale'][row, choice], rtol=1e-5)


@pytest.mark.parametrize('normal, choice', [(0.49, 0), (0.5, 1)])
def test_half_body_step_applies_to_those_who_qualify(data: dict[str, np.ndarray], normal: float, choice: int) -> None:
    step = Compose([dict(type='TopDownHalfBodyTransform', num_joints_half_body=8, prob_half_body=0.3)])
    for row, qualifies in enumerate(data['hbsyn_qualifies']):
        old = np.full(2, -1, np.float32)
        record = dict(joints_3d=data['hbsyn_joints'][row], joints_3d_visible=data['hbsyn_visible'][row], center=old,
                      scale=old, ann_info=ANN_INFO, rng=Dice(0.29, normal))
        changed = qualifies and data['hbsyn_valid'][row, choice]
        expected = data['hbsyn_center'][row, choice] if changed else old
        np.testing.assert_allclose(step(dict(record))['center'], expected, rtol=1e-5)
        assert step({**record, 'rng': Dice(0.3, normal)})['center'] is old


def test_detector_crops_equal_the_reference(goldens: Path, data: dict[str, np.ndarray]) -> None:
    pipeline = Compose([dict(type=step) for step in ('TopDownGetBboxCenterScale', 'TopDownAffine')])
    for row, expected in zip(data['det_crop_index'], data['det_crop_uint8']):
        image = read_image(str(goldens / f'coco_tiny/val2017/{data["det_image_id"][row]:012d}.jpg'))
        sample = pipeline(dict(img=image, bbox=data['det_bbox_xywh'][row], rotation=0.0, ann_info=ANN_INFO,
                               joints_3d=np.zeros((17, 3), np.float32), joints_3d_visible=np.ones((17, 3))))
        assert_same_crop(sample['img'], expected)


@pytest.mark.parametrize('normal, factor, angle', [(0.5, 1.125, 15), (9.0, 1.25, 60), (-9.0, 0.75, -60)])
def test_scale_and_rotation_are_cut(normal: float, factor: float, angle: float) -> None:
    step = Compose([dict(type='TopDownGetRandomScaleRotation', rot_factor=30, scale_factor=0.25, rot_prob=0.6)])
    sample = step(dict(scale=np.float32((2, 4)), rng=Dice(0.59, normal)))
    assert sample['scale'].tolist() == [2 * factor, 4 * factor] and sample['rotation'] == angle
    assert step(dict(scale=np.float32((2, 4)), rng=Dice(0.6, normal)))['rotation'] == 0


def test_fractional_visibility_is_a_weight_and_not_a_factor() -> None:
    """As in MMPose 0.29: mirrored keypoints are masked, half bodies count the sum, targets need more than a half."""
    joints = np.full((17, 3), (100, 80, 0), np.float32)
    visible = np.zeros((17, 3), np.float32)
    visible[[0, 5, 6], :2] = np.float32([[1], [0.6], [0.4]])
    record = dict(img=np.zeros((200, 300, 3), np.uint8), joints_3d=joints, joints_3d_visible=visible,
                  center=np.float32((150, 100)), scale=np.float32((0.9, 1.2)), rotation=0.0, ann_info=ANN_INFO,
                  rng=Dice())
    sample = Compose([dict(type='TopDownRandomFlip', flip_prob=1.0)])(dict(record))
    np.testing.assert_array_equal(sample['joints_3d'][[0, 5, 6, 7]], [[199, 80, 0]] * 3 + [[0, 0, 0]])
    np.testing.assert_allclose(sample['joints_3d_visible'][[0, 5, 6, 7], 0], [1, 0.4, 0.6, 0])
    sample = Compose([dict(type='TopDownAffine'), dict(type='TopDownGenerateTarget')])(sample)
    np.testing.assert_allclose(sample['target_weight'][[0, 5, 6, 7], 0], [1, 0.4, 0.6, 0])
    assert (sample['target'].max(axis=(1, 2)) > 0).nonzero()[0].tolist() == [0, 6]
    half = Compose([dict(type='TopDownHalfBodyTransform', num_joints_half_body=8, prob_half_body=1.0)])
    for weight, zooms in ((0.4, False), (0.9, True)):  # 17 keypoints that sum to 6.8 and 15.3
        spread = dict(record, joints_3d=np.random.default_rng(0).uniform(0, 90, (17, 3)),
                      joints_3d_visible=np.full((17, 3), weight))
        assert (half(spread)['center'] is not record['center']) == zooms


def test_nothing_is_mirrored_where_sides_are_unpaired() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    record = dict(img=image, ann_info={**ANN_INFO, 'flip_index': None}, rng=Dice())
    sample = Compose([dict(type='TopDownRandomFlip', flip_prob=1.0)])(dict(record))
    assert sample.keys() == record.keys() and sample['img'] is image


def test_an_error_of_opencv_names_the_file() -> None:
    step = Compose([dict(type='TopDownAffine')])
    with pytest.raises(InputError, match=r'a/b\.jpg: TopDownAffine fails.*; replace the file') as caught:
        step(dict(image_file='a/b.jpg', img=np.zeros((0, 0, 3), np.uint8), ann_info=ANN_INFO, rotation=0.0,
                  center=np.zeros(2), scale=np.ones(2)))
    assert '\n' not in str(caught.value)


def test_shift_moves_the_centre_by_a_part_of_the_window() -> None:
    step = Compose([dict(type='TopDownRandomShiftBboxCenter', shift_factor=0.1, prob=1.0)])
    record = dict(center=np.float32((50, 60)), scale=np.float32((1, 2)), rng=Dice(0.75))
    np.testing.assert_allclose(step(record)['center'], (60, 80))


def test_centre_and_scale_that_exist_are_only_padded() -> None:
    step = Compose([dict(type='TopDownGetBboxCenterScale', padding=1.25)])
    sample = step(dict(center=np.float32((50, 60)), scale=np.float32((1, 2)), ann_info=ANN_INFO))
    assert sample['center'].tolist() == [50, 60] and sample['scale'].tolist() == [1.25, 2.5]


def test_udp_crop_and_joints_agree() -> None:
    """A dot at each joint is found where the joint says, in the middle of the crop's pixel."""
    joints, visible = np.zeros((17, 3), np.float32), np.ones((17, 3), np.float32)
    joints[:, :2] = np.random.default_rng(0).integers(110, 190, (17, 2))
    record = dict(center=np.float32((150, 150)), scale=np.float32((0.75, 1.0)), rotation=20.0, joints_3d=joints,
                  joints_3d_visible=visible, ann_info=ANN_INFO)
    step = Compose([dict(type='TopDownAffine', use_udp=True)])
    ys, xs = np.indices((256, 192))
    for number, (x, y) in enumerate(joints[:, :2].astype(int).tolist()):
        sample = step({**record, 'img': cv2.circle(np.zeros((300, 300, 3), np.uint8), (x, y), 3, (255,) * 3, -1)})
        weight = sample['img'][..., 0] / sample['img'][..., 0].sum(dtype=float)
        found = (xs * weight).sum(), (ys * weight).sum()
        np.testing.assert_allclose(sample['joints_3d'][number, :2], found, atol=0.1)


def test_udp_target_is_centred_between_pixels() -> None:
    joints = np.zeros((17, 3), np.float32)
    joints[0, :2] = 191 / 47 * 10.5, 255 / 63 * 20.0
    step = Compose([dict(type='TopDownGenerateTarget', sigma=2, encoding='UDP')])
    target = step(dict(joints_3d=joints, joints_3d_visible=np.ones((17, 3)), ann_info=ANN_INFO))['target'][0]
    assert target[20, 10] == pytest.approx(target[20, 11], rel=1e-4) and target.max() < 1


@pytest.mark.parametrize('pipeline, words', [
    ([dict(type='TopDownAfine')], "'TopDownAfine' is unknown.*'TopDownAffine'"),
    ([dict(type='TopDownRandomFlip', flip_probability=0.5)], "'flip_probability'.*'flip_prob'"),
    ([dict(type='ToTensor', size=3)], 'valid: device'),
    ([dict(type='TopDownRandomFlip', flip_prob='often')], "flip_prob='often' is no float"),
    ([dict(type='TopDownRandomFlip', flip_prob=True)], 'flip_prob=True is no float'),
    ([dict(type='TopDownAffine', use_udp=1)], 'use_udp=1 is no bool'),
    ([dict(type='TopDownRandomFlip', flip_prob=-1)], 'flip_prob=-1 is no probability; give 0 to 1'),
    ([dict(type='TopDownGetRandomScaleRotation', rot_prob=7)], 'rot_prob=7 is no probability'),
    ([dict(type='NormalizeTensor', mean=MEAN, std=(0, 0, 0))], 'std .* is to divide by; give positive'),
    ([dict(type='NormalizeTensor', mean=MEAN)], "needs the argument 'std'"),
    ([dict(type='NormalizeTensor', mean=MEAN, std=(1, 1))], 'NormalizeTensor'),
    ([dict(type='TopDownGenerateTarget', encoding='Megvi')], "'Megvi' is unknown; use MSRA, UDP, Megvii"),
    ([dict(type='TopDownGenerateTarget', sigma=[3, 2])], 'the list sigma is for .* give the last, 2, alone'),
    ([dict(type='TopDownGenerateTarget', encoding='Megvii', kernel=[(15, 15), (9, 9)])], r'give the last, \(9, 9\)'),
    ([dict(type='TopDownGenerateTarget', kernel=(11, 10))], 'kernel .* odd'),
    ([dict(type='TopDownGenerateTarget', sigma=0)], 'sigma 0 is no size'),
    ([dict(type='TopDownGenerateTarget', target_type='Gauss')], "'Gauss' is unknown; use 'GaussianHeatmap'"),
    ([dict(type='TopDownGenerateTarget', encoding='UDP', target_type='CombinedTarget')], 'three maps for each'),
    ([dict(type='LoadImageFromFile', color_type='grey')], "'grey'"),
    ([dict(type='LoadImageFromFile', channel_order='gbr')], "'gbr' is unknown; use rgb or bgr"),
    ([dict(type='LoadImageFromFile', file_client_args=dict(backend='petrel'))], "'petrel'.*put the images on a disk"),
    ([dict(type='PhotometricDistortion', contrast_range=(1.5, 0.5))], 'contrast_range'),
    ([dict(type='Albumentation', transforms=[])], 'Albumentation is not taken: .* use PhotometricDistortion'),
    ([dict(type='TopDownGenerateTargetRegression')], 'is not taken.* use TopDownGenerateTarget'),
    ([dict(type='RenameKeys', key_pairs=[('a', 'b')])], 'rename in Collect'),
    (['ToTensor'], "'ToTensor' is no step"),
    ([dict(prob=1)], 'is no step'),
])
def test_wrong_pipelines_are_refused(pipeline: list, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Compose(pipeline)
    assert '\n' not in str(caught.value)


def test_collect_looks_into_ann_info_and_names_what_is_missing() -> None:
    step = dict(type='Collect', keys=['img'], meta_keys=['flip_pairs', 'image_id'])
    sample = Compose([step])(dict(img=1, image_id=7, target=2, ann_info=ANN_INFO))
    assert sample == {'img': 1, 'img_metas': {'flip_pairs': INFO.flip_pairs, 'image_id': 7}}
    with pytest.raises(InputError, match="'image_id'"):
        Compose([step])(dict(img=1, ann_info=ANN_INFO))


def test_collect_keeps_what_the_evaluation_reads() -> None:
    """MMPose's MPII pipelines leave bbox_score out."""
    step = dict(type='Collect', keys=['img'], meta_keys=['center', 'flip_pairs'])
    sample = Compose([step])(dict(img=1, center=2, scale=3, bbox_score=1.0, rotation=0.0, ann_info=ANN_INFO))
    assert sample['img_metas'] == dict(center=2, scale=3, bbox_score=1.0, flip_pairs=INFO.flip_pairs)


def test_collect_renames() -> None:
    step = dict(type='Collect', keys=[('img', 'image'), 'target'], meta_keys=[('image_id', 'number')], meta_name='meta')
    sample = Compose([step])(dict(img=1, target=2, image_id=7, ann_info={}))
    assert sample == dict(image=1, target=2, meta=dict(number=7), img_metas=dict(number=7))


@pytest.mark.parametrize('arguments, make', [
    (dict(unbiased_encoding=True, sigma=3), lambda *place: encode_unbiased(*place, 3)),
    (dict(encoding='Megvii', kernel=[9, 7]), lambda *place: encode_megvii(*place, (9, 7))),
    (dict(encoding='UDP', target_type='GaussianHeatMap', unbiased_encoding=True),
     lambda *place: encode(*place, udp=True)),
    (dict(target_type='CombinedTarget', valid_radius_factor=0.1), lambda *place: encode(*place))])
def test_targets_by_arguments(arguments: dict[str, Any], make: Callable) -> None:
    joints = np.random.default_rng(0).uniform((0, 0, 0), (192, 256, 0), (17, 3)).astype(np.float32)
    sample = Compose([dict(type='TopDownGenerateTarget', **arguments)])(
        dict(joints_3d=joints, joints_3d_visible=np.ones((17, 3)), ann_info=ANN_INFO))
    for found, expected in zip((sample['target'], sample['target_weight']), make(joints, np.ones((17, 1)), (192, 256),
                                                                                 (48, 64))):
        np.testing.assert_array_equal(found, expected)


def test_translation_is_a_shift_with_other_defaults() -> None:
    record = dict(center=np.float32((50, 60)), scale=np.float32((1, 2)), rng=Dice(0.75))
    moved = Compose([dict(type='TopDownRandomTranslation')])(record)['center']
    np.testing.assert_allclose(moved, (50 + 0.5 * 0.15 * 200, 60 + 0.5 * 0.15 * 400))


def test_channel_order_is_that_of_the_crop(goldens: Path, data: dict[str, np.ndarray]) -> None:
    crops = []
    for order in ('rgb', 'bgr'):
        steps = [dict(type='LoadImageFromFile', channel_order=order, file_client_args=dict(backend='disk')),
                 dict(type='TopDownGetBboxCenterScale'), dict(type='TopDownAffine')]
        crops.append(Compose(steps)(person(data, goldens, 1))['img'])
    assert_same_crop(crops[0], data['val_crop_uint8'][1])
    np.testing.assert_array_equal(crops[0][..., ::-1], crops[1])


def test_load_and_rest_are_the_two_halves(goldens: Path, data: dict[str, np.ndarray]) -> None:
    steps = ('LoadImageFromFile', 'TopDownGetBboxCenterScale', 'TopDownAffine')
    pipeline = Compose([dict(type=step) for step in steps])
    image = pipeline.load(person(data, goldens, 1))['img']
    for row in (1, 2):
        sample = pipeline.rest({**person(data, goldens, row), 'image_file': 'not read', 'img': image})
        assert_same_crop(sample['img'], data['val_crop_uint8'][row])


def test_exif_orientation_is_applied_unless_ignored(tmp_path: Path) -> None:
    # A little-endian TIFF directory of one entry: orientation (0x112), a short, 6 = turned clockwise.
    entry = b'\x12\x01\x03\0\x01\0\0\0\x06\0\0\0'
    path = tmp_path / 'turned.jpg'
    path.write_bytes(with_segment(jpeg(), b'Exif\0\0II*\0\x08\0\0\0\x01\0' + entry + b'\0\0\0\0'))
    load = Compose([dict(type='LoadImageFromFile')])
    plain = Compose([dict(type='LoadImageFromFile', color_type='color_ignore_orientation', to_float32=True)])
    straight = plain({'image_file': str(path)})['img']
    assert straight.shape == (40, 60, 3) and straight.dtype == np.float32
    np.testing.assert_array_equal(load({'image_file': str(path)})['img'], np.rot90(straight, -1))
