from pathlib import Path

import numpy as np
import pytest

from src.mmpose.geometry import affine_matrix, box_to_center_scale, clip_box, transform_points, udp_matrix

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


