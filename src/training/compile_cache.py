"""Compiled training steps, kept for the next start.

MindSpore has a compile cache, but finds a graph in it by little more than its number in the process, and settles on one
folder for good. So every graph has a folder of its own here, named after all that has a say in it, whole or absent; and
only the first graph of a process that asks for the cache can have it.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from src.config import uses_kernels
from src.cpu.kernels import build_library, cache_folder
from src.settings.table import NOT_IN_GRAPH

KEPT = 20  # graphs, the newest; one of Lite-HRNet-18 takes 7 MB
_first = True


def graph_folder(experiment: Mapping[str, Any], config: Mapping[str, Any], steps: int) -> Path:
    """Where the graph of a training step is kept.

    Args:
        experiment: the experiment's settings.
        config: the model configuration.
        steps: of the training; the learning rates are a tensor of that size.
    """
    settings = {key: value for key, value in experiment.items() if key not in NOT_IN_GRAPH}
    sections = [config[section] for section in ('model', 'data', 'train')]
    library = build_library() if uses_kernels(experiment) else None
    known = json.dumps([ms.__version__, settings, sections, steps, str(library)], sort_keys=True)
    sources = sorted(Path(__file__).parents[1].rglob('*.py'))
    digest = hashlib.sha256(b'\0'.join([known.encode(), *(path.read_bytes() for path in sources)]))
    return cache_folder() / 'graphs' / digest.hexdigest()[:16]


def compile_step(step: nn.Cell, shapes: Sequence[Sequence[int]], folder: Path | None) -> bool:
    """Compiles a training step ahead of its first call, or takes its graph out of the cache.

    Args:
        step: the cell, in training mode.
        shapes: of its inputs, float32.
        folder: see `graph_folder`; None: no cache.

    Returns:
        Whether the graph came from the cache. A cache that can't be written or read is no error.
    """
    global _first
    inputs = [ms.Tensor(np.zeros(shape, np.float32)) for shape in shapes]
    wanted = folder is not None and _first
    cached = wanted and folder.is_dir()
    temporary = _temporary(folder) if wanted and not cached else None
    if cached or temporary:
        ms.set_context(enable_compile_cache=True, compile_cache_path=str(folder if cached else temporary))
        _first = False
    try:
        step.compile(*inputs)
        if temporary:
            _keep(temporary, folder)
    finally:
        ms.set_context(enable_compile_cache=False)
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    return cached


def _temporary(folder: Path) -> Path | None:
    path = folder.with_name(f'.{folder.name}.{os.getpid()}')
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path


def _keep(temporary: Path, folder: Path) -> None:
    """Gives a written graph its name, and removes the oldest ones."""
    try:
        os.replace(temporary, folder)
    except OSError:  # another process was faster
        return
    graphs = [path for path in folder.parent.iterdir() if not path.name.startswith('.')]
    left = [path for path in folder.parent.glob('.*') if path.stat().st_mtime < time.time() - 86400]  # by killed runs
    for old in [*sorted(graphs, key=lambda path: path.stat().st_mtime)[:-KEPT], *left]:
        shutil.rmtree(old, ignore_errors=True)
