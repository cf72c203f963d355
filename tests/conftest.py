"""Fixtures shared by all tests: reference data beside the checkout, and a drawn data set."""
from __future__ import annotations

from pathlib import Path

import pytest

from src.synthetic.coco import make_dataset

SHARED = Path(__file__).resolve().parents[2] / 'shared'


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests whose `needs_mindspore(release, reason)` names a later release."""
    for mark in item.iter_markers('needs_mindspore'):
        from src.common.compat import VERSION

        release, reason = mark.args
        if tuple(int(n) for n in release.split('.')) > VERSION:
            pytest.skip(f'needs MindSpore {release}: {reason}')


@pytest.fixture(scope='session', autouse=True)
def cpu() -> None:
    """Run all tests on the CPU; mindspore-gpu would start on a GPU.

    The watchdog of MindSpore's data pipeline is off: after a training that failed on purpose, 1.10's takes the exit
    statuses of other children of this process for 30 s, and then ends it by SIGTERM.
    """
    import mindspore as ms
    from mindspore import dataset

    ms.set_context(device_target='CPU')
    dataset.config.set_enable_watchdog(False)


def _folder(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f'reference data {path} is absent: it is kept beside the checkout, not in it')
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
    """A drawn COCO root with a dozen small images."""
    root = tmp_path_factory.mktemp('synthetic') / 'coco'
    make_dataset(root, 8, 4, 0, (128, 128), 2)
    return root
