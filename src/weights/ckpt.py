"""The weights in MindSpore checkpoints, which may hold much else."""
from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from src.common.errors import InputError
from src.common.files import check_digest

ANCHOR = 'backbone.stem.conv1.bn.moving_mean'  # of every Lite-HRNet; optimizers have no state for what isn't trained

logger = logging.getLogger(__name__)


def read_ckpt(path: Path) -> dict[str, np.ndarray]:
    """Return the weights of a MindSpore checkpoint (see `weights_among`) as arrays by name.

    Raises:
        InputError: the file is absent or damaged.
    """
    if not path.is_file():
        raise InputError(f'{path}: no such file; check the path')
    check_digest(path)
    import mindspore as ms
    try:
        entries = {name: value.asnumpy() for name, value in ms.load_checkpoint(str(path)).items()}
    except Exception as error:  # its kind differs between releases of MindSpore
        raise InputError(f'{path}: not a whole MindSpore checkpoint; make or fetch it again') from error
    return weights_among(entries, path)


def weights_among(entries: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Return the entries that are a network's weights, and all that can't be explained, under the network's names.

    ModelCheckpoint saves the whole training step: weights under the names they have inside it (`network.backbone...`),
    the optimizer's state for each of them (`moment1.network.backbone...`), learning rates, and counters and scales,
    which are single numbers. What is left out is logged.

    Args:
        entries: what the file holds.
        path: the file, for messages.

    Raises:
        InputError: a weight is there both with and without the prefix of the others.
    """
    anchors = [name for name in entries if f'.{name}'.endswith(f'.{ANCHOR}')]
    prefix = min(anchors, key=len)[:-len(ANCHOR)] if anchors else ''
    pattern = re.compile(rf'(?P<copy>(.*?\.)?){re.escape(prefix)}(?P<own>(backbone|keypoint_head)\..*)')
    weights, others, omissions = {}, {}, Counter()
    for name, value in entries.items():
        match = pattern.fullmatch(name)
        if match and not match['copy']:
            weights[match['own']] = value
        elif match and prefix + match['own'] in entries:
            omissions[f'{match["copy"]}*'] += 1
        elif not match and (value.size == 1 or name.rpartition('.')[2].startswith('learning_rate')):
            omissions[name] += 1
        else:
            others[name] = value
    for name in weights.keys() & others.keys():
        raise InputError(f'{path}: duplicate entry {name} (also as {prefix}{name}); remove one')
    if omissions:
        summary = ', '.join(name if count == 1 else f'{name} ({count})' for name, count in omissions.items())
        logger.warning('%s: only the weights%s are read; ignored: %s', path, f' ({prefix}*)' if prefix else '', summary)
    return {**weights, **others}
