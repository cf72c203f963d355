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
from src.weights.dialects import recognise_dialect, rename

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
    """Return the entries that are a network's weights, and all that can't be explained, under our network's names.

    Names may be those of other ports (`src.weights.dialects`). ModelCheckpoint saves the whole training step: weights
    under the names they have inside it (`network.backbone...`), the optimizer's state for each of them
    (`moment1.network.backbone...`), learning rates, and counters and scales, which are single numbers. What is left
    out is logged.

    Raises:
        InputError: a weight is there twice, as with and without the prefix of the others.
    """
    dialect, prefix = recognise_dialect(entries)
    pattern = re.compile(rf'(?P<copy>(.*?\.)??)(?P<prefix>{re.escape(prefix)})?(?P<own>({dialect.parts})\..*)')
    weights, origins, omissions = {}, {}, Counter()
    for name, value in entries.items():
        match = pattern.fullmatch(name)
        if match and match['copy'] and prefix + match['own'] in entries:
            omissions[f'{match["copy"]}*'] += 1
        elif not match and (value.size == 1 or name.rpartition('.')[2].startswith('learning_rate')):
            omissions[name] += 1
        else:
            ours = match and not match['copy'] and match['prefix'] is not None
            found = rename(match['own'], dialect.rules) if ours else name
            if found in weights:
                raise InputError(f'{path}: duplicate entry {found} (as {origins[found]} and as {name}); remove one')
            weights[found], origins[found] = value, name
    if omissions:
        summary = ', '.join(name if count == 1 else f'{name} ({count})' for name, count in omissions.items())
        logger.warning('%s: only the weights%s are read; ignored: %s', path, f' ({prefix}*)' if prefix else '', summary)
    return weights
