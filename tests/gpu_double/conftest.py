"""Fixtures of the tests in the double of CUDA."""
from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu_double.build import build
from tests.gpu_double.programs import Programs


@pytest.fixture(scope='session')
def double(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the double, built once."""
    return build(tmp_path_factory.mktemp('gpu_double'))


@pytest.fixture(scope='session')
def programs(double: dict[str, str], synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Programs on a drawn data set."""
    return Programs(double, synthetic, tmp_path_factory.mktemp('programs'))
