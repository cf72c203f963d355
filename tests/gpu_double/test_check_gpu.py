"""scripts/check_gpu.sh on a double of one and of two GPUs, and on a machine without any."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu_double.programs import ROOT, SETTINGS
from tests.gpu_double.test_double import pytestmark  # noqa: F401

SMALL = [word for key, value in SETTINGS.items() for word in (f'--{key}', value)]
OPTIONS = [*SMALL, '--train.batch_size', '4', '--workers', '0', '--compile_cache', 'false', '--steps', '6']


def check(environment: dict[str, str], report: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run the script; return its exit status and the lines of the report."""
    done = subprocess.run(['bash', str(ROOT / 'scripts/check_gpu.sh'), *arguments, '--output', str(report), *OPTIONS],
                          env={**os.environ, **environment, 'PYTHON': sys.executable},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = report.read_text().splitlines()
    assert done.stdout.splitlines()[:len(lines)] == lines and f'report: {report}' in done.stdout, done.stdout
    return done.returncode, lines


def one(lines: list[str], start: str) -> str:
    """Return the rest of the one line with this start."""
    [rest] = [line[len(start):] for line in lines if line.startswith(start)]
    return rest


def check_libraries(lines: list[str]) -> None:
    """Assert what the report says of the double's libraries and of the wheel's code."""
    assert 'built with CUDA 11.1' in lines[1]
    assert one(lines, 'ok: libcuda.so.1: ') == one(lines, 'ok: libcudart.so.11.0: ') == 'CUDA 11.6'
    assert one(lines, 'ok: libcudnn.so.8: ') == 'found, version code 8500'
    assert one(lines, 'ok: NCCL: ') == 'found, version code 2706'
    assert one(lines, 'device 0: ') == 'double of a GPU, compute capability 7.0'
    assert one(lines, 'ok: device 0, libcuda_ops.so: ').startswith('PTX of 5.3')


@pytest.mark.slow
def test_two_devices(double: dict[str, str], tmp_path: Path) -> None:
    if not shutil.which('mpirun'):
        pytest.skip('needs mpirun')
    status, lines = check({**double, 'GPU_DOUBLE_DEVICES': '3'}, tmp_path / 'report.txt', '2')
    assert status == 0, lines
    check_libraries(lines)
    assert one(lines, 'ok: devices: ') == '3 found, 2 used'
    assert one(lines, 'ok: device 1, libnccl.so: ') == 'machine code for 7.0'
    heatmaps, gradients = re.findall(r' by (\S+e-\d\d) of', one(lines, 'ok: heatmaps and gradients'))
    assert 0 < float(heatmaps) < 1e-4 and 0 < float(gradients) < 1e-4
    for start, begin in (('ok: 6 steps: ', '6 steps of 4 images for each of 1'),
                         ('ok: two ranks: ', '3 steps of 4 images for each of 2')):
        told = one(lines, start)
        [(milliseconds, images)] = re.findall(r': (\d+) ms/step, ([\d.]+) images/s \(the seed: 588 ms', told)
        assert told.startswith(begin) and float(milliseconds) > 0
        assert float(milliseconds) * float(images) == pytest.approx(8000 if '2,' in told else 4000, rel=0.05)
    assert lines[-1] == '0 checks failed'


def test_a_program_that_fails_is_reported_and_the_rest_goes_on(double: dict[str, str], tmp_path: Path) -> None:
    status, lines = check(double, tmp_path / 'report.txt', '--model.stage_blocks', 'none')
    check_libraries(lines)
    assert status == 1 and 'stage_blocks' in one(lines, 'FAIL: heatmaps and gradients beside those of the CPU: ')
    assert one(lines, 'FAIL: 6 steps: ').startswith('exit status 1: error: ')
    assert one(lines, 'not checked: two ranks: ') == 'one device'
    assert lines[-1] == '2 checks failed' and (tmp_path / 'report.logs/numbers_CPU.log').is_file()


def test_too_few_devices(double: dict[str, str], tmp_path: Path) -> None:
    status, lines = check(double, tmp_path / 'report.txt', '2')
    assert status == 1 and one(lines, 'FAIL: devices: ').startswith('1 found, 2 wanted; ')
    assert one(lines, 'not checked: 6 steps: ') == 'no device'


def test_without_cuda(tmp_path: Path) -> None:
    status, lines = check({'LD_LIBRARY_PATH': ''}, tmp_path / 'report.txt')
    assert status == 1 and one(lines, 'FAIL: libcuda.so.1: ').startswith('cannot be loaded (libcuda.so.1: ')
    assert one(lines, 'not checked: heatmaps and gradients beside those of the CPU: ') == 'no device'
