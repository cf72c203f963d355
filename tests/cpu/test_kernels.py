"""What becomes of the C++ sources, with and without a compiler; and what the kernels make of tensors that don't fit."""
from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import numpy as np
import pytest

from src.cpu import kernels
from src.cpu.cells import accelerate
from tests.networks import tiny

needs_compiler = pytest.mark.skipif(kernels.build_library() is None, reason='no C++ compiler on this machine')


@needs_compiler
def test_one_library_that_a_change_of_the_flags_replaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(kernels, 'FLAGS', ('-O0', '-shared', '-fPIC', '-std=c++17', '-pthread'))
    first = kernels.build_library()
    made = first.stat().st_mtime_ns
    assert kernels.build_library() == first and first.stat().st_mtime_ns == made
    monkeypatch.setattr(kernels, 'FLAGS', (*kernels.FLAGS, '-DNDEBUG'))
    assert kernels.build_library() != first
    names = sorted(path.name for path in tmp_path.rglob('*.*'))
    assert names == sorted(f'{path.name}{end}' for path in (first, kernels.build_library()) for end in ('', '.sha256'))


@needs_compiler
@pytest.mark.parametrize('rest', [0, 5000])
def test_a_damaged_library_is_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rest: int) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(kernels, 'FLAGS', ('-O0', '-shared', '-fPIC', '-std=c++17', '-pthread'))
    library = kernels.build_library()
    whole = library.stat().st_size
    with library.open('r+b') as file:
        file.truncate(rest)
    assert kernels.build_library() == library and library.stat().st_size == whole
    kernels.set_threads(library, 1)


def test_a_path_that_mindspore_cannot_have_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                    caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'a:b'))
    kernels._warn.cache_clear()
    assert kernels.build_library() is None and 'takes no colon in the path; set XDG_CACHE_HOME' in caplog.text


def fake_compiler(folder: Path, lines: str) -> str:
    """A compiler that knows its version and compiles nothing."""
    path = folder / 'compiler'
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit 0\nprintf "{lines}" >&2\nexit 1\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(('lines', 'message'), [
    (None, 'there is no C++ compiler no-such-compiler'), ('', 'compiler: exit status 1;'),
    ('reading\\nno licence\\n\\n', 'compiler: no licence;'),
    ('x.cc:1:2: error: too old\\n  1 | code\\n    | ^~~~\\n', 'compiler: x.cc:1:2: error: too old;')])
def test_without_a_working_compiler_nothing_changes(lines: str | None, message: str, monkeypatch: pytest.MonkeyPatch,
                                                    tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv('CXX', 'no-such-compiler' if lines is None else fake_compiler(tmp_path, lines))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    network = tiny()
    cells = [type(cell) for _, cell in network.cells_and_names()]
    kernels._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not accelerate(network) and kernels.build_library() is None
    line, = caplog.messages  # once, in one line, with the remedy
    assert message in line and 'CXX' in line and '\n' not in line
    assert [type(cell) for _, cell in network.cells_and_names()] == cells
    assert not list(tmp_path.rglob('*.so'))


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                  caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    monkeypatch.setenv('CXX', fake_compiler(tmp_path, 'not reached'))
    kernels._warn.cache_clear()
    assert kernels.build_library() is None
    assert str(tmp_path / 'file') in caplog.text


# Calls as MindSpore makes them: (input shapes, output shapes) of each function.

def shapes_of_weighting(name: str, n: int) -> tuple[list[tuple], list[tuple]]:
    xs = [(2, 8 + 4 * b, 4 * 2 ** (n - 1 - b), 2 * 2 ** (n - 1 - b)) for b in range(n)]
    halves, hidden, p = [x[1] // 2 for x in xs], 3, 8
    total = sum(halves)
    cross = [(hidden, total, 1, 1), (hidden,), (hidden,), (total, hidden, 1, 1), (total,), (total,)]
    own = [shape for c in halves for shape in ((c, 1, 3, 3), (c,), (c,), (2, c, 1, 1), (2,), (c, 2, 1, 1), (c,))]
    running = [shape for c in (hidden, total, *halves) for shape in ((c,), (c,))] + [(n + 2,)]
    saved = [(2 * p * (2 * total + 2 * hidden) + 2 * hidden + 2 * total + sum(6 * c + 4 for c in halves),)]
    inputs = xs + cross + own
    return {'Train': (inputs + running, xs + saved), 'Inference': (inputs, xs),
            'Gradient': (inputs + xs + saved + xs, inputs)}[name]


def shapes_of_fusion(name: str, n: int) -> tuple[list[tuple], list[tuple]]:
    xs = [(2, 3 + b, 4 * 2 ** (n - 1 - b), 2 * 2 ** (n - 1 - b)) for b in range(n)]
    units = []  # (weight, branch whose size the result has)
    for i in range(n):
        for j in range(n):
            ins, outs = xs[j][1], xs[i][1]
            for level in range(j + 1, i + 1):
                units += [((ins, 1, 3, 3), level), ((outs if level == i else ins, ins, 1, 1), level)]
            units += [((outs, ins, 1, 1), j)] * (j > i)
    parameters = [shape for (outs, *kernel), _ in units for shape in ((outs, *kernel), (outs,), (outs,))]
    running = [(outs,) for (outs, *_), _ in units for _ in range(2)] + [(len(units),)]
    saved = [(sum(2 * outs * np.prod(xs[level][2:]) + 2 * outs for (outs, *_), level in units),)]
    inputs = xs + parameters
    return {'Train': (inputs + running, xs + saved), 'Inference': (inputs, xs),
            'Gradient': (inputs + xs + saved + xs, inputs)}[name]


X, Y, C, D = (2, 3, 5, 4), (2, 6, 5, 4), (3,), (6,)


def units(*weights: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes of weight, scale and shift."""
    return [shape for weight in weights for shape in (weight, weight[:1], weight[:1])]


CALLS = {
    'Depthwise1Train': ([X, (3, 1, 3, 3), C, C, C, C, (1,)], [X, (2, 3)]),
    'Depthwise2Train': ([X, (3, 1, 3, 3), C, C, C, C, (1,)], [(2, 3, 3, 2), (2, 3)]),
    'Depthwise2Gradient': ([X, (3, 1, 3, 3), C, C, (2, 3), (2, 3, 3, 2)], [X, (3, 1, 3, 3), C, C]),
    'Depthwise2Inference': ([X, (3, 1, 3, 3), C, C], [(2, 3, 3, 2)]),
    'PointwiseReluTrain': ([X, (6, 3, 1, 1), D, D, D, D, (1,)], [Y, Y, (2, 6)]),
    'PointwiseGradient': ([X, (6, 3, 1, 1), D, D, Y, (2, 6), Y], [X, (6, 3, 1, 1), D, D]),
    'PointwiseReluInference': ([X, (6, 3, 1, 1), D, D], [Y]),
    'NormReluTrain': ([X, C, C, C, C, (1,)], [X, (2, 3)]), 'NormGradient': ([X, C, C, (2, 3), X], [X, C, C]),
    'StemInference': ([(2, 3, 12, 20), *units((8, 3, 3, 3), (4, 1, 3, 3), (4, 4, 1, 1), (8, 4, 1, 1), (8, 1, 3, 3),
                                              (4, 8, 1, 1))], [(2, 8, 3, 5)]),
    **{f'{name}{n}{kind}': shapes(kind, n) for name, shapes in (('Weighting', shapes_of_weighting),
                                                                ('Fusion', shapes_of_fusion))
       for n in (2, 3, 4) for kind in ('Train', 'Inference', 'Gradient')}}


def call(name: str, shapes: list[tuple[int, ...]], types: list[bytes] | None = None,
         arrays: list[np.ndarray] | None = None) -> tuple[int, list[np.ndarray]]:
    """The function's error code, and the tensors it was given: noise, in memory that holds more than the shapes say."""
    rng = np.random.default_rng(0)
    arrays = arrays or [rng.uniform(0.5, 1.5, 4 * int(np.prod(shape))).astype(np.float32) for shape in shapes]
    count = len(shapes)
    pointers = (ctypes.c_void_p * count)(*(array.ctypes.data for array in arrays))
    axes = [(ctypes.c_int64 * len(shape))(*shape) for shape in shapes]
    code = getattr(ctypes.CDLL(str(kernels.build_library())), name)(
        count, pointers, (ctypes.c_int * count)(*map(len, shapes)),
        (ctypes.c_void_p * count)(*map(ctypes.addressof, axes)),
        (ctypes.c_char_p * count)(*(types or [b'float32'] * count)), None, None)
    return code, arrays


@needs_compiler
@pytest.mark.parametrize('name', CALLS)
def test_a_kernel_takes_what_it_is_made_for_and_nothing_else(name: str) -> None:
    inputs, outputs = CALLS[name]
    shapes, first = inputs + outputs, len(inputs)
    code, after = call(name, shapes)
    assert code == 0
    rng = np.random.default_rng(0)
    given = [rng.uniform(0.5, 1.5, 4 * int(np.prod(shape))).astype(np.float32) for shape in shapes]
    for array, untouched, shape in zip(after[first:], given[first:], outputs):
        size = int(np.prod(shape))
        assert np.isfinite(array[:size]).all() and not np.array_equal(array[:size], untouched[:size])
        np.testing.assert_array_equal(array[size:], untouched[size:])  # nothing is written behind a tensor's end

    wrong = [shapes[:-1], [*shapes, (1,)], []]
    stride = 4 if name == 'StemInference' else 2  # a smaller change of the size may leave the result's as it is
    for i, shape in enumerate(shapes):
        for axis in range(len(shape)):
            for change in (stride, -stride, -shape[axis]):
                wrong.append([*shapes[:i], (*shape[:axis], shape[axis] + change, *shape[axis + 1:]), *shapes[i + 1:]])
        wrong.append([*shapes[:i], (*shape, 1), *shapes[i + 1:]])
    for other in wrong:
        fresh = [np.copy(array) for array in given] + [np.zeros(4, np.float32)]
        assert call(name, other, arrays=fresh[:len(other)])[0] != 0, other
        assert all(np.array_equal(array, value) for array, value in zip(fresh, given)), other
    for i in range(len(shapes)):
        assert call(name, shapes, [b'float32'] * i + [b'float16'] + [b'float32'] * (len(shapes) - i - 1))[0] != 0


@needs_compiler
@pytest.mark.parametrize('threads', [1, 3])
def test_a_kernel_without_memory_says_so_and_the_next_one_works(threads: int) -> None:
    """The error of a thread of the pool comes back as an error code: the process lives."""
    kernels.set_threads(kernels.build_library(), threads)
    huge, small = (1, 8, 2 ** 23, 2 ** 23), (1, 8, 4, 4)
    assert call('Depthwise1Inference', [huge, (8, 1, 3, 3), (8,), (8,), huge],
                arrays=[np.zeros(100, np.float32)] * 5)[0] != 0
    assert call('Depthwise1Inference', [small, (8, 1, 3, 3), (8,), (8,), small])[0] == 0
    kernels.set_threads(kernels.build_library(), 0)
