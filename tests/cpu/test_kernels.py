"""What becomes of the C++ sources, with and without a compiler."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src.cpu import kernels
from src.cpu.cells import accelerate
from src.cpu.update import fuse_update
from src.utils import make_optimizer
from tests.networks import tiny


def test_one_library_that_a_change_of_the_flags_replaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if kernels.build_library() is None:
        pytest.skip('no C++ compiler on this machine')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(kernels, 'FLAGS', ('-O0', '-shared', '-fPIC', '-std=c++17', '-pthread'))
    first = kernels.build_library()
    made = first.stat().st_mtime_ns
    assert kernels.build_library() == first and first.stat().st_mtime_ns == made
    monkeypatch.setattr(kernels, 'FLAGS', (*kernels.FLAGS, '-DNDEBUG'))
    assert kernels.build_library() != first
    assert len(list(tmp_path.rglob('*'))) == 3  # the folder and two libraries: nothing half-written


@pytest.mark.parametrize('compiler', ['no-such-compiler', 'false'])
def test_without_a_working_compiler_nothing_changes(compiler: str, monkeypatch: pytest.MonkeyPatch,
                                                    tmp_path: Path) -> None:
    monkeypatch.setenv('CXX', compiler)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    network = tiny()
    cells = [type(cell) for _, cell in network.cells_and_names()]
    optimizer = make_optimizer('Adam', network, np.ones(3, np.float32), 0.0)
    assert not accelerate(network) and fuse_update(optimizer, 0.0, 1.0) is None
    assert [type(cell) for _, cell in network.cells_and_names()] == cells
    assert not list(tmp_path.rglob('*.so'))
