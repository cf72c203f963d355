"""Running the shell scripts on copies of the checkout."""
from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ('requirements.txt', 'requirements-onnx.txt', 'requirements-dev.txt', 'requirements-detector.txt')


def write_executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def write_wrapper(path: Path, python: str = sys.executable) -> None:
    """Write a program that is this Python."""
    write_executable(path, f'#!/bin/bash\nexec "{python}" "$@"\n')


def run_script(path: Path, *arguments: str, folder: Path | None = None, timeout: float = 120, **environment: str):
    """Run a script with this Python in `folder`; return the finished process with its text."""
    return subprocess.run(['bash', str(path), *arguments], cwd=folder or path.parent, capture_output=True, text=True,
                          env={**os.environ, 'PYTHON': sys.executable, **environment}, timeout=timeout)


def bare_path(folder: Path) -> str:
    """Return a PATH with what the launchers need and nothing else: no Python, no mpirun."""
    folder.mkdir()
    for tool in ('bash', 'basename', 'cat', 'date', 'dirname', 'mkdir', 'sed', 'tee'):
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


def assert_one_line_error(process: subprocess.CompletedProcess, *words: str) -> None:
    assert process.returncode == 1
    line, = process.stderr.splitlines()
    assert line.startswith('error: ')
    for word in words:
        assert word in line
