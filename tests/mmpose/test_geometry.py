from pathlib import Path

import cv2
import numpy as np
import pytest

from src.mmpose import geometry
from src.mmpose.geometry import (
    affine_matrix,
    box_to_center_scale,
    clip_box,
    transform_points,
    udp_matrix,
    warp,
)

SIZE = (192, 256)


@pytest.mark.parametrize('kind', ['val', 'aug'])
def test_affine_matrix_equals_the_reference(goldens: Path, kind: str) -> None:
    data = np.load(goldens / 'data_pipeline.npz')
    angles = data['aug_rotation'] if kind == 'aug' else np.zeros(6)
    for center, scale, angle, expected in zip(data[f'{kind}_center'], data[f'{kind}_scale'], angles,
                                              data[f'{kind}_matrix']):
        np.testing.assert_allclose(affine_matrix(center, scale, angle, SIZE), expected, rtol=1e-12, atol=1e-12)


def test_box_to_center_scale_equals_the_reference(goldens: Path) -> None:
    data = np.load(goldens / 'data_pipeline.npz')
    for boxes, name in (('clean_bbox_xywh', 'val'), ('det_bbox_xywh', 'det')):
        for box, center, scale in zip(data[boxes], data[f'{name}_center'], data[f'{name}_scale']):
            got = box_to_center_scale(box, SIZE)
            np.testing.assert_array_equal(got, (center, scale))
            assert got[0].dtype == got[1].dtype == np.float32


def test_positive_angle_turns_the_window_clockwise() -> None:
    matrix = affine_matrix((100, 100), (1, 1), 90, (200, 200))
    np.testing.assert_allclose(transform_points(np.array([[150.0, 100.0], [100.0, 100.0]]), matrix),
                               [[100, 50], [100, 100]], atol=1e-4)


@pytest.mark.parametrize('angle', [0, 25, -170])
def test_udp_matrix_keeps_the_centre_and_maps_pixel_centres(angle: float) -> None:
    center, scale = np.array((80.0, 60.0)), np.array((0.75, 1.0))
    matrix = udp_matrix(center, scale, angle, SIZE)
    np.testing.assert_allclose(transform_points(center[None], matrix), [[95.5, 127.5]], atol=1e-9)
    # Half the window's width, measured along the turned axis, ends on the centre of the crop's last column.
    turn = np.deg2rad(angle)
    edge = center + 75 * np.array((np.cos(turn), -np.sin(turn)))
    np.testing.assert_allclose(transform_points(edge[None], matrix), [[191, 127.5]], atol=1e-9)


def test_clip_box() -> None:
    assert clip_box((10, 20, 30, 40), 100, 100) == (10, 20, 30, 40)
    assert clip_box((-5, 20, 30, 90), 100, 100) == (0, 20, 30, 79)  # moved on the left, cut at the bottom
    for box in ((10, 20, 0, 40), (10, 20, -3, 40), (99, 20, 30, 40), (200, 20, 30, 40)):
        assert clip_box(box, 100, 100) is None


def test_warp_of_a_cut_out_part_is_that_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    image, same = rng.integers(0, 256, (150, 220, 3), np.uint8), []
    monkeypatch.setattr(geometry, 'MAX_SIDE', 219)
    for _ in range(100):
        matrix = affine_matrix(rng.uniform(-60, 260, 2), (rng.uniform(0.1, 0.5),) * 2, rng.uniform(-180, 180), SIZE)
        direct = cv2.warpAffine(image, matrix, SIZE, flags=cv2.INTER_LINEAR)
        same.append(warp(image, matrix, SIZE) == direct)
    assert np.mean(same) > 0.9999  # a place may be rounded to another 32nd of a pixel


@pytest.mark.parametrize('turn', [False, True])
def test_images_that_opencv_refuses_are_warped(turn: bool) -> None:
    """A panorama of 33,000 columns (or rows): windows of it, all of it, and one outside of it."""
    image = np.tile(np.arange(33000) // 130, (300, 1)).astype(np.uint8)
    image = np.repeat((image.T if turn else image)[..., None], 3, 2)
    for middle, extent in ((32050, 192), (900, 60), (16500, 41250), (-500, 192)):
        center = (150, middle) if turn else (middle, 150)
        matrix = affine_matrix(center, (extent / 200,) * 2, 0, (192, 192))
        crop = warp(image, matrix, (192, 192))[..., 0]
        line = crop[:, 96] if turn else crop[96]
        place = middle + (np.arange(192) - 96) * extent / 192
        expected = np.where((place > -1) & (place < 33000), place // 130, 0)
        assert np.abs(line.astype(int) - expected).max() <= 1
