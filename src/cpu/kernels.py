"""Compiles `depthwise.cc` once per machine and hands its functions to the network."""
from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from mindspore import nn, ops

from src.errors import InputError
from src.files import atomic_path
from src.model import DepthwiseConv

SOURCE = Path(__file__).with_name('depthwise.cc')
# Sums may be reordered, so that they vectorise. Not -ffast-math: linked in, it would change denormals for the whole
# process, and not-a-numbers must stay what they are.
FLAGS = ('-O3', '-march=native', '-fassociative-math', '-fno-signed-zeros', '-fno-trapping-math', '-fno-math-errno',
         '-fopenmp', '-shared', '-fPIC', '-std=c++17')


def cache_folder() -> Path:
    """Where compiled libraries are kept: $XDG_CACHE_HOME/litehrnet, by default under ~/.cache."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'litehrnet'


def build_library() -> Path | None:
    """The compiled library; None where no C++ compiler is found or it fails.

    The file's name holds a digest of source, flags, compiler and processor: a change of any of them compiles anew.
    """
    compiler = shutil.which(os.environ.get('CXX', 'g++'))
    if compiler is None:
        return None
    try:
        version = subprocess.run([compiler, '--version'], capture_output=True, check=True).stdout
        processor = Path('/proc/cpuinfo').read_text().split('\n\n')[0] if platform.system() == 'Linux' else ''
        flags = next((line for line in processor.splitlines() if line.startswith('flags')), platform.processor())
        digest = hashlib.sha256(b'\0'.join([SOURCE.read_bytes(), version, flags.encode(), ' '.join(FLAGS).encode()]))
        library = cache_folder() / f'depthwise-{digest.hexdigest()[:16]}.so'
        if not library.is_file():
            with atomic_path(library) as temporary:
                subprocess.run([compiler, *FLAGS, str(SOURCE), '-o', str(temporary)], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError, InputError):
        return None
    return library


def depthwise(library: Path, stride: int) -> ops.Custom:
    """The operator (x, weight) -> y with its gradients; 3x3, padding 1, sizes divisible by `stride`."""
    backward = ops.Custom(f'{library}:DepthwiseBackward{stride}', lambda dy, x, weight: (x, weight),
                          lambda dy, x, weight: (x, weight), func_type='aot')

    def _gradients(x, weight, out, dout):
        return backward(dout, x, weight)

    return ops.Custom(f'{library}:DepthwiseForward{stride}',
                      lambda x, weight: [x[0], x[1], x[2] // stride, x[3] // stride], lambda x, weight: x,
                      func_type='aot', bprop=_gradients)


def accelerate(network: nn.Cell) -> bool:
    """Lets all depthwise convolutions of a network use our kernels; False where they can't be compiled.

    For training and inference in this process. A network changed like this can't be exported.
    """
    library = build_library()
    if library is None:
        return False
    operators = {stride: depthwise(library, stride) for stride in (1, 2)}
    for _, cell in network.cells_and_names():
        if isinstance(cell, DepthwiseConv):
            cell.fast = operators[cell.stride[0]]
    return True
