"""Training states in files: all that an exact continuation needs, checksummed.

A state is every Parameter of the training step (network, optimizer, its step counter) and how far the training was.
The file holds one line with format and SHA-256 of the rest, one line of JSON, and an `.npz` archive that is read
without pickle.
"""
from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from src.common.errors import InputError
from src.common.files import atomic_path
from src.settings.table import RESUME_MAY_CHANGE

MAGIC = 'litehrnet-training-state-1'
SECTIONS = ('model', 'data', 'train_pipeline', 'train')


@dataclass(frozen=True)
class TrainingState:
    """A training after one of its steps."""

    start_time: float  # when the training began, seconds since 1970; the same for all its states
    step: int  # steps done, those skipped for bad gradients included
    settings: dict[str, Any]  # as from `settings_affecting_results`
    arrays: dict[str, np.ndarray]  # every Parameter by name


def settings_affecting_results(experiment: Mapping[str, Any], config: Mapping[str, Any], samples: int,
                               ranks: int) -> dict[str, Any]:
    """Return all that the numbers of a training follow from, as JSON gives it back."""
    found = {key: value for key, value in experiment.items() if key not in RESUME_MAY_CHANGE}
    for section in SECTIONS:
        entries = config[section].items() if isinstance(config[section], dict) else [(None, config[section])]
        found.update({f'{section}.{key}' if key else section: value for key, value in entries})
    counts = {'train.epochs'} if config['train']['schedule'] == 'cosine' else set()
    found = {key: value for key, value in found.items() if key not in RESUME_MAY_CHANGE or key in counts}
    return json.loads(json.dumps({**found, 'number of training samples': samples, 'number of devices': ranks}))


def require_same_settings(saved: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Refuse to continue with other settings.

    Raises:
        InputError: names the first key that differs, with both values.
    """
    for key in sorted(saved.keys() | now.keys()):
        if saved.get(key) != now.get(key):
            raise InputError(f'{path}: {key} was {saved.get(key)!r} and is now {now.get(key)!r}; to resume, set it '
                             'back, or start a new run from the weights with --checkpoint_path')


def _saved_parameters(step: nn.Cell) -> dict[str, ms.Parameter]:
    # Learning rates come from the settings: more epochs make the list longer. Good statistics are the network's.
    return {p.name: p for p in step.get_parameters() if not p.name.startswith(('learning_rate', 'good_statistics'))}


def state_of(step: nn.Cell) -> dict[str, np.ndarray]:
    """Return copies of the arrays of a `TrainingState`."""
    return {name: p.asnumpy().copy() for name, p in _saved_parameters(step).items()}


def fill_step(step: nn.Cell, state: TrainingState, path: Path) -> None:
    """Put a state's arrays into the Parameters of the training step, all or none.

    Raises:
        InputError: names or shapes are not those of this step.
    """
    parameters = _saved_parameters(step)
    misfits = parameters.keys() ^ state.arrays.keys() or {
        name for name, p in parameters.items() if tuple(p.shape) != state.arrays[name].shape}
    if misfits:
        raise InputError(f'{path}: {len(misfits)} entries do not fit this training ({sorted(misfits)[0]}); written '
                         'with another version or optimizer; start a new run from the weights with --checkpoint_path')
    for name, parameter in parameters.items():
        parameter.set_data(ms.Tensor(state.arrays[name], parameter.dtype))


def write_state(state: TrainingState, path: Path) -> None:
    """Write a state to `path`, whole or not at all.

    Raises:
        OSError: the disk is full.
        InputError: the folder can't be written to.
    """
    archive = io.BytesIO()
    np.savez(archive, **state.arrays)
    head = json.dumps({'begun': state.start_time, 'done': state.step, 'settings': state.settings})
    rest = head.encode() + b'\n' + archive.getvalue()
    with atomic_path(path) as temporary:
        temporary.write_bytes(f'{MAGIC} {hashlib.sha256(rest).hexdigest()}\n'.encode() + rest)


def read_state(path: Path) -> TrainingState:
    """Return the state that `write_state` wrote.

    Raises:
        InputError: the file is absent, of another kind, truncated or altered.
    """
    try:
        first, _, rest = path.read_bytes().partition(b'\n')
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from error
    magic, _, digest = first.partition(b' ')
    if magic != MAGIC.encode():
        raise InputError(f'{path}: not a training state of this version, or damaged; delete it')
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        raise InputError(f'{path}: damaged (its checksum differs); delete it')
    try:
        head, _, archive = rest.partition(b'\n')
        fields = json.loads(head)
        with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
            return TrainingState(float(fields['begun']), int(fields['done']), dict(fields['settings']), dict(arrays))
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f'{path}: not a training state of this version, or damaged; delete it') from error
