"""The restricted reader against files made by ordinary pickling, hostile files, damaged ones; the writer against it."""
from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import InputError
from src.weights.pickles import Foreign
from src.weights.pth import LEGACY_MAGIC, read_pth, write_pth


class Rebuild:
    """Pickles as the call `function(*args)`."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


class StoragePickler(pickle.Pickler):
    """Writes ('storage', key) tuples as persistent ids, as torch.save does."""

    def __init__(self, file: io.BytesIO, kinds: dict, legacy: bool) -> None:
        super().__init__(file, protocol=2)
        self.kinds, self.legacy = kinds, legacy

    def persistent_id(self, value: object) -> tuple | None:
        if not (isinstance(value, tuple) and len(value) == 2 and value[0] == 'storage'):
            return None
        kind, data = self.kinds[value[1]]
        return ('storage', kind, value[1], 'cpu', len(data)) + ((None,) if self.legacy else ())


@pytest.fixture
def torch_names(monkeypatch):
    """Modules with the few names that pickles of tensors refer to, so that plain pickle can write them."""
    torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')
    for name in ('FloatStorage', 'LongStorage', 'BFloat16Storage'):
        setattr(torch, name, type(name, (), {'__module__': 'torch'}))

    def _rebuild_tensor_v2():
        """Only its name is pickled."""

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = 'torch._utils', '_rebuild_tensor_v2'
    torch._utils, utils._rebuild_tensor_v2 = utils, _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, 'torch', torch)
    monkeypatch.setitem(sys.modules, 'torch._utils', utils)
    return torch


def save(path: Path, value: object, storages: dict[str, tuple[type, np.ndarray]], legacy: bool) -> None:
    """Writes `value` as torch.save would, in either format."""
    stream = io.BytesIO()
    StoragePickler(stream, storages, legacy).dump(value)
    if not legacy:
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('archive/data.pkl', stream.getvalue())
            for key, (_, data) in storages.items():
                archive.writestr(f'archive/data/{key}', data.tobytes())
        return
    head = [LEGACY_MAGIC, 1001, {'protocol_version': 1001, 'little_endian': True}]
    path.write_bytes(b''.join(pickle.dumps(item, 2) for item in head) + stream.getvalue()
                     + pickle.dumps(list(storages), 2)
                     + b''.join(struct.pack('<q', len(data)) + data.tobytes() for _, data in storages.values()))


def tensor(torch, key: str, offset: int, size: tuple, stride: tuple) -> Rebuild:
    """A tensor on storage `key`."""
    return Rebuild(torch._utils._rebuild_tensor_v2, ('storage', key), offset, size, stride, False, OrderedDict())


def assert_same(array: np.ndarray, expected: np.ndarray) -> None:
    """Equal in shape, type and every element."""
    assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize('legacy', [False, True])
def test_reads_views_and_dtypes(tmp_path, torch_names, legacy):
    values = np.random.default_rng(0).standard_normal(24).astype(np.float32)
    storages = {'7': (torch_names.FloatStorage, values), '8': (torch_names.LongStorage, np.array([5, -3])),
                '9': (torch_names.BFloat16Storage, (values.view(np.uint32) >> 16).astype(np.uint16))}
    state = OrderedDict(plain=tensor(torch_names, '7', 0, (4, 6), (6, 1)),
                        turned=tensor(torch_names, '7', 0, (6, 4), (1, 6)),
                        part=tensor(torch_names, '7', 8, (2, 3), (6, 1)),
                        whole=tensor(torch_names, '8', 1, (), ()),
                        empty=tensor(torch_names, '8', 0, (0, 3), (3, 1)),
                        short=tensor(torch_names, '9', 0, (24,), (1,)))
    save(tmp_path / 'a.pth', {'state_dict': state, 'meta': {'epoch': 210}}, storages, legacy)
    raw = read_pth(tmp_path / 'a.pth')
    table = values.reshape(4, 6)
    expected = {'plain': table, 'turned': table.T, 'part': table[1:3, 2:5], 'whole': np.array(-3),
                'empty': np.zeros((0, 3), np.int64)}
    assert raw['meta'] == {'epoch': 210}
    assert list(raw['state_dict']) == list(state)
    for name, array in expected.items():
        assert_same(raw['state_dict'][name], array)
    short = raw['state_dict']['short']
    assert short.dtype == np.float32
    np.testing.assert_allclose(short, values, rtol=2 ** -7)
    np.testing.assert_array_equal(short.view(np.uint32) & 0xFFFF, 0)


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('size, stride, offset', [((25,), (1,), 0), ((24,), (1,), 1), ((2, 2), (-1, 1), 4),
                                                  ((2,), (1,), -1)])
def test_refuses_tensors_beyond_their_storage(tmp_path, torch_names, legacy, size, stride, offset):
    storages = {'0': (torch_names.FloatStorage, np.zeros(24, np.float32))}
    save(tmp_path / 'a.pth', {'a': tensor(torch_names, '0', offset, size, stride)}, storages, legacy)
    with pytest.raises(InputError, match='beyond its storage'):
        read_pth(tmp_path / 'a.pth')


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('function', [os.system, eval, exec, __import__, open])
def test_runs_nothing_from_a_file(tmp_path, torch_names, legacy, function):
    trace = tmp_path / 'trace'
    arguments = {os.system: f'touch {trace}', open: (str(trace), 'w'), __import__: 'this'}
    argument = arguments.get(function, f'open({str(trace)!r}, "w")')
    hostile = Rebuild(function, *(argument if isinstance(argument, tuple) else (argument,)))
    save(tmp_path / 'a.pth', {'meta': hostile, 'list': [hostile, 1]}, {}, legacy)
    sys.modules.pop('this', None)
    raw = read_pth(tmp_path / 'a.pth')
    assert isinstance(raw['meta'], Foreign) and isinstance(raw['list'][0], Foreign)
    assert not trace.exists() and 'this' not in sys.modules


def test_foreign_objects_swallow_their_contents(tmp_path, torch_names):
    class Log(dict):
        pass

    Log.__module__, Log.__qualname__ = 'torch', 'Log'
    torch_names.Log = Log
    log = Log(loss=3)
    log.note = 'x'
    save(tmp_path / 'a.pth', {'meta': log, 'path': Path('x'), 'type': Log, 'epoch': 2}, {}, legacy=False)
    raw = read_pth(tmp_path / 'a.pth')
    assert repr(raw['meta']) == '<torch.Log>' and raw['epoch'] == 2


@pytest.mark.parametrize('legacy', [False, True])
def test_damaged_files_give_one_line(tmp_path, torch_names, legacy):
    storages = {'0': (torch_names.FloatStorage, np.ones(50, np.float32))}
    save(tmp_path / 'whole.pth', {'a': tensor(torch_names, '0', 0, (50,), (1,))}, storages, legacy)
    whole = (tmp_path / 'whole.pth').read_bytes()
    assert read_pth(tmp_path / 'whole.pth')['a'].sum() == 50
    path = tmp_path / 'cut.pth'
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            read_pth(path)
        assert str(caught.value).startswith(f'{path}: not a whole PyTorch checkpoint')
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [b'<html>not found</html>', os.urandom(500), b'\x80\x02]q\x00.',
                                     pickle.dumps({'state_dict': {}})])
def test_other_files_give_one_line(tmp_path, content):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(InputError, match='not a whole PyTorch checkpoint'):
        read_pth(tmp_path / 'a.pth')


def test_absent_file_and_wrong_content(tmp_path, torch_names):
    with pytest.raises(InputError, match='cannot be read'):
        read_pth(tmp_path / 'absent.pth')
    save(tmp_path / 'list.pth', [1], {}, legacy=False)
    with pytest.raises(InputError, match='holds list, not a dict'):
        read_pth(tmp_path / 'list.pth')


def arrays() -> OrderedDict:
    """One array of each dtype and of awkward shapes."""
    rng = np.random.default_rng(1)
    values = [rng.integers(0, 2, (2, 3)).astype(t) for t in ('f4', 'f8', 'f2', 'i8', 'i4', 'i2', 'i1', 'u1', '?')]
    values += [np.array(7), np.zeros((0, 4), np.float32), rng.standard_normal((3, 5)).T]
    return OrderedDict((f'layer.{i}.weight', value) for i, value in enumerate(values))


def test_writer_and_reader_agree(tmp_path):
    state = arrays()
    write_pth(tmp_path / 'a.pth', state)
    raw = read_pth(tmp_path / 'a.pth')
    assert raw['meta'] == {}
    assert list(raw['state_dict']) == list(state)
    for name, array in state.items():
        assert_same(raw['state_dict'][name], array)
    first = (tmp_path / 'a.pth').read_bytes()
    write_pth(tmp_path / 'a.pth', state)
    assert (tmp_path / 'a.pth').read_bytes() == first


def test_torch_itself_reads_and_is_read(tmp_path):
    torch = pytest.importorskip('torch', reason='PyTorch is no requirement; where it is installed the two are compared')
    state = arrays()
    write_pth(tmp_path / 'ours.pth', state)
    theirs = torch.load(tmp_path / 'ours.pth', weights_only=True)['state_dict']
    for name, array in state.items():
        assert_same(theirs[name].numpy(), array)
    for zipped in (True, False):
        torch.save({'state_dict': theirs}, tmp_path / 'theirs.pth', _use_new_zipfile_serialization=zipped)
        for name, array in read_pth(tmp_path / 'theirs.pth')['state_dict'].items():
            assert_same(array, state[name])
