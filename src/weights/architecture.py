"""Which Lite-HRNet weights belong to, from their names and shapes."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.common.errors import InputError

HEAD = ('keypoint_head.final_layer.weight', 'keypoint_head.final_layer.bias')
PUBLISHED = {('LITE', (40, 80, 160, 320)): 'litehrnet', ('NAIVE', (30, 60, 120, 240)): 'naive_litehrnet',
             ('NAIVE', (40, 80, 160, 320)): 'wider_naive_litehrnet'}
DEPTHS = {(2, 4, 2): 18, (3, 8, 3): 30}


@dataclass(frozen=True)
class Architecture:
    """What distinguishes one Lite-HRNet from another; the fields are arguments of `src.model.LiteHRNet`."""

    stage_modules: tuple[int, ...]
    stage_channels: tuple[int, ...]
    module: str
    num_joints: int

    @property
    def name(self) -> str:
        """Return 'litehrnet_18' and its like where published, else a description."""
        family = PUBLISHED.get((self.module, self.stage_channels))
        if family and self.stage_modules in DEPTHS:
            return f'{family}_{DEPTHS[self.stage_modules]}'
        return (f'{self.module.lower()} Lite-HRNet with {"-".join(map(str, self.stage_modules))} modules of '
                f'{"-".join(map(str, self.stage_channels))} channels')


def abbreviate(names: Iterable[str], count: int = 4) -> str:
    """Return the first of the sorted names and how many more there are."""
    names = sorted(names)
    return ', '.join(names[:count]) + (f' and {len(names) - count} more' if len(names) > count else '')


def recognise(values: Mapping[str, Any], path: Path | str) -> Architecture:
    """Return the architecture that weights belong to.

    Args:
        values: what has a shape, by name; BN's in MindSpore's words or PyTorch's.

    Raises:
        InputError: they are not of a Lite-HRNet with its head.
    """
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    votes: dict[int, Counter] = {}  # of all entries of a head layer: a single misshapen one must not decide
    modules: dict[int, int] = {}
    for name, shape in shapes.items():
        project = re.match(r'backbone\.head_layer\.projects\.(\d+)\.depthwise_conv\.', name)
        if project and shape:
            votes.setdefault(int(project[1]), Counter())[shape[0]] += 1
        stage = re.match(r'backbone\.stage(\d+)\.(\d+)\.', name)
        if stage:
            modules[int(stage[1])] = max(modules.get(int(stage[1]), 0), int(stage[2]) + 1)
    lite = any('.cross_resolution_weighting.' in name for name in shapes)
    naive = any(re.match(r'backbone\.stage\d+\.\d+\.layers\.\d+\.\d+\.branch2\.', name) for name in shapes)
    if lite == naive or sorted(votes) != list(range(len(modules) + 1)) or sorted(modules) != list(range(len(modules))):
        raise InputError(f'{path}: no Lite-HRNet: its stages and head are not among the '
                         f'{len(shapes)} entries ({abbreviate(shapes) or "none"}); give a Lite-HRNet checkpoint')
    absent = set(HEAD) - set(shapes)
    if absent:
        raise InputError(f'{path}: missing {abbreviate(absent)} (a backbone without head?); give a whole network')
    widths = tuple(votes[p].most_common(1)[0][0] for p in sorted(votes, reverse=True))  # projects go from low to high
    return Architecture(tuple(modules[s] for s in sorted(modules)), widths, 'LITE' if lite else 'NAIVE',
                        next(iter(shapes[HEAD[0]]), 0))
