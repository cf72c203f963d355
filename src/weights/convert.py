"""Checkpoints of any source to MindSpore's or PyTorch's official format."""
from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from src.model import LiteHRNet
from src.weights.architecture import Architecture, recognise
from src.weights.checkpoint import (
    TORCH_SUFFIXES,
    fill_network,
    network_state,
    read_state,
    require_fit,
    save_network,
    to_torch,
)
from src.weights.pth import write_pth


def convert(source: Path, target: Path, ema: bool = False) -> tuple[Architecture, int, int]:
    """Write the weights of `source` to `target`, the suffixes of which say the formats; whole or not at all.

    Returns:
        The architecture, its number of trainable numbers, and the entries written.

    Raises:
        InputError: the source can't be read or doesn't fit a Lite-HRNet exactly; the target can't be written.
    """
    state = read_state(source, ema)
    architecture = recognise(state, source)
    network = LiteHRNet(**asdict(architecture))
    require_fit(network, state, source)
    fill_network(network, state)
    entries = network_state(network)
    if target.suffix in TORCH_SUFFIXES:
        entries = to_torch(entries)
        write_pth(target, entries)
    else:
        save_network(network, target)
    return architecture, sum(parameter.size for parameter in network.trainable_params()), len(entries)
