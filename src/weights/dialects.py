"""How the sources of weights spell the names of a Lite-HRNet's entries: a table of rules for each.

Rules are applied in turn; what they don't know stays as it is, and is found out where weights meet a network
(`src.weights.checkpoint.require_fit`). Names become the official ones; in `.ckpt` files BN's stay MindSpore's.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

Rules = tuple[tuple[str, str], ...]  # (regular expression, replacement)

BARE = (r'^(?=(stem|transition\d|stage\d|head_layer)\.)', 'backbone.')  # names of a backbone by itself

# `.pth` and `.pdparams`. DataParallel and mmengine's averages put `module.` before a name, MMPose 1.x has `head`.
# PaddleDetection (ppdet/modeling/backbones/lite_hrnet.py and architectures/keypoint_hrnet.py): a ConvNormLayer has
# `conv` and `norm`; Sequentials, lists and the parts of stem, blocks and head have the official names and numbers.
PYTORCH: Rules = ((r'^(module\.)+', ''), (r'^head\.', 'keypoint_head.'), BARE)
PADDLE: Rules = ((r'\.norm\.', '.bn.'), (r'\._mean$', '.running_mean'), (r'\._variance$', '.running_var'),
                 (r'^final_conv\.', 'keypoint_head.final_layer.'), BARE)

# The model zoo numbers transitions by stage and branch, as its attributes: transition12 is branch 2 of transition1.
ZOO: Rules = ((r'\.norm\.', '.bn.'), (r'^transition(\d)(\d)\.', r'transition\1.\2.'),
              (r'^final_layer\.conv\.', 'keypoint_head.final_layer.'), BARE)

# mindspore-courses puts convolutions, BNs and ReLUs of a layer into one sequence; ReLUs have a number and no entries.
FLAT = r'(stem\.\w+_conv|stem\.conv1|_weighting(\.\d+)?\.conv[12]|\.depthwise_convs\.\d+)'
COURSES: Rules = (
    (r'^(transition|stage)s\.(\d)\.', r'\1\2.'), (r'^heat_map\.', 'keypoint_head.'),
    *((rf'(\.projects\.\d+)\.{number}\.', rf'\1.{name}.') for number, name in enumerate((
        'depthwise_conv.conv', 'depthwise_conv.bn', 'pointwise_conv.conv', 'pointwise_conv.bn'))),
    *((rf'^(stem\.branch1)\.{number}\.(?=\w+$)', rf'\1.{name}.') for number, name in enumerate((
        '0.conv', '0.bn', '1.conv', '1.bn'))),
    *((rf'(\.branch2)\.{number}\.(?=\w+$)', rf'\1.{name}.') for number, name in (
        (0, '0.conv'), (1, '0.bn'), (3, '1.conv'), (4, '1.bn'), (5, '2.conv'), (6, '2.bn'))),
    (FLAT + r'\.0\.', r'\1.conv.'), (FLAT + r'\.1\.', r'\1.bn.'), BARE)


@dataclass(frozen=True)
class Dialect:
    """Names in the `.ckpt` files of one source."""

    # By which the source is recognised; in every network of it, and never trained, so optimizers have no state for it.
    anchor: str
    parts: str  # what names begin with, as a regular expression
    rules: Rules = ()  # from its names to the official ones


DIALECTS = (Dialect('backbone.stem.conv1.bn.moving_mean', 'backbone|keypoint_head'),
            Dialect('stem.conv1.norm.moving_mean', r'stem|transition\d\d|stage\d|head_layer|final_layer', ZOO),
            Dialect('stem.conv1.1.moving_mean', 'stem|transitions|stages|head_layer|heat_map', COURSES))


def rename(name: str, rules: Rules) -> str:
    """Return a name after all rules."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def recognise_dialect(names: Iterable[str]) -> tuple[Dialect, str]:
    """Return whose names these are, and what stands before each of the network's (`network.`); ours where unknown."""
    names = list(names)
    for dialect in DIALECTS:
        anchors = [name for name in names if f'.{name}'.endswith(f'.{dialect.anchor}')]
        if anchors:
            return dialect, min(anchors, key=len)[:-len(dialect.anchor)]
    return DIALECTS[0], ''
