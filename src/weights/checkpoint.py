"""Weights between files and networks: MindSpore's `.ckpt`, PyTorch's `.pth` and PaddlePaddle's `.pdparams`.

A network's parameters have the official names, except BN's (`BN_NAMES`); PyTorch's counter `num_batches_tracked` has no
counterpart. Every entry of a file must find its parameter and the reverse. Names and shapes are handled with numpy;
MindSpore is imported where a network is filled or saved.
"""
from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.common.errors import InputError
from src.common.files import atomic_path, drop_digest, write_digest
from src.weights.architecture import HEAD, abbreviate, recognise
from src.weights.ckpt import read_ckpt
from src.weights.dialects import PADDLE, PYTORCH, rename
from src.weights.pdparams import read_pdparams
from src.weights.pth import read_pth

if TYPE_CHECKING:
    from mindspore import nn

BN_NAMES = {'weight': 'gamma', 'bias': 'beta', 'running_mean': 'moving_mean', 'running_var': 'moving_variance'}
TORCH_NAMES = {ours: theirs for theirs, ours in BN_NAMES.items()}
COUNTER = 'num_batches_tracked'
WRAPPERS = ('state_dict', 'model_state_dict', 'model_state', 'model')
EMA_WRAPPERS = ('ema_state_dict', 'state_dict_ema', 'model_ema')
TORCH_SUFFIXES = ('.pth', '.pt')
CHECKPOINT_SUFFIXES = ('.ckpt', *TORCH_SUFFIXES, '.pdparams')

logger = logging.getLogger(__name__)


def listed(suffixes: Sequence[str]) -> str:
    """Return '.a, .b or .c'."""
    return f'{", ".join(suffixes[:-1])} or {suffixes[-1]}'


def _official(entries: Mapping[str, object]) -> dict[str, object]:
    named: dict[str, object] = {}
    for name, value in entries.items():
        official = rename(str(name), PYTORCH + PADDLE)
        if official.startswith('data_preprocessor.') or official == 'steps':  # MMPose 1.x, mmengine's EMA counter
            continue
        if official in named:
            raise InputError(f'duplicate entry {official} (also as {name}); remove one')
        named[official] = value
    return named


def official_state(raw: Mapping[str, object], ema: bool = False) -> dict[str, np.ndarray]:
    """Return the weights in a PyTorch or PaddlePaddle checkpoint under their official names.

    Understands MMPose 0.x and 1.x and PaddleDetection names, wrappers and `module.` prefixes. Moving averages (EMA) are
    separate entries: `ema_state_dict` (mmengine), `state_dict_ema` (timm), or `ema_` + name with `_` for `.` among the
    weights (mmcv 0.x, parameters only: BN statistics are shared). Beware: mmengine, and mmcv where its hook runs before
    the checkpoint's, swap the two when saving, so there the plain entries are the averages.

    Args:
        raw: what `read_pth` or `read_pdparams` gives.
        ema: take the entries stored under EMA names.

    Raises:
        InputError: an entry is no tensor or a duplicate, or EMA is asked for and absent.
    """
    wrapper = next((key for key in WRAPPERS if isinstance(raw.get(key), Mapping)), None)
    ema_wrapper = next((key for key in EMA_WRAPPERS if isinstance(raw.get(key), Mapping)), None)
    weights = _official(raw[wrapper] if wrapper else {} if ema_wrapper else raw)
    averages = {name: value for name, value in weights.items() if name.startswith('ema_')}
    weights = {name: value for name, value in weights.items() if name not in averages}
    if not ema:
        if ema_wrapper and not weights:
            raise InputError('holds EMA weights only; convert it with --ema')
        if averages or ema_wrapper:
            logger.warning('the EMA weights in the checkpoint (%s) are ignored', ema_wrapper or 'ema_*')
        state = weights
    elif ema_wrapper:
        state = _official(raw[ema_wrapper])
    elif averages:
        flat = {f'ema_{name.replace(".", "_")}': name for name in weights}
        state = {**weights, **{flat.get(name, name): value for name, value in averages.items()}}
    else:
        raise InputError('no EMA weights in the checkpoint; omit --ema')
    others = {f'{name} ({value!r:.40})' for name, value in state.items() if not isinstance(value, np.ndarray)}
    if others:
        raise InputError(f'not weights: {abbreviate(others)}; the file must hold a state_dict of tensors')
    return state


def to_mindspore(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return weights of official names under ours: BN entries renamed, counters dropped, all else as it is."""
    stems = {name.rpartition('.')[0] for name in state if name.endswith(('.running_mean', '.running_var'))}
    named = {}
    for name, value in state.items():
        stem, _, leaf = name.rpartition('.')
        if stem not in stems:
            named[name] = value
        elif leaf != COUNTER:
            named[f'{stem}.{BN_NAMES.get(leaf, leaf)}'] = value
    return named


def _torch_name(name: str) -> str:
    stem, _, leaf = name.rpartition('.')
    return f'{stem}.{TORCH_NAMES.get(leaf, leaf)}'


def to_torch(params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return weights under the official names, in PyTorch's order inside each BN; counters are int64 zeros."""
    state: dict[str, np.ndarray] = {}
    for name, value in params.items():
        stem, _, leaf = name.rpartition('.')
        if leaf not in TORCH_NAMES:
            state[name] = value
        elif f'{stem}.{COUNTER}' not in state:
            state.update({f'{stem}.{theirs}': params[f'{stem}.{ours}'] for theirs, ours in BN_NAMES.items()})
            state[f'{stem}.{COUNTER}'] = np.zeros((), np.int64)
    return state


def read_state(path: Path | str, ema: bool = False) -> dict[str, np.ndarray]:
    """Return the arrays of a checkpoint, of any of `CHECKPOINT_SUFFIXES`, under our names.

    Raises:
        InputError: the file is absent, damaged, of another kind, or not a state_dict.
    """
    path = Path(path)
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise InputError(f'{path}: unknown suffix {path.suffix!r}; give a {listed(CHECKPOINT_SUFFIXES)} file')
    if path.suffix == '.ckpt':
        if ema:
            raise InputError(f'{path}: a .ckpt file has no EMA weights; omit --ema')
        return read_ckpt(path)
    raw = (read_pdparams if path.suffix == '.pdparams' else read_pth)(path)
    try:
        return to_mindspore(official_state(raw, ema))
    except InputError as error:
        raise InputError(f'{path}: {error}') from error


def network_state(network: nn.Cell) -> dict[str, np.ndarray]:
    """Return copies of a network's parameters by name, in the order of the official checkpoints."""
    return {name: parameter.asnumpy().copy() for name, parameter in network.parameters_and_names()}


def require_fit(network: nn.Cell, state: Mapping[str, np.ndarray], path: Path | str) -> None:
    """Compare `state` (as from `read_state`) with a network's parameters.

    Args:
        state: arrays by name.

    Raises:
        InputError: `state` is of another network, or has unknown, missing, misshapen or non-finite entries.
    """
    parameters = dict(network.parameters_and_names())
    common = parameters.keys() & state.keys()
    faults = {'unknown': state.keys() - parameters.keys(), 'missing': parameters.keys() - state.keys(),
              'misshapen': {name for name in common if state[name].shape != tuple(parameters[name].shape)},
              'not finite': {name for name in common if not np.isfinite(state[name]).all()}}
    if not any(faults.values()):
        return
    source, target = recognise(state, path), recognise(parameters, path)
    if source != target:
        raise InputError(f'{path}: holds {source.name} ({source.num_joints} keypoints), the network is {target.name} '
                         f'({target.num_joints} keypoints); choose the model_config of that name')
    spell = str if Path(path).suffix == '.ckpt' else _torch_name
    summary = '; '.join(f'{len(names)} {kind}: {abbreviate(map(spell, names))}'
                        for kind, names in faults.items() if names)
    raise InputError(f'{path}: does not fit {target.name}: {summary}')


def fill_network(network: nn.Cell, state: Mapping[str, np.ndarray]) -> None:
    """Put arrays into all parameters of a network that they fit (see `require_fit`)."""
    import mindspore as ms
    for name, parameter in network.parameters_and_names():
        parameter.set_data(ms.Tensor(np.ascontiguousarray(state[name], np.float32)))


def load_network(network: nn.Cell, path: Path | str, *, new_head: bool = False) -> str | None:
    """Fill a network from a checkpoint (of any of `CHECKPOINT_SUFFIXES`), with all of it or, after an error, nothing.

    Args:
        new_head: where the file is of another number of keypoints, leave the last layer as it is and fill the rest.

    Returns:
        Where `new_head` was made use of, a line that says so.
    """
    state, message = read_state(path), None
    if new_head:
        own = network_state(network)
        source, target = recognise(state, path), recognise(own, path)
        if source != target and replace(source, num_joints=target.num_joints) == target:
            state.update({name: own[name] for name in HEAD})
            message = (f'{path}: has {source.num_joints} keypoints, this training {target.num_joints}: '
                       f'{HEAD[0].rpartition(".")[0]} starts untrained, all else is loaded')
    require_fit(network, state, path)
    fill_network(network, state)
    return message


def save_network(network: nn.Cell, path: Path | str) -> None:
    """Write the network's parameters, nothing else, to `path` (ends in .ckpt), whole or not at all; and its checksum.

    Raises:
        InputError: the folder can't be written to.
    """
    import mindspore as ms
    with atomic_path(path) as temporary:
        mode = temporary.stat().st_mode
        try:
            ms.save_checkpoint([{'name': name, 'data': p} for name, p in network.parameters_and_names()],
                               str(temporary))
        finally:
            temporary.with_suffix('.tmp').unlink(missing_ok=True)  # MindSpore's own, left where the disk is full
        temporary.chmod(mode)  # MindSpore leaves it read-only
        drop_digest(Path(path))
    write_digest(Path(path))
