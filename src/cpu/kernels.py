"""Compiles this folder's C++ once per machine and hands out its functions as MindSpore operators."""
from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from mindspore import ops

from src.common.errors import InputError
from src.common.files import atomic_path, cache_folder, check_digest, drop_digest, write_digest

logger = logging.getLogger(__name__)
FOLDER = Path(__file__).parent
# Sums may be reordered, so that they vectorise. Not -ffast-math: linked in, it would change denormals for the whole
# process, and not-a-numbers must stay what they are.
FLAGS = ('-O3', '-march=native', '-ffp-contract=fast', '-fassociative-math', '-fno-signed-zeros', '-fno-trapping-math',
         '-fno-math-errno', '-pthread', '-shared', '-fPIC', '-std=c++17')
PROCESSOR = ('flags', 'Features', 'CPU implementer', 'CPU part')  # lines of /proc/cpuinfo, the last three of ARM
Shapes = Callable[..., 'list[list[int]]']


def build_library() -> Path | None:
    """Return the compiled library; None where there is no C++ compiler or it fails, which a line says once.

    The file's name holds a digest of sources, flags, compiler and processor: a change of any of them compiles anew.
    """
    name = os.environ.get('CXX', 'g++')
    compiler = shutil.which(name)
    try:
        if ':' in str(cache_folder()):
            raise InputError(f'{cache_folder()}: MindSpore takes no colon in the path; set XDG_CACHE_HOME')
        if compiler is None:
            raise RuntimeError(f'there is no C++ compiler {name}; install g++ or name another C++17 compiler in the '
                               'variable CXX')
        version = _run(compiler, '--version')
        processor = Path('/proc/cpuinfo').read_text().split('\n\n')[0] if platform.system() == 'Linux' else ''
        flags = '\n'.join(line for line in processor.splitlines() if line.startswith(PROCESSOR)) or platform.processor()
        files = sorted(path for path in FOLDER.iterdir() if path.suffix in ('.cc', '.h'))
        digest = hashlib.sha256(b'\0'.join([*(path.read_bytes() for path in files), version, flags.encode(),
                                            ' '.join(FLAGS).encode()]))
        library = cache_folder() / f'kernels-{digest.hexdigest()[:16]}.so'
        if not _is_whole(library):
            drop_digest(library)
            with atomic_path(library) as temporary:
                _run(compiler, *FLAGS, *(str(path) for path in files if path.suffix == '.cc'), '-o', str(temporary))
            write_digest(library)
    except (OSError, RuntimeError, InputError) as error:
        _warn(f"the CPU runs on MindSpore's operators, which are slower, as our own do not compile: {error}")
        return None
    return library


def _is_whole(library: Path) -> bool:
    try:
        check_digest(library)
    except InputError:
        return False
    return library.is_file()


def _run(*command: str) -> bytes:
    result = subprocess.run(command, capture_output=True)
    if result.returncode:
        lines = [line.strip() for line in result.stderr.decode(errors='replace').splitlines() if line.strip()]
        errors = [line for line in lines if 'error' in line]  # g++ draws an arrow under them
        reason = [f'exit status {result.returncode}', *lines, *errors][-1]
        raise RuntimeError(f'{command[0]}: {reason}; name another C++17 compiler in the variable CXX')
    return result.stdout


@functools.cache
def _warn(line: str) -> None:
    logger.warning(line)


def set_threads(library: Path, threads: int) -> None:
    """Set the number of threads that the kernels of this process use from now on."""
    ctypes.CDLL(str(library)).LiteHRNetThreads(threads)


def operator(library: Path, name: str, inputs: int, shapes: Shapes) -> ops.Custom:
    """Return the function `name` of the library as an operator on float32 tensors.

    MindSpore tells operators apart by the name alone, so `inputs` and `shapes` have to hold for all uses of it.

    Args:
        inputs: how many `shapes` reads.
        shapes: (shapes of the inputs) -> list of the outputs' shapes.
    """
    outputs = len(shapes(*[[1] * 4] * inputs))

    def infer_shapes(*sizes):
        results = shapes(*sizes)
        return results[0] if outputs == 1 else tuple(results)

    def infer_types(*types):
        return types[0] if outputs == 1 else (types[0],) * outputs

    return ops.Custom(f'{library}:{name}', infer_shapes, infer_types, func_type='aot')
