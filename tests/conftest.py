"""Fixtures shared by all tests: where the reference data stand."""
from __future__ import annotations

from pathlib import Path

import pytest

from tools.make_synthetic_coco import make_dataset

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


@pytest.fixture(scope='session')
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn COCO root with a dozen small pictures."""
    root = tmp_path_factory.mktemp('synthetic') / 'coco'
    make_dataset(root, 8, 4, 0, (128, 128), 2)
    return root
