"""Poses have the bones of a body, and left stands where a viewer sees it."""
from __future__ import annotations

import numpy as np

from configs.coco_base import dataset_info
from src.synthetic.figure import KEYPOINTS, dress, random_pose


def _poses(count: int) -> list[dict[str, np.ndarray]]:
    return [random_pose(np.random.default_rng(seed)) for seed in range(count)]


def test_keypoints_are_those_of_coco() -> None:
    assert tuple(dataset_info['joint_names']) == KEYPOINTS


def test_bones_keep_their_length_in_every_pose() -> None:
    for pose in _poses(50):
        lengths = {part: [np.linalg.norm(pose[f'{side}_{part}'] - pose[f'{side}_{end}']) for side in ('left', 'right')]
                   for part, end in (('hip', 'knee'), ('knee', 'ankle'), ('shoulder', 'elbow'), ('elbow', 'wrist'))}
        for part, (left, right) in lengths.items():
            assert 0.13 < left < 0.27, part
            np.testing.assert_allclose(left, right, rtol=1e-9)


def test_knees_and_elbows_do_not_bend_backwards_through_the_limb() -> None:
    for pose in _poses(50):
        for side in ('left', 'right'):
            for first, middle, last, most in (('hip', 'knee', 'ankle', 112), ('shoulder', 'elbow', 'wrist', 122)):
                inner = pose[f'{side}_{middle}'] - pose[f'{side}_{first}']
                outer = pose[f'{side}_{last}'] - pose[f'{side}_{middle}']
                cosine = inner @ outer / np.linalg.norm(inner) / np.linalg.norm(outer)
                assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) < most


def test_figures_that_face_the_viewer_have_their_left_on_the_right() -> None:
    facing = [pose for pose in _poses(200) if pose['nose'][2] - pose['skull'][2] > 0.06]
    assert len(facing) > 100
    assert np.mean([pose['left_shoulder'][0] > pose['right_shoulder'][0] for pose in facing]) > 0.97
    assert all(pose['left_eye'][0] > pose['right_eye'][0] for pose in facing)


def test_shapes_come_from_back_to_front_in_colours_of_an_image() -> None:
    for seed, pose in enumerate(_poses(20)):
        shapes = dress(np.random.default_rng(seed), pose)
        assert np.all(np.diff([shape.depth for shape in shapes]) >= 0)
        assert all(shape.outline.shape[1] == 2 and np.isfinite(shape.outline).all() for shape in shapes)
        assert all(shape.colour.min() >= 0 and shape.colour.max() <= 255 for shape in shapes)
