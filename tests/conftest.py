"""Fixtures shared by all tests: where the reference data stand."""
from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / 'shared'


def _folder(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f'reference data {path} is absent: it stands beside the checkout, not in it')
    return path


@pytest.fixture(scope='session')
def goldens() -> Path:
    """Reference numbers of the PyTorch implementation."""
    return _folder('goldens')


@pytest.fixture(scope='session')
def lspet() -> Path:
    """Leeds Sports Pose Extended in COCO layout."""
    return _folder('lspet')
