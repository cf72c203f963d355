"""The learning rate of single steps, worked out by hand."""
from __future__ import annotations

import numpy as np
import pytest

from src.lr_scheduler import learning_rates

SEED = dict(lr_steps=(170, 200), lr_gamma=0.1, warmup_steps=500, warmup_ratio=0.001)


@pytest.mark.parametrize(('step', 'rate'), [
    (0, 8e-4 * 0.001), (1, 8e-4 * (0.001 + 0.999 / 500)), (250, 8e-4 * 0.5005), (499, 8e-4 * (0.001 + 0.999 * 0.998)),
    (500, 8e-4), (170 * 20 - 1, 8e-4), (170 * 20, 8e-5), (200 * 20 - 1, 8e-5), (200 * 20, 8e-6), (210 * 20 - 1, 8e-6)])
def test_the_seeds_schedule(step: int, rate: float) -> None:
    rates = learning_rates(8e-4, 210, 20, **SEED)
    assert rates.dtype == np.float32 and rates.shape == (4200,)
    assert rates[step] == pytest.approx(rate, rel=1e-6)


def test_warmup_rises_evenly_and_never_jumps() -> None:
    rates = learning_rates(1.0, 210, 20, **SEED).astype(np.float64)
    np.testing.assert_allclose(np.diff(rates[:501]), 0.999 / 500, rtol=1e-3)


def test_no_warmup() -> None:
    rates = learning_rates(0.5, 4, 3, lr_steps=(2,), lr_gamma=0.1, warmup_steps=0, warmup_ratio=0.001)
    np.testing.assert_allclose(rates, [0.5] * 6 + [0.05] * 6)


def test_warmup_longer_than_the_first_drop() -> None:
    rates = learning_rates(1.0, 4, 2, lr_steps=(1,), lr_gamma=0.1, warmup_steps=4, warmup_ratio=0.0)
    np.testing.assert_allclose(rates, [0, 0.25, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1])


def test_epochs_of_drops_may_be_fractions_and_unordered() -> None:
    rates = learning_rates(1.0, 4, 4, lr_steps=(3, 1.5), lr_gamma=0.5, warmup_steps=0, warmup_ratio=0)
    np.testing.assert_allclose(rates, [1] * 6 + [0.5] * 6 + [0.25] * 4)


def test_a_drop_between_two_steps_comes_at_the_next() -> None:
    rates = learning_rates(1.0, 2, 3, lr_steps=(0.5,), lr_gamma=0.1, warmup_steps=0, warmup_ratio=0)
    np.testing.assert_allclose(rates, [1, 1, 0.1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize('start', [1, 170, 209])
def test_a_later_start_goes_on_where_the_whole_schedule_is(start: int) -> None:
    whole = learning_rates(8e-4, 210, 20, **SEED)
    np.testing.assert_array_equal(learning_rates(8e-4, 210, 20, start_epoch=start, **SEED), whole[start * 20:])


@pytest.mark.parametrize(('step', 'rate'), [(0, 0.4 * 0.1), (5, 0.4 * 0.55 * 0.96193977),
                                            (10, 0.4 * 0.85355339), (20, 0.2), (30, 0.4 * 0.14644661)])
def test_cosine_with_the_same_warmup(step: int, rate: float) -> None:
    rates = learning_rates(0.4, 8, 5, schedule='cosine', warmup_steps=10, warmup_ratio=0.1, lr_steps=(2,), lr_gamma=0.1)
    assert rates.shape == (40,) and rates[step] == pytest.approx(rate, rel=1e-6)
    assert (np.diff(rates[10:]) < 0).all() and 0 < rates[-1] < 0.001


def test_cosine_goes_on_where_the_whole_schedule_is() -> None:
    whole = learning_rates(1.0, 6, 7, schedule='cosine', warmup_steps=3)
    later = learning_rates(1.0, 6, 7, schedule='cosine', warmup_steps=3, start_epoch=4)
    np.testing.assert_array_equal(later, whole[28:])
