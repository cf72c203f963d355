"""What differs between releases of MindSpore: the line at the start, and spellings that must give the same numbers."""
from __future__ import annotations

import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from src.common import compat
from tests.networks import mode, tiny


def test_the_release_is_read() -> None:
    assert '.'.join(map(str, compat.VERSION)) in ms.__version__
    assert (1, 10) <= compat.VERSION < (3,)


@pytest.mark.parametrize(('files', 'devices'), [
    ([], 'CPU'), (['libmindspore_gpu.so'], 'CPU, GPU'),
    (['libmindspore_gpu.so.11.6', 'libmindspore_ascend.so.2', 'libmindspore_ops_cpu.so'], 'CPU, GPU, Ascend')])
def test_what_a_build_is_for(files: list[str], devices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = tmp_path / 'lib' / 'plugin'
    plugins.mkdir(parents=True)
    for name in files:
        (plugins / name).touch()
    monkeypatch.setattr(compat.ms, '__file__', str(tmp_path / '__init__.py'))
    assert compat.describe('CPU').startswith(f'MindSpore {ms.__version__} (built for {devices}) on CPU')
    assert compat.built_for('GPU') == ('GPU' in devices) and compat.built_for('Ascend') == ('Ascend' in devices)


@pytest.mark.parametrize(('version', 'device', 'slow'), [
    ((2, 8, 0), 'CPU', False), ((2, 9, 0), 'CPU', True), ((2, 10, 0), 'CPU', True), ((2, 10, 0), 'GPU', False)])
def test_slow_releases_come_with_advice(version: tuple[int, ...], device: str, slow: bool,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, 'VERSION', version)
    line = compat.describe(device)
    assert ('pip install mindspore==2.8.0' in line) == slow and '\n' not in line


def test_a_second_call_touches_none_of_the_cells_inside() -> None:
    network, image = tiny(), ms.Tensor(np.zeros((1, 3, 64, 64), np.float32))
    network.set_train(False)
    calls = []
    with mode(ms.GRAPH_MODE):
        network(image)
        sys.setprofile(lambda frame, event, argument: calls.append(event))
        try:
            network(image)
        finally:
            sys.setprofile(None)
    assert 0 < calls.count('call') < len(list(network.cells_and_names()))


@pytest.mark.parametrize('spelling', [compat._resample, compat._resample_1_10])
def test_spellings_of_the_upsampling_agree(spelling) -> None:
    rng = np.random.default_rng(0)
    rows, x, columns = (rng.standard_normal(shape, np.float32) for shape in ((6, 3), (2, 4, 3, 5), (5, 7)))
    found = spelling(*map(ms.Tensor, (rows, x, columns))).asnumpy()
    np.testing.assert_allclose(found, np.einsum('Hh,nchw,wW->ncHW', rows, x, columns), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('spelling', [compat._channels_of, compat._channels_of_1_10])
def test_spellings_of_a_channel_range_agree(spelling) -> None:
    x = np.arange(48, dtype=np.float32).reshape(2, 6, 2, 2)
    np.testing.assert_array_equal(spelling(ms.Tensor(x), 2, 5).asnumpy(), x[:, 2:5])
