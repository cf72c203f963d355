"""Small networks with varied weights, and the mode they run in, for the tests that need a network."""
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from src.common.compat import FREE_BATCH
from src.config import resolve
from src.model import LiteHRNet
from src.settings.build import build_network
from src.weights.checkpoint import BN_NAMES, save_network

SIZE = (64, 64)
FREE_MINDIR = pytest.mark.skipif('MINDIR' not in FREE_BATCH,
                                 reason='MINDIR files of this MindSpore have a fixed batch')


def tiny(module: str = 'LITE', num_joints: int = 3) -> LiteHRNet:
    """Three branches, two modules; weights as the project initialises them."""
    return LiteHRNet(SIZE, stage_modules=(1, 1), stage_channels=(8, 16, 32), module=module, num_joints=num_joints)


def randomise(network: ms.nn.Cell, seed: int = 0) -> None:
    """Weights and BN statistics that keep the signal's size and differ in every entry."""
    rng = np.random.default_rng(seed)
    for name, parameter in network.parameters_and_names():
        noise = rng.standard_normal(parameter.shape)
        kind = name.rpartition('.')[2]
        if parameter.ndim == 4:
            value = noise * np.sqrt(2 / np.prod(parameter.shape[1:]))
        elif kind == 'moving_variance':
            value = rng.uniform(0.5, 1.5, parameter.shape)
        else:
            value = 0.1 * noise + (kind == 'gamma')
        parameter.set_data(ms.Tensor(value.astype(np.float32)))


def save_small(folder: Path, settings: dict[str, str]) -> Path:
    """The checkpoint of a network with these dotted settings, config.json beside it."""
    experiment, config = resolve({'device': 'CPU'}, settings)
    network = build_network(config)
    randomise(network)
    save_network(network, folder / 'net.ckpt')
    (folder / 'config.json').write_text(json.dumps({'experiment': experiment, 'config': config}))
    return folder / 'net.ckpt'


def values(cell: ms.nn.Cell) -> dict[str, np.ndarray]:
    """Copies of all parameters (`asnumpy` of a parameter is a live view)."""
    return {p.name: p.asnumpy().copy() for p in cell.get_parameters()}


def our_name(official: str, batch_norms: set[str]) -> str:
    """The project's name of an official checkpoint's entry."""
    stem, _, leaf = official.rpartition('.')
    return f'{stem}.{BN_NAMES[leaf]}' if stem in batch_norms else official


@contextmanager
def mode(value: int) -> Iterator[None]:
    """Runs in `ms.PYNATIVE_MODE` (no compilation) or `ms.GRAPH_MODE`."""
    before = ms.get_context('mode')
    ms.set_context(mode=value)
    try:
        yield
    finally:
        ms.set_context(mode=before)
