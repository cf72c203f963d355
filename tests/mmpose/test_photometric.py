"""Changes of colours by formula, and in the order of channels that the reference has."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.common.errors import InputError
from src.mmpose.photometric import PhotometricDistortion, distort
from src.mmpose.pipeline import Compose

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
ANN_INFO = dict(image_size=np.array((12, 16)))
CROP = dict(center=np.float32((6, 8)), scale=np.float32((0.06, 0.08)), rotation=0.0, ann_info=ANN_INFO,
            joints_3d=np.zeros((1, 3), np.float32), joints_3d_visible=np.ones((1, 3), np.float32))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(-300, 300), st.floats(0, 3), st.booleans())
def test_brightness_comes_before_contrast(brightness: float, contrast: float, last: bool) -> None:
    found = distort(IMAGE, brightness=brightness, contrast=contrast, contrast_last=last)
    bright = np.clip(IMAGE.astype(np.float32) + brightness, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(found, np.clip(bright.astype(np.float32) * contrast, 0, 255).astype(np.uint8))


@pytest.mark.parametrize('reverse', [False, True])
def test_hue_turns_red_to_green_and_to_blue(reverse: bool) -> None:
    """Of the order that the reference takes its channels to be in: blue, green, red."""
    blue, green, red = np.eye(3, dtype=np.uint8)[::-1 if reverse else 1].reshape(3, 1, 1, 3) * np.uint8(255)
    np.testing.assert_array_equal(distort(red, hue=60, reverse=reverse), green)
    np.testing.assert_array_equal(distort(red, hue=-60, reverse=reverse), blue)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(0, 1))
def test_saturation_moves_towards_the_brightest_channel(saturation: float) -> None:
    found = distort(IMAGE, saturation=saturation).astype(float)
    brightest = IMAGE.max(axis=2, keepdims=True).astype(float)
    # 8 bits: hue and saturation are rounded, the saturation again downwards.
    np.testing.assert_allclose(found, brightest - saturation * (brightest - IMAGE), atol=6)


def test_contrast_may_come_last() -> None:
    image = np.full((1, 1, 3), (40, 80, 120), np.uint8)
    found = distort(image, contrast=2.5, saturation=0.5)
    np.testing.assert_allclose(found[0, 0], (177.5, 227.5, 255), atol=1)  # of (100, 200, 255)
    found = distort(image, contrast=2.5, saturation=0.5, contrast_last=True)
    np.testing.assert_allclose(found[0, 0], (200, 250, 255), atol=3)


def test_draws_have_the_documented_shares() -> None:
    step, rng = PhotometricDistortion(), np.random.default_rng(0)
    before, grey = IMAGE.copy(), np.full((1, 1, 3), 100, np.uint8)
    greys = np.array([step(dict(img=grey, rng=rng))['img'][0, 0] for _ in range(2000)]).astype(int)
    assert (greys == 100).all(axis=1).mean() == pytest.approx(0.25, abs=0.04)  # neither brighter nor with more contrast
    colours = [step(dict(img=IMAGE, rng=rng))['img'] for _ in range(2000)]
    same = np.mean([np.array_equal(colour, IMAGE) for colour in colours])
    assert same == pytest.approx(0.25 * 0.25, abs=0.02)
    np.testing.assert_array_equal(IMAGE, before)
    assert greys.min() >= (100 - 32) * 0.5 - 1 and greys.max() <= (100 + 32) * 1.5


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
@pytest.mark.parametrize('before', [False, True])
def test_place_in_the_pipeline_tells_the_channels(order: str, before: bool) -> None:
    """An image of one colour: before or after the crop, in either order, the result is the reference's."""
    place, colour, step = [dict(type='TopDownAffine')], dict(type='PhotometricDistortion'), PhotometricDistortion()
    steps = Compose([dict(type='LoadImageFromFile', channel_order=order),
                     *([colour, *place] if before else [*place, colour])])
    bgr = np.full((16, 12, 3), (30, 90, 200), np.uint8)
    seen = bgr if order == 'bgr' else bgr[..., ::-1]  # as the reference's loading step gives it
    for seed in range(20):
        expected = step(dict(img=np.ascontiguousarray(seen), rng=np.random.default_rng(seed)))['img'][8, 6]
        found = steps.rest({**CROP, 'img': bgr, 'rng': np.random.default_rng(seed)})['img'][8, 6]
        np.testing.assert_array_equal(found, expected)


def test_floats_are_refused() -> None:
    with pytest.raises(InputError, match="leave out LoadImageFromFile's to_float32"):
        PhotometricDistortion()(dict(img=IMAGE.astype(np.float32), rng=np.random.default_rng(0)))
