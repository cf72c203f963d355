"""The totals of the six COCO networks, as the reference's own tools count them."""
from __future__ import annotations

from dataclasses import astuple

import pytest

from src.config import load_model_config
from src.deployment.complexity import Counts, analyze
from src.settings.build import build_network

# parameters, multiply-adds with each module once, multiply-adds executed by the official code, torchstat's total
TOTALS = {
    'litehrnet_18_coco_256x192': (1_130_769, 198_626_688, 242_345_088, 215_202_112),
    'litehrnet_18_coco_384x288': (1_130_769, 446_778_048, 545_144_448, 483_984_112),
    'litehrnet_30_coco_256x192': (1_763_717, 309_451_488, 386_103_648, 334_703_864),
    'litehrnet_30_coco_384x288': (1_763_717, 696_046_848, 868_514_208, 752_709_824),
    'naive_litehrnet_18_coco_256x192': (760_365, 185_517_888, 211_049_088, 204_217_152),
    'wider_naive_litehrnet_18_coco_256x192': (1_318_625, 302_331_648, 346_050_048, 326_163_072),
}
QUICK = ('litehrnet_18_coco_256x192', 'naive_litehrnet_18_coco_256x192')  # building the others takes seconds each


def counts(name: str, **model: object) -> dict[str, Counts]:
    config = load_model_config(name)
    config['model'].update(model)
    return analyze(build_network(config), config['data']['image_size'])


@pytest.mark.parametrize('name', [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                  for name in TOTALS])
def test_totals_are_the_references(name: str) -> None:
    rows = counts(name)
    assert astuple(rows['total'])[:4] == TOTALS[name]
    assert astuple(rows.pop('total')) == tuple(map(sum, zip(*map(astuple, rows.values()))))


def test_every_parameter_and_every_output_element_is_met() -> None:
    small = dict(stage_modules=(1, 1), stage_channels=(8, 16, 32))
    config = load_model_config('litehrnet_18_coco_256x192')
    config['model'].update(small)
    assert counts('litehrnet_18_coco_256x192', **small)['total'].parameters == sum(
        p.size for p in build_network(config).trainable_params())
    stem = counts('litehrnet_18_coco_256x192', **small)['stem']
    # Of 256x192: two convolutions of 32 channels give half of each side, the others a quarter.
    assert stem.activations == 2 * 32 * 128 * 96 + (16 + 16 + 32 + 16) * 64 * 48
