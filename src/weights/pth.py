"""PyTorch checkpoint files, read and written with numpy alone.

Only tensors are wanted of such a file, and PyTorch's package pulls gigabytes of CUDA libraries for them. More
important: a checkpoint is a pickle, and PyTorch may run what it says; `src.weights.pickles` does not.

Formats (torch/serialization.py of PyTorch 2.x): since 1.6 a zip archive with `data.pkl` and one record per storage;
before, a row of pickles followed by the raw storages.
"""
from __future__ import annotations

import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from src.common.errors import InputError
from src.common.files import atomic_path
from src.weights.pickles import RestrictedUnpickler

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {'Double': '<f8', 'Float': '<f4', 'Half': '<f2', 'BFloat16': 'bfloat16', 'Long': '<i8', 'Int': '<i4',
            'Short': '<i2', 'Char': 'i1', 'Byte': 'u1', 'Bool': '?', 'ComplexFloat': '<c8', 'ComplexDouble': '<c16'}


def _tensor(storage: tuple[np.ndarray, str], offset: int, size: tuple[int, ...], stride: tuple[int, ...],
            *_: Any) -> np.ndarray:
    values, kind = storage
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(values)):
        raise ValueError('a tensor reaches beyond its storage')
    strides = tuple(step * values.itemsize for step in stride)
    array = np.lib.stride_tricks.as_strided(values[offset:], size, strides).copy()
    return (array.astype(np.uint32) << 16).view(np.float32) if kind == 'bfloat16' else array


class _Unpickler(RestrictedUnpickler):
    """Rebuild tensors; `storage(key, dtype, count)` returns a storage's values as a flat array."""

    KNOWN: ClassVar = {
        ('collections', 'OrderedDict'): OrderedDict, ('torch', 'Size'): tuple,
        ('torch._utils', '_rebuild_tensor'): _tensor, ('torch._utils', '_rebuild_tensor_v2'): _tensor,
        ('torch._utils', '_rebuild_parameter'): lambda data, *_: data,
        **{('torch', f'{kind}Storage'): dtype for kind, dtype in STORAGES.items()}}

    def __init__(self, file: BinaryIO, storage: Callable[[str, np.dtype, int], np.ndarray]) -> None:
        super().__init__(file, encoding='utf-8')
        self.storage = storage

    def persistent_load(self, pid: tuple) -> Any:
        """Return the storage that an id in the file names, as (values, kind)."""
        if pid[0] != 'storage':
            return pid[1]
        kind, key, count = pid[1], pid[2], pid[4]
        if kind not in STORAGES.values():
            raise ValueError(f'storage type {kind!r} is unknown')
        values = self.storage(key, np.dtype('<u2' if kind == 'bfloat16' else kind), count)
        if len(pid) > 5 and pid[5] is not None:  # pre-1.6: a window on another storage
            _, offset, count = pid[5]
            values = values[offset:offset + count]
        return values, kind


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise ValueError('a zip archive, but not of PyTorch')
        root = pickles[0][:-len('data.pkl')]
        if f'{root}byteorder' in archive.namelist() and archive.read(f'{root}byteorder') != b'little':
            raise ValueError('written on a big-endian machine')

        def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            return np.frombuffer(archive.read(f'{root}data/{key}'), dtype, count)

        with archive.open(pickles[0]) as file:
            return _Unpickler(file, storage).load()


def _read_legacy(path: Path) -> Any:
    def absent(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        if not 0 <= count * dtype.itemsize <= path.stat().st_size:
            raise ValueError('a storage is larger than the file')
        storages[key] = np.zeros(count, dtype)
        return storages[key]

    storages: dict[str, np.ndarray] = {}
    with open(path, 'rb') as file:
        if _Unpickler(file, absent).load() != LEGACY_MAGIC or _Unpickler(file, absent).load() != 1001:
            raise ValueError('no PyTorch file')
        if not _Unpickler(file, absent).load().get('little_endian', True):
            raise ValueError('written on a big-endian machine')
        start = file.tell()
        _Unpickler(file, absent).load()  # the storages come after the tensors: read once to learn where and which
        for key in _Unpickler(file, absent).load():
            dtype, count = storages[key].dtype, struct.unpack('<q', file.read(8))[0]
            if count != len(storages[key]):
                raise ValueError(f'storage {key} has another size than announced')
            storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
        file.seek(start)
        return _Unpickler(file, lambda key, dtype, count: storages[key]).load()


def read_pth(path: Path | str) -> dict:
    """Return a checkpoint as `torch.load` does, tensors as numpy arrays of their own (bfloat16 as float32).

    What is no tensor, number, string, dict or list (run logs, optimizer classes) becomes a `Foreign`.

    Raises:
        InputError: the file is absent, cut off, damaged, or holds no dict.
    """
    path = Path(path)
    try:
        raw = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); check the path') from error
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f'{path}: not a whole PyTorch checkpoint; fetch it again '
                         f'({type(error).__name__}: {" ".join(str(error).split())})') from error
    if not isinstance(raw, dict):
        raise InputError(f'{path}: holds {type(raw).__name__}, not a dict of weights; save model.state_dict() instead')
    return raw


def _global(module: str, name: str) -> bytes:
    return b'c' + f'{module}\n{name}\n'.encode()


def _pickled(value: Any) -> bytes:
    """Return a value in pickle protocol 2, without PyTorch (opcodes: Python's pickletools); bytes are it already."""
    if isinstance(value, bool):
        return b'\x88' if value else b'\x89'
    if isinstance(value, int):
        return b'J' + struct.pack('<i', value)
    if isinstance(value, str):
        text = value.encode()
        return b'X' + struct.pack('<I', len(text)) + text
    if isinstance(value, tuple):
        return b'(' + b''.join(map(_pickled, value)) + b't'
    if isinstance(value, Mapping):
        empty = _global('collections', 'OrderedDict') + b')R' if isinstance(value, OrderedDict) else b'}'
        return empty + b'(' + b''.join(_pickled(k) + _pickled(v) for k, v in value.items()) + b'u'
    return value


def _tensor_call(key: str, array: np.ndarray) -> bytes:
    """Return the call that rebuilds a tensor from storage `key`."""
    kind = next(k for k, dtype in STORAGES.items() if dtype != 'bfloat16' and np.dtype(dtype) == array.dtype)
    strides = tuple(n // array.itemsize for n in array.strides)
    storage = _pickled(('storage', _global('torch', f'{kind}Storage'), key, 'cpu', array.size)) + b'Q'
    return (_global('torch._utils', '_rebuild_tensor_v2')
            + _pickled((storage, 0, array.shape, strides, False, OrderedDict())) + b'R')


def write_pth(path: Path | str, state_dict: Mapping[str, np.ndarray]) -> None:
    """Write `{'state_dict': ..., 'meta': {}}` in the zip format; `torch.load(weights_only=True)` reads it.

    Args:
        path: file to write, as a whole or not at all.
        state_dict: arrays by name, in the order wanted; any dtype of `STORAGES` but bfloat16.
    """
    path = Path(path)
    arrays = {str(i): np.array(a, order='C') for i, a in enumerate(state_dict.values())}
    records = OrderedDict((name, _tensor_call(key, a)) for name, (key, a) in zip(state_dict, arrays.items()))
    data = b'\x80\x02' + _pickled({'state_dict': records, 'meta': {}}) + b'.'
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, 'w') as archive:
        for name, content in [('data.pkl', data), ('byteorder', b'little'),
                              *((f'data/{key}', a.tobytes()) for key, a in arrays.items()), ('version', b'3\n')]:
            archive.writestr(zipfile.ZipInfo(f'{path.stem}/{name}'), content)  # no date: same weights, same bytes
