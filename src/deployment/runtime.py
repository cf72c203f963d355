"""Exported files as functions on NumPy arrays, with the description that `src.deployment.export` wrote into them.

A description is keys with values in JSON, in MINDIR's user_info and ONNX's metadata.
"""
from __future__ import annotations

import importlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore.train.mind_ir_pb2 import ModelProto

from src.common.errors import InputError

SUFFIXES = ('.mindir', '.onnx')

Run = Callable[[np.ndarray], np.ndarray]


def fixed_batch(run: Run, size: int) -> Run:
    """Return `run`, which takes `size` images, for any number: in parts, the last filled up with zeros."""
    def run_parts(images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), size):
            part = images[start:start + size]
            missing = size - len(part)
            filled = np.concatenate((part, np.zeros((missing, *part.shape[1:]), part.dtype))) if missing else part
            parts.append(run(filled)[:len(part)])
        return np.concatenate(parts)
    return run_parts


def open_file(path: Path) -> tuple[Run, dict[str, Any]]:
    """Return a `.mindir` or `.onnx` file as a function of any number of images, and its description.

    The description is what `src.deployment.export.describe` made; {} for a file from elsewhere.

    Raises:
        InputError: the file is absent or damaged, or onnxruntime is not installed.
    """
    if not path.is_file():
        raise InputError(f'{path}: no such file; check the path')
    return (_open_mindir if path.suffix == '.mindir' else _open_onnx)(path)


def _open_mindir(path: Path) -> tuple[Run, dict[str, Any]]:
    try:
        graph = nn.GraphCell(ms.load(str(path)))
        model = ModelProto.FromString(path.read_bytes())
    except (RuntimeError, ValueError) as error:
        raise InputError(f'{path}: not readable by MindSpore {ms.__version__}; export it again') from error

    def run(images: np.ndarray) -> np.ndarray:
        return graph(Tensor(np.ascontiguousarray(images))).asnumpy()

    # MindSpore 1.10 writes no user_info.
    description = _description({entry.key: entry.value for entry in getattr(model, 'user_info', ())})
    batch = description.get('batch_size', 0)
    return (fixed_batch(run, batch) if batch else run), description


def import_onnxruntime(path: Path) -> Any:
    """Return the module onnxruntime, which is to run a file.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module('onnxruntime')
    except ImportError as error:
        raise InputError(f'{path}: ONNX files are run by onnxruntime: pip install -r requirements-onnx.txt') from error


def _open_onnx(path: Path) -> tuple[Run, dict[str, Any]]:
    runtime = import_onnxruntime(path)
    try:
        session = runtime.InferenceSession(str(path), providers=runtime.get_available_providers())
    except Exception as error:  # of many kinds, all of them its own
        raise InputError(f'{path}: not readable by onnxruntime {runtime.__version__}; export it again') from error
    first = session.get_inputs()[0]

    def run(images: np.ndarray) -> np.ndarray:
        return session.run(None, {first.name: np.ascontiguousarray(images)})[0]

    description = _description(session.get_modelmeta().custom_metadata_map)
    return (fixed_batch(run, first.shape[0]) if isinstance(first.shape[0], int) else run), description


def _description(metadata: dict[str, str]) -> dict[str, Any]:
    found = {}
    for key, value in metadata.items():
        with suppress(ValueError):  # of another tool
            found[key] = json.loads(value)
    return found if {'config', 'image_size'} <= found.keys() else {}
