"""Compiled training steps, kept for the next start.

MindSpore has a compile cache, but finds a graph in it by little more than its number in the process, and settles on one
folder for good. So every graph has a folder of its own here, named by a digest of all that it follows from, whole or
absent; and only the first graph of a process that asks for the cache can have it.
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

from src.common.files import cache_folder
from src.config import uses_kernels
from src.cpu.kernels import build_library
from src.settings.table import NOT_IN_GRAPH

KEPT_GRAPHS = 20  # the newest; one of Lite-HRNet-18 takes 7 MB
_cache_unused = True  # by this process


def graph_folder(experiment: Mapping[str, Any], config: Mapping[str, Any], rates: int) -> Path:
    """Return where the graph of a training step is kept.

    Args:
        rates: number of learning rates, a tensor of the graph.
    """
    settings = {key: value for key, value in experiment.items() if key not in NOT_IN_GRAPH}
    sections = [config[section] for section in ('model', 'data', 'train')]
    library = build_library() if uses_kernels(experiment) else None
    facts = json.dumps([ms.__version__, settings, sections, rates, str(library)], sort_keys=True)
    sources = sorted(Path(__file__).parents[1].rglob('*.py'))
    digest = hashlib.sha256(b'\0'.join([facts.encode(), *(path.read_bytes() for path in sources)]))
    return cache_folder() / 'graphs' / digest.hexdigest()[:16]


def compile_step(step: nn.Cell, shapes: Sequence[Sequence[int]], folder: Path | None) -> bool:
    """Compile a training step ahead of its first call, or take its graph out of the cache.

    Args:
        step: the cell, in training mode.
        shapes: of its inputs, float32.
        folder: as from `graph_folder`; None: no cache.

    Returns:
        whether the graph came from the cache. A cache that can't be written or read is no error.
    """
    global _cache_unused
    inputs = [ms.Tensor(np.zeros(shape, np.float32)) for shape in shapes]
    usable = folder is not None and _cache_unused
    cached = usable and folder.is_dir()
    temporary = _make_temporary(folder) if usable and not cached else None
    if cached or temporary:
        ms.set_context(enable_compile_cache=True, compile_cache_path=str(folder if cached else temporary))
        _cache_unused = False
    try:
        step.compile(*inputs)
        if temporary:
            _keep(temporary, folder)
    finally:
        ms.set_context(enable_compile_cache=False)
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    return cached


def _make_temporary(folder: Path) -> Path | None:
    path = folder.with_name(f'.{folder.name}.{os.getpid()}')
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path


def _keep(temporary: Path, folder: Path) -> None:
    """Give a written graph its name, and remove the oldest ones."""
    try:
        os.replace(temporary, folder)
    except OSError:  # another process was faster
        return
    graphs = [path for path in folder.parent.iterdir() if not path.name.startswith('.')]
    abandoned = [path for path in folder.parent.glob('.*') if path.stat().st_mtime < time.time() - 86400]  # killed runs
    for old in [*sorted(graphs, key=lambda path: path.stat().st_mtime)[:-KEPT_GRAPHS], *abandoned]:
        shutil.rmtree(old, ignore_errors=True)
