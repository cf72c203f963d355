"""What mindspore-gpu's files need of a machine, and what the machine has: libraries, versions, devices' code.

Nothing here imports MindSpore, which can't be imported where one of these libraries is missing.
"""
from __future__ import annotations

import ctypes
import importlib.util
import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path

FAT_BINARY = 0xBA55ED50
PTX, CUBIN = 1, 2  # kinds of code in a fat binary
MAJOR, MINOR = 75, 76  # of the compute capability, as the driver's device attributes
NEEDED, STRINGS, RPATH, RUNPATH = 1, 5, 15, 29  # entries of an ELF file's dynamic section

Section = tuple[int, int]  # where it begins in the file and how many bytes it has
Capability = tuple[int, int]


class Missing(Exception):
    """What a check needs does not exist; the message is one line that says what to do."""


@dataclass(frozen=True)
class Device:
    """A CUDA device."""

    name: str
    capability: Capability


def sections(data: bytes | mmap.mmap) -> dict[str, Section]:
    """Return the sections of a 64-bit little-endian ELF file by name.

    Raises:
        Missing: it is no such file.
    """
    if data[:6] != b'\x7fELF\x02\x01':
        raise Missing('no 64-bit ELF file; install the wheel again')
    (table,), (size, count, names) = struct.unpack_from('<Q', data, 40), struct.unpack_from('<HHH', data, 58)
    headers = [struct.unpack_from('<IIQQQQ', data, table + number * size) for number in range(count)]
    start = headers[names][4]
    found = {}
    for header in headers:
        begin = start + header[0]
        found[bytes(data[begin:data.find(b'\0', begin)]).decode()] = header[4:6]
    return found


def dynamic(data: bytes | mmap.mmap, kinds: tuple[int, ...]) -> list[str]:
    """Return the texts that an ELF file's dynamic section has for `kinds`, such as `(NEEDED,)`."""
    found = sections(data)
    (begin, size), (strings, _) = found['.dynamic'], found['.dynstr']
    entries = [struct.unpack_from('<qQ', data, at) for at in range(begin, begin + size, 16)]
    starts = [strings + value for kind, value in entries if kind in kinds]
    return [bytes(data[start:data.find(b'\0', start)]).decode() for start in starts]


def fat_binaries(data: bytes | mmap.mmap, section: Section) -> dict[int, set[Capability]]:
    """Return the compute capabilities that a section of fat binaries holds code for, by kind: PTX, CUBIN.

    A fat binary is a header (magic u32, version u16, own size u16, size of all entries u64) and entries, each a header
    (kind u16, version u16, own size u32, size of its code u64, ... at byte 28 the capability as u32, 53 for 5.3) and
    code. They stand at multiples of eight bytes.

    Raises:
        Missing: the section holds something else.
    """
    found: dict[int, set[Capability]] = {PTX: set(), CUBIN: set()}
    at, end = section[0], section[0] + section[1]
    while at + 16 <= end:
        magic, _, header, size = struct.unpack_from('<IHHQ', data, at)
        if magic == 0:  # padding
            at += 8
            continue
        entry, at = at + header, at + header + size
        if magic != FAT_BINARY or header < 16 or at > end:
            raise Missing('its fat binaries are not as expected; list them with cuobjdump')
        while entry + 32 <= at:
            kind, _, header, size = struct.unpack_from('<HHIQ', data, entry)
            if header < 32 or entry + header + size > at:
                raise Missing('its fat binaries are not as expected; list them with cuobjdump')
            found.setdefault(kind, set()).add(divmod(struct.unpack_from('<I', data, entry + 28)[0], 10))
            entry += header + size
        at = (at + 7) // 8 * 8
    return found


def code_for(capability: Capability, found: dict[int, set[Capability]]) -> str:
    """Return how a device of this compute capability runs the code of `fat_binaries`.

    Raises:
        Missing: it can't.
    """
    major, minor = capability
    native = [c for c in found[CUBIN] if c[0] == major and c[1] <= minor]
    if native:
        return f'machine code for {number(max(native))}'
    portable = [c for c in found[PTX] if c <= capability]
    if portable:
        return f'PTX of {number(max(portable))}, which the driver translates at the first start (minutes, once)'
    raise Missing(f'no code for compute capability {number(capability)}; take another device or another MindSpore')


def number(capability: Capability) -> str:
    """Return a compute capability as NVIDIA writes it."""
    return f'{capability[0]}.{capability[1]}'


def release(code: int) -> str:
    """Return CUDA's number of a release, such as 11060, as text."""
    return f'{code // 1000}.{code % 1000 // 10}'


class Wheel:
    """The installed MindSpore's files.

    Raises:
        Missing: there is no MindSpore, or it has no GPU plugin.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec('mindspore')
        if spec is None or spec.origin is None:
            raise Missing("no MindSpore; run 'bash scripts/setup_env.sh --stack gpu110' and name its Python in PYTHON")
        self.lib = Path(spec.origin).parent / 'lib'
        self.plugin = self.file('libmindspore_gpu.so*')

    def file(self, pattern: str) -> Path:
        """Return the last of the library files of this name.

        Raises:
            Missing: there is none.
        """
        found = sorted(self.lib.rglob(pattern))
        if not found:
            raise Missing(f'{self.lib}: no {pattern}; PYTHON=.venv-gpu110/bin/python names a MindSpore for GPUs')
        return found[-1]

    def needed(self) -> list[str]:
        """Return the names of the libraries from outside that its GPU files load: CUDA's, cuDNN, MPI."""
        names = []
        for path in (self.plugin, self.file('libcuda_ops.so*'), *self.lib.rglob('lib*_collective.so*')):
            with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                names += dynamic(data, (NEEDED,))
        return sorted({name for name in names if re.match(r'lib(cu|nv|mpi\.)', name) and not any(
            path.name == name for path in self.lib.rglob(name))})

    def cuda(self) -> str:
        """Return the release of CUDA that it was built with, which stands in the path where it looks for libraries."""
        with self.plugin.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return max(re.findall(r'/cuda-([\d.]+)/', ''.join(dynamic(data, (RPATH, RUNPATH)))), default='unknown')

    def code(self, pattern: str) -> dict[int, set[Capability]]:
        """Return `fat_binaries` of a library file."""
        path = self.file(pattern)
        with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            section = sections(data).get('.nv_fatbin')
            if section is None:
                raise Missing(f'{path}: no section .nv_fatbin; install the wheel again')
            return fat_binaries(data, section)


def load(library: str | Path) -> ctypes.CDLL:
    """Return a library.

    Raises:
        Missing: the loader does not find it, or what it needs.
    """
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise Missing(f'cannot be loaded ({error}); see docs/install.md, "A machine with GPUs"') from error


def version(library: str | Path, function: str) -> int:
    """Return what a library's function says of its version, either as its value or through its argument.

    Raises:
        Missing: the library can't be loaded, or has no such function.
    """
    call = getattr(load(library), function, None)
    if call is None:
        raise Missing(f'has no {function}; another library is in its place')
    if function == 'cudnnGetVersion':
        call.restype = ctypes.c_size_t
        return call()
    found = ctypes.c_int()
    if status := call(ctypes.byref(found)):
        raise Missing(f'{function} gave error {status}; look at nvidia-smi')
    return found.value


def devices() -> list[Device]:
    """Return the devices that the driver shows this process.

    Raises:
        Missing: there is no driver, or it refuses.
    """
    driver, count = load('libcuda.so.1'), ctypes.c_int()
    for status in (driver.cuInit(0), driver.cuDeviceGetCount(ctypes.byref(count))):
        if status:
            raise Missing(f'the driver gave error {status}; look at nvidia-smi')
    found = []
    for index in range(count.value):
        name, parts = ctypes.create_string_buffer(256), (ctypes.c_int(), ctypes.c_int())
        driver.cuDeviceGetName(name, 256, index)
        for part, attribute in zip(parts, (MAJOR, MINOR)):
            driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, index)
        found.append(Device(name.value.decode(errors='replace'), (parts[0].value, parts[1].value)))
    return found
