"""Network to deployment file, reloaded and compared before the file gets its name."""
from __future__ import annotations

import importlib
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.errors import InputError
from src.files import atomic_path

FORMATS = {'MINDIR': '.mindir', 'ONNX': '.onnx', 'AIR': '.air'}
TOLERANCE = 1e-3  # of the largest heatmap value; float32 rounding in another order stays far below


def run_file(path: Path, file_format: str, images: np.ndarray) -> np.ndarray:
    """Heatmaps (N, K, H/4, W/4) of an exported file for float32 pictures (N, 3, H, W).

    Raises:
        InputError: onnxruntime is missing.
    """
    if file_format == 'MINDIR':
        return nn.GraphCell(ms.load(str(path)))(Tensor(images)).asnumpy()
    try:
        runtime = importlib.import_module('onnxruntime')
    except ImportError as error:
        raise InputError('ONNX files are checked with onnxruntime: pip install onnxruntime') from error
    session = runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def export_network(network: nn.Cell, output: Path, file_format: str, image_size: tuple[int, int],
                   batch_size: int) -> float:
    """Writes `output` and returns the largest difference between its heatmaps and the network's.

    Args:
        network: in inference mode, BN folded or not.
        output: file to write, whole or not at all.
        file_format: 'MINDIR', 'ONNX', or 'AIR' (Ascend alone can write and run it: not compared, returns nan).
        image_size: (width, height).
        batch_size: pictures per call; 0 for any number (MINDIR).

    Raises:
        InputError: the format is not available here, or the reloaded file computes something else.
    """
    width, height = image_size
    images = np.random.default_rng(0).standard_normal((max(1, batch_size), 3, height, width), np.float32)
    example = Tensor(images) if batch_size else Tensor(shape=[None, 3, height, width], dtype=ms.float32)
    with atomic_path(output) as temporary:
        try:
            ms.export(network, example, file_name=str(temporary), file_format=file_format)
        except (RuntimeError, ValueError) as error:
            raise InputError(f'{file_format} export is not possible on this device: '
                             f'{str(error).strip().splitlines()[0]}') from error
        if file_format == 'AIR':
            return float('nan')
        expected = network(Tensor(images)).asnumpy()
        difference = float(np.abs(run_file(temporary, file_format, images) - expected).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise InputError(f'{output}: the reloaded file differs from the network by {difference:.3g}; not written')
    return difference
