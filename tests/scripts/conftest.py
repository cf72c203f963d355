"""Copies of the checkout for the shell scripts to run in."""
from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.scripts.shell import REQUIREMENTS, ROOT, write_wrapper


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts in a folder with a space in its name."""
    root = tmp_path / 'check out'
    shutil.copytree(ROOT / 'scripts', root / 'scripts')
    for name in REQUIREMENTS:
        shutil.copy(ROOT / name, root)
    return root


@pytest.fixture
def ready(checkout: Path) -> Path:
    """A checkout that is already set up: its environments are this Python."""
    for stack in ('.venv', '.venv-gpu110', '.venv-ms200'):
        write_wrapper(checkout / stack / 'bin/python')
        for name in REQUIREMENTS:
            text = (checkout / name).read_text()
            release = 'mindspore==2.0.0' if stack == '.venv-ms200' else 'mindspore-gpu==1.10.0'
            (checkout / stack / name).write_text(text.replace('mindspore-gpu==1.10.0', release))
    return checkout
