"""The reader of `.pdparams` against ordinary pickles, as Paddle writes them, hostile ones, damaged ones."""
from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.common.errors import InputError
from src.weights.checkpoint import read_state
from src.weights.pdparams import read_pdparams
from src.weights.pickles import Foreign
from tests.weights.test_pth import Rebuild, assert_same

PROTOCOLS = pytest.mark.parametrize('protocol', [2, 3, 4])
RECONSTRUCT = np.zeros(1).__reduce__()[0]


class Array:
    """Pickles as a numpy array with this state."""

    def __init__(self, *state: Any) -> None:
        self.state = state

    def __reduce__(self) -> tuple:
        return RECONSTRUCT, (np.ndarray, (0,), b'b'), (1, *self.state)


def save(path: Path, value: object, protocol: int = 2) -> Path:
    (path / 'a.pdparams').write_bytes(pickle.dumps(value, protocol))
    return path / 'a.pdparams'


@PROTOCOLS
def test_reads_what_numpy_pickles(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {kind: rng.integers(0, 200, (2, 3)).astype(kind) for kind in ('f4', 'f8', 'f2', 'i8', 'i4', 'u1', '?')}
    arrays.update(scalar=np.array(7.5), empty=np.zeros((0, 4), np.float32), turned=rng.standard_normal((3, 5)).T)
    raw = read_pdparams(save(tmp_path, {**arrays, 'big': arrays['f4'].astype('>f4'), 'number': np.float32(3)},
                             protocol))
    for name, array in arrays.items():
        assert_same(raw[name], array)
    assert_same(raw['big'], arrays['f4'])
    assert_same(raw['number'], np.array(3, np.float32))
    assert raw['f4'].flags.owndata and raw['f4'].flags.writeable


@PROTOCOLS
def test_reads_what_paddle_adds(tmp_path: Path, protocol: int) -> None:
    """A pair of a name and an array, slices of a large array, Paddle's own names."""
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    raw = read_pdparams(save(tmp_path, {
        'a': Rebuild(tuple, ('conv_0.w_0', values)), 'b@@.0': values.ravel()[:10], 'b@@.1': values.ravel()[10:],
        'UnpackBigParamInfor@@': {'b': {'OriginShape': (4, 6), 'slices': ['b@@.0', 'b@@.1']}},
        'StructuredToParameterName@@': {'a': 'conv_0.w_0', 'b': 'conv_1.w_0'}}, protocol))
    assert list(raw) == ['a', 'b']
    for array in raw.values():
        assert_same(array, values)


def test_reads_strings_in_the_place_of_bytes(tmp_path: Path) -> None:
    """As Python 2 has them, and whoever read its file with encoding='latin1'."""
    values = np.arange(-3, 3, dtype=np.float32)
    text = values.tobytes().decode('latin1')
    assert_same(read_pdparams(save(tmp_path, {'a': Array((6,), values.dtype, False, text)}))['a'], values)


@PROTOCOLS
@pytest.mark.parametrize('function', [os.system, eval, exec, __import__, open, np.load, np.fromfile, getattr])
def test_runs_nothing_from_a_file(tmp_path: Path, function: Any, protocol: int) -> None:
    trace = tmp_path / 'trace'
    arguments = {os.system: (f'touch {trace}',), open: (str(trace), 'w'), __import__: ('this',),
                 np.load: ('a.npy', None, True), getattr: ('', 'join')}
    hostile = Rebuild(function, *arguments.get(function, (f'open({str(trace)!r}, "w")',)))
    sys.modules.pop('this', None)
    path = save(tmp_path, {'a': hostile, 'b': (hostile, 1)}, protocol)
    raw = read_pdparams(path)
    assert isinstance(raw['a'], Foreign) and isinstance(raw['b'][0], Foreign)
    assert not trace.exists() and 'this' not in sys.modules
    with pytest.raises(InputError, match=r'a\.pdparams: not weights: a \(<.*>\), b '):
        read_state(path)


@pytest.mark.parametrize(('value', 'words'), [
    (np.array([Rebuild(os.system, 'touch trace')], object), "dtype 'O8' is unknown"),
    (np.zeros(2, [('x', 'f4')]), 'is unknown'),
    (Array((10 ** 15,), np.dtype('f4'), False, b'1234'), 'too small'),
    (Array((2 ** 40, 2 ** 40), np.dtype('f4'), False, b''), ''),
    (Array((-1, 3), np.dtype('f4'), False, b'1234'), 'negative'),
    (Array((1,), np.dtype('f4'), False, b'12345678'), 'more bytes than its shape'),
    (Array((1,), np.dtype('f4'), False, [Rebuild(os.system, 'touch trace')]), ''),
    (Array((1,), 'f4', False, b'1234'), ''), (Rebuild(RECONSTRUCT, np.ndarray, (10 ** 15,), b'b'), 'value')])
def test_arrays_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f'a.pdparams: not a whole PaddlePaddle checkpoint; .*{words}') as caught:
        read_pdparams(save(tmp_path, {'a': value}))
    assert '\n' not in str(caught.value) and not (tmp_path / 'trace').exists()


@PROTOCOLS
def test_damaged_files_give_one_line(tmp_path: Path, protocol: int) -> None:
    path = save(tmp_path, {'a': np.ones(50, np.float32)}, protocol)
    whole = path.read_bytes()
    assert read_pdparams(path)['a'].sum() == 50
    for length in range(0, len(whole) - 1, 3):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            read_pdparams(path)
        assert str(caught.value).startswith(f'{path}: not a whole PaddlePaddle checkpoint; fetch it again (')
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [b'<html>not found</html>', b'\n<!DOCTYPE html><html>', bytes(300),
                                     np.random.default_rng(0).bytes(500), pickle.dumps([1]),
                                     pickle.dumps({'UnpackBigParamInfor@@': {'a': {'slices': ['b']}}})])
def test_other_files_give_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'a.pdparams').write_bytes(content)
    with pytest.raises(InputError, match='not a whole PaddlePaddle checkpoint') as caught:
        read_state(tmp_path / 'a.pdparams')
    assert '\n' not in str(caught.value)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'absent\.pdparams: cannot be read \(No such file'):
        read_state(tmp_path / 'absent.pdparams')
