"""The peer's Python environment: PyTorch for the CPU, MMPose, onnxruntime and OpenVINO, kept in the user's cache."""
from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from src.common.errors import InputError
from src.common.files import cache_folder

TORCH = 'torch==2.13.0'
CPU_WHEELS = 'https://download.pytorch.org/whl/cpu'
NEEDS = ('numpy==1.26.4', 'opencv-python-headless==4.10.0.84', 'onnx==1.23.2', 'onnxruntime==1.32.0', 'addict==2.4.0',
         'pyyaml', 'rich', 'termcolor', 'yapf', 'matplotlib')
# Installed without their dependencies, which other models, compiled operators and usage statistics need.
WITHOUT_DEPENDENCIES = ('mmpose==1.3.2', 'mmcv-lite==2.2.0', 'mmengine==0.10.7', 'openvino==2026.4.1')


def peer_python() -> Path:
    """Return the environment's Python; make the environment the first time (1.6 GB, some minutes).

    PyTorch's own index has wheels without CUDA; where it can't be reached, the default index is used.

    Raises:
        InputError: a package can't be installed.
    """
    folder = cache_folder() / 'peer'
    python, ready = folder / 'bin' / 'python', folder / 'ready'
    packages = '\n'.join((TORCH, *NEEDS, *WITHOUT_DEPENDENCIES))
    if ready.is_file() and ready.read_text() == packages:
        return python
    print(f'setting up the peer environment in {folder}', file=sys.stderr)
    venv.create(folder, clear=True, with_pip=True)
    if not _install(python, '--retries', '0', '--index-url', CPU_WHEELS, TORCH) and not _install(python, TORCH):
        raise InputError(f'{TORCH}: pip could not install it (its reason stands above); pass a Python that has it with '
                         '--peer_python')
    for group in (NEEDS, ('--no-deps', *WITHOUT_DEPENDENCIES)):
        if not _install(python, *group):
            raise InputError(f'{folder}: pip could not install {" ".join(group)} (its reason stands above); check the '
                             'network and run this again')
    ready.write_text(packages)
    return python


def _install(python: Path, *arguments: str) -> bool:
    command = [str(python), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', *arguments]
    return subprocess.run(command, check=False).returncode == 0
