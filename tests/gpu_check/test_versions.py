"""Files of CUDA's kinds made by hand, and the wheel's own where it is mindspore-gpu 1.10."""
from __future__ import annotations

import struct
from pathlib import Path

import pytest

from src.common.compat import VERSION, built_for
from src.gpu_check.versions import (
    CUBIN,
    FAT_BINARY,
    NEEDED,
    PTX,
    RPATH,
    Missing,
    Wheel,
    code_for,
    dynamic,
    fat_binaries,
    load,
    release,
    sections,
)


def entry(kind: int, arch: int, code: bytes, header: int = 64) -> bytes:
    """An entry of a fat binary."""
    return struct.pack('<HHIQ12xI', kind, 0x101, header, len(code), arch).ljust(header, b'\xaa') + code


def fat_binary(*entries: bytes) -> bytes:
    """A fat binary of these entries."""
    return struct.pack('<IHHQ', FAT_BINARY, 1, 16, sum(map(len, entries))) + b''.join(entries)


def elf(**contents: bytes) -> bytes:
    """An ELF file with these sections, `_` for the dot of their names."""
    names = b'\0' + b''.join(f'.{name}\0'.encode() for name in contents) + b'.shstrtab\0'
    body, headers, name_at = b'', [bytes(64)], 1
    for name, content in [*contents.items(), ('shstrtab', names)]:
        headers.append(struct.pack('<IIQQQQ', name_at, 1, 0, 0, 64 + len(body), len(content)).ljust(64, b'\0'))
        body += content
        name_at += len(name) + 2
    start = b'\x7fELF\x02\x01'.ljust(40, b'\0') + struct.pack('<Q10xHHH', 64 + len(body), 64, len(headers),
                                                             len(headers) - 1)
    return start.ljust(64, b'\0') + body + b''.join(headers)


def test_fat_binaries_are_read_entry_by_entry() -> None:
    first = fat_binary(entry(CUBIN, 70, b'c' * 24), entry(PTX, 70, b'p' * 9, header=72))
    padding = bytes(-len(first) % 8 + 16)
    section = first + padding + fat_binary(entry(CUBIN, 86, b''), entry(CUBIN, 100, b'x' * 8))
    found = fat_binaries(b'8 before' + section + b'after', (8, len(section)))
    assert found == {PTX: {(7, 0)}, CUBIN: {(7, 0), (8, 6), (10, 0)}}


@pytest.mark.parametrize('section', [b'\x50' * 64, fat_binary(entry(CUBIN, 70, b''))[:-1],
                                     fat_binary(entry(CUBIN, 70, b'', header=64)[:40])])
def test_what_is_no_fat_binary_is_refused(section: bytes) -> None:
    with pytest.raises(Missing, match='cuobjdump'):
        fat_binaries(section, (0, len(section)))


@pytest.mark.parametrize(('capability', 'answer'), [((7, 0), 'machine code for 7.0'), ((7, 5), 'machine code for 7.0'),
                                                    ((8, 0), 'PTX of 7.0'), ((6, 1), None), ((5, 2), None)])
def test_code_for_a_device(capability: tuple[int, int], answer: str | None) -> None:
    found = {PTX: {(7, 0)}, CUBIN: {(7, 0), (6, 2)}}
    if answer:
        assert code_for(capability, found).startswith(answer)
    else:
        with pytest.raises(Missing, match=f'no code for compute capability {capability[0]}.{capability[1]}'):
            code_for(capability, found)


def test_sections_and_needed_libraries() -> None:
    strings = b'\0libcudart.so.11.0\0libm.so.6\0$ORIGIN:/usr/local/cuda-11.1/lib64\0'
    rows = [(NEEDED, 1), (RPATH, strings.index(b'$')), (NEEDED, strings.index(b'libm')), (0, 0)]
    data = elf(dynstr=strings, dynamic=b''.join(struct.pack('<qQ', *row) for row in rows), nv_fatbin=b'12345')
    assert data[slice(*(lambda begin, size: (begin, begin + size))(*sections(data)['.nv_fatbin']))] == b'12345'
    assert dynamic(data, (NEEDED,)) == ['libcudart.so.11.0', 'libm.so.6']
    assert dynamic(data, (RPATH,)) == ['$ORIGIN:/usr/local/cuda-11.1/lib64']


def test_what_is_no_elf_file_is_refused() -> None:
    with pytest.raises(Missing, match='no 64-bit ELF file'):
        sections(b'MZ' + bytes(100))


def test_a_missing_library_is_named() -> None:
    with pytest.raises(Missing, match=r'cannot be loaded \(libabsent.so.1: .*install.md'):
        load('libabsent.so.1')


def test_releases_of_cuda() -> None:
    assert (release(11060), release(12080), release(9020)) == ('11.6', '12.8', '9.2')


@pytest.mark.skipif(VERSION[:2] != (1, 10) or not built_for('GPU'), reason='needs mindspore-gpu 1.10')
def test_the_wheel() -> None:
    wheel = Wheel()
    assert wheel.cuda() == '11.1' and wheel.plugin.name == 'libmindspore_gpu.so'
    assert {'libcuda.so.1', 'libcudart.so.11.0', 'libcudnn.so.8', 'libmpi.so.40'} <= set(wheel.needed())
    assert wheel.code('libcuda_ops.so*') == {PTX: {(5, 3)}, CUBIN: {(5, 3)}}
    nccl = wheel.code('libnccl.so*')
    assert code_for((7, 0), nccl) == 'machine code for 7.0'
    with pytest.raises(Missing, match=r'9\.0'):
        code_for((9, 0), nccl)


def test_a_wheel_without_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'mindspore').mkdir()
    (tmp_path / 'mindspore/__init__.py').touch()
    monkeypatch.setattr('importlib.util.find_spec', lambda name: type('Spec', (), {
        'origin': str(tmp_path / name / '__init__.py')}))
    with pytest.raises(Missing, match=r'no libmindspore_gpu.so\*'):
        Wheel()
