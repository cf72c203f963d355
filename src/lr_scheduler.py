"""The learning rate of every step: linear warm-up, then drops at given epochs or half a cosine wave."""
from __future__ import annotations

import numpy as np

SCHEDULES = ('step', 'cosine')


def learning_rates(base: float, epochs: int, steps_per_epoch: int, *, schedule: str = 'step',
                   lr_steps: tuple[float, ...] = (), lr_gamma: float = 0.1, warmup_steps: int = 0,
                   warmup_ratio: float = 0.001, start_epoch: int = 0) -> np.ndarray:
    """Return the learning rates of all steps from `start_epoch` to the end, float32 (steps,).

    MMPose's policies with linear warm-up: step i < warmup_steps runs at (ratio + (1 - ratio) * i / warmup_steps) of
    what the schedule says.

    Args:
        base: learning rate after warm-up, already multiplied by the number of devices.
        epochs: of the whole training, those before `start_epoch` included.
        steps_per_epoch: steps per epoch.
        schedule: 'step' (drops at `lr_steps`), or 'cosine': base * (1 + cos(pi * i / all steps)) / 2 at step i.
        lr_steps: epochs (fractions allowed) at which the rate is multiplied by `lr_gamma`.
        lr_gamma: factor of each drop.
        warmup_steps: length of the warm-up, from step 0 of epoch 0.
        warmup_ratio: share of the rate at step 0.
        start_epoch: epochs omitted at the beginning.
    """
    step = np.arange(epochs * steps_per_epoch)
    if schedule == 'cosine':
        rate = base * (1 + np.cos(np.pi * step / len(step))) / 2
    else:
        drops = np.searchsorted(np.sort([s * steps_per_epoch for s in lr_steps]), step, side='right')
        rate = base * lr_gamma ** drops
    if warmup_steps:
        rate = rate * np.minimum(1, warmup_ratio + (1 - warmup_ratio) * step / warmup_steps)
    return rate[start_epoch * steps_per_epoch:].astype(np.float32)
