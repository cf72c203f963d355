"""Builds the double of CUDA for an installed mindspore-gpu 1.10.0 and prints the environment to run programs in.

    .venv-gpu110/bin/python tests/gpu_double/build.py FOLDER

The libraries are made from what the wheel's own files import: functions written in this folder are compiled, every
other one becomes a stub that names itself and aborts. Needs g++ and nm; no file of CUDA.
"""
from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
WHEEL = Path(importlib.util.find_spec('mindspore').origin).parent  # importing it would load the GPU plugin
BASE = 'libgpu_double.so'
# Each library, and the names of its functions: an undefined symbol does not say where it is from.
LIBRARIES = {'libcudart.so.11.0': r'_*cuda[A-Z]', 'libcuda.so.1': r'cu[A-Z]', 'libcublas.so.11': r'cublas',
             'libcudnn.so.8': r'cudnn', 'libcurand.so.10': r'curand', 'libcusolver.so.11': r'cusolver',
             'libcufft.so.10': r'cufft', 'libcusparse.so.11': r'cusparse', 'libnvrtc.so.11.1': r'nvrtc',
             'libnccl.so.2': r'nccl[A-Z]'}
# These lie in the wheel, where its files find them first: the loader takes ours only if it has them before.
PRELOADED = ('libcuda_ops.so', 'libnccl.so.2')


def run(*command: str | Path, text: str | None = None) -> str:
    """Run a command and return its output; print its errors and exit where it fails."""
    done = subprocess.run([str(word) for word in command], input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'error: {command[0]}: {done.stderr[-3000:]}')
    return done.stdout


def symbols(path: Path, which: str) -> set[str]:
    """Return the names of a library's dynamic symbols; `which` is nm's option."""
    return {line.split()[-1].partition('@')[0] for line in run('nm', '-D', which, path).splitlines()}


def stubs(names: list[str]) -> str:
    """Return assembler source of functions that hand their own name to `gpu_double_refuse`."""
    lines = ['.text']
    for number, name in enumerate(names):
        lines += [f'.globl {name}', f'.type {name},@function', f'{name}:', f'leaq .Ls{number}(%rip), %rdi',
                  'jmp gpu_double_refuse@PLT']
    lines.append('.section .rodata')
    lines += [f'.Ls{number}: .asciz "{name}"' for number, name in enumerate(names)]
    return '\n'.join([*lines, '.section .note.GNU-stack,"",@progbits', ''])


def build_library(out: Path, soname: str, source: Path | None, wanted: set[str]) -> None:
    """Link one library that has all `wanted` functions: from `source` where written there, else as stubs."""
    objects: list[Path] = []
    if source and source.is_file():
        objects.append(out / f'{source.stem}.o')
        run('g++', '-std=c++17', '-O2', '-fPIC', '-Wall', '-c', source, '-o', objects[0])
        wanted = wanted - {line.split()[-1] for line in run('nm', '--defined-only', objects[0]).splitlines()}
    assembler, versions = out / f'{soname}.s', out / f'{soname}.map'
    assembler.write_text(stubs(sorted(wanted)))
    versions.write_text(f'{soname} {{ global: *; }};\n')
    base = [] if soname == BASE else [f'-L{out}', f'-l:{BASE}']
    link = [] if soname in (BASE, 'libcuda.so.1', *PRELOADED) else [f'-Wl,--version-script={versions}']
    cudart = [] if soname in (BASE, 'libcudart.so.11.0') else ['-l:libcudart.so.11.0']
    run('g++', '-shared', '-fPIC', *objects, assembler, f'-Wl,-soname,{soname}', *link, *base, *cudart, '-o',
        out / soname)


def build_libraries(out: Path, users: list[Path], kernels: Path, nvrtc: str) -> None:
    """Build all libraries of the double.

    Args:
        out: an existing folder, for the libraries.
        users: the wheel's files that import CUDA.
        kernels: the wheel's library of CUDA kernels.
        nvrtc: the name under which `users` want the run-time compiler.
    """
    undefined = set().union(*(symbols(path, '--undefined-only') for path in users))
    build_library(out, BASE, FOLDER / 'trace.cc', set())
    for soname, pattern in LIBRARIES.items():
        names = {name for name in undefined if re.match(pattern, name)}
        if soname == 'libcuda.so.1':
            names = {name for name in names if not re.match('cu(da|blas|dnn|rand|solver|fft|sparse)', name)}
        source = FOLDER / f'{soname.partition(".")[0]}.cc'
        build_library(out, nvrtc if 'nvrtc' in soname else soname, source, names)
    build_library(out, kernels.name, FOLDER / 'libcuda_ops.cc', undefined & symbols(kernels, '--defined-only'))


def read_trace(path: Path) -> Counter[str]:
    """Return the calls by name that GPU_DOUBLE_TRACE=path has counted, of all processes together."""
    counts: Counter[str] = Counter()
    for file in path.parent.glob(f'{path.name}.*'):
        for line in file.read_text().splitlines():
            number, _, name = line.partition(' ')
            counts[name] += int(number)
    return counts


def build(out: Path) -> dict[str, str]:
    """Build the libraries in `out`, unless they are there already, and return the environment that they need.

    Raises:
        SystemExit: a file of the wheel is absent, or does not compile.
    """
    library = WHEEL / 'lib'
    users = [library / name for name in ('plugin/libmindspore_gpu.so', 'libgpu_collective.so',
                                         'libnvidia_collective.so', 'libakg.so')]
    sources = sorted(path for path in FOLDER.iterdir() if path.suffix in ('.cc', '.h', '.py'))
    state = hashlib.sha256(b''.join(path.read_bytes() for path in sources)).hexdigest()
    mark = out / 'built'
    if not mark.is_file() or mark.read_text() != state:
        out.mkdir(parents=True, exist_ok=True)
        build_libraries(out, users, library / 'libcuda_ops.so', 'libnvrtc.so.11.1')
        mark.write_text(state)
    paths = [str(out), os.environ.get('LD_LIBRARY_PATH', '')]
    return {'LD_LIBRARY_PATH': ':'.join(path for path in paths if path), 'GLOG_v': '3', 'OMP_NUM_THREADS': '1',
            'LD_PRELOAD': ' '.join(str(out / name) for name in PRELOADED)}


if __name__ == '__main__':
    for name, value in build(Path(sys.argv[1]).resolve()).items():
        print(f'export {name}="{value}"')
