"""PaddlePaddle's `.pdparams` files, read with numpy alone.

Such a file is a plain pickle, of protocol 2 to 4, of a dict of numpy arrays by name (python/paddle/framework/io.py of
PaddlePaddle 2.x). It is read as `src.weights.pickles` says. Numpy's own names are known too, but mean the two classes
below: an array is made of its bytes, and never of objects.
"""
from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from src.common.errors import InputError
from src.weights.pickles import RestrictedUnpickler

DTYPES = {'f8', 'f4', 'f2', 'i8', 'i4', 'i2', 'i1', 'u8', 'u4', 'u2', 'u1', 'b1'}
VARIABLES = 'StructuredToParameterName@@'  # dict: Paddle's own name of each parameter, for its static graphs
SLICES = 'UnpackBigParamInfor@@'  # dict: the slices of arrays too large for a pickle of protocol 2


class _Dtype:
    """What pickles as numpy.dtype: a kind and, in its state, the order of bytes."""

    def __init__(self, kind: str, *_: Any) -> None:
        if kind not in DTYPES:
            raise ValueError(f'dtype {kind!r:.40} is unknown')
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """What pickles as numpy.ndarray: an empty one, which the state makes into `value`."""

    value: np.ndarray

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, data = state
        self.value = _from_bytes(kind, data, shape, 'F' if fortran else 'C')


def _from_bytes(kind: _Dtype, data: bytes | str, shape: tuple[int, ...] = (), order: str = 'C') -> np.ndarray:
    data = data.encode('latin1') if isinstance(data, str) else data  # Python 2 has strings for bytes
    array = np.ndarray(shape, kind.dtype, data, order=order)  # refuses to go beyond the bytes
    if array.nbytes != len(data):
        raise ValueError('an array has more bytes than its shape')
    return array.astype(kind.dtype.newbyteorder('='), order='C')


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes for which protocol 2 has a text."""
    if encoding != 'latin1':
        raise ValueError(f'encoding {encoding!r:.40} is unknown')
    return text.encode('latin1')


class _Unpickler(RestrictedUnpickler):
    KNOWN: ClassVar = {
        ('collections', 'OrderedDict'): OrderedDict, ('builtins', 'tuple'): tuple, ('__builtin__', 'tuple'): tuple,
        ('_codecs', 'encode'): _encode, ('__builtin__', 'bytes'): lambda: b'',
        ('numpy', 'dtype'): _Dtype, ('numpy', 'ndarray'): _Array,
        **{(f'numpy.{core}.multiarray', name): meaning for core in ('core', '_core')  # _core: numpy 2
           for name, meaning in (('_reconstruct', _Array), ('scalar', _from_bytes))}}


def _plain(value: Any) -> Any:
    """Return an array as such; Paddle also saves (its own name, array)."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    return value.value if isinstance(value, _Array) else value


def read_pdparams(path: Path | str) -> dict[str, Any]:
    """Return the arrays of a file by name, slices put together; and, as it is, all else but Paddle's own names.

    Raises:
        InputError: the file is absent, cut off, damaged, or holds no dict.
    """
    path = Path(path)
    try:
        with path.open('rb') as file:
            raw = _Unpickler(file, encoding='latin1').load()
        if not isinstance(raw, dict):
            raise ValueError(f'holds {type(raw).__name__}, not a dict of weights')
        raw.pop(VARIABLES, None)
        slices = raw.pop(SLICES, {})
        values = {name: _plain(value) for name, value in raw.items()}
        for name, parts in slices.items():
            values[name] = np.concatenate([values.pop(part) for part in parts['slices']]).reshape(parts['OriginShape'])
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); check the path') from error
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f'{path}: not a whole PaddlePaddle checkpoint; fetch it again '
                         f'({type(error).__name__}: {" ".join(str(error).split())})') from error
    return values
