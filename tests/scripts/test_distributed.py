"""The distributed launcher: its command for mpirun, and msrun for real with a program that reports how it was called.

Training over several processes is in tests/programs/test_distributed.py.
"""
from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts.shell import assert_one_line_error, bare_path, run_script, write_executable

MINDSPORE = importlib.util.find_spec('mindspore')
needs_msrun = pytest.mark.skipif(
    MINDSPORE is None or not Path(MINDSPORE.origin).with_name('parallel').joinpath('cluster/run.py').exists(),
    reason='this MindSpore has no msrun (it came with 2.3)')
PROGRAM = '''
import json, os, sys
print(json.dumps({'arguments': sys.argv[1:], 'rank': os.environ.get('MS_NODE_ID')}))
'''


def launch(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return run_script(checkout / 'scripts/run_distributed_train_gpu.sh', *arguments, **environment)


@pytest.fixture
def mpirun(tmp_path: Path) -> str:
    """A PATH whose mpirun shows its environment and arguments and exits with status 5."""
    write_executable(tmp_path / 'bin/mpirun', '#!/bin/bash\necho "devices $CUDA_VISIBLE_DEVICES"\n'
                     'printf "<%s>" "$@"\necho\nexit 5\n')
    return f'{tmp_path / "bin"}:{os.environ["PATH"]}'


@pytest.mark.parametrize('arguments', [['0'], ['two'], [''], ['2', 'x'], ['2', '01']])
def test_bad_numbers_are_refused(checkout: Path, arguments: list[str]) -> None:
    assert_one_line_error(launch(checkout, *arguments), f"'{arguments[-1]}'")


def test_no_mpirun(checkout: Path, tmp_path: Path) -> None:
    assert_one_line_error(launch(checkout, '2', PATH=bare_path(tmp_path / 'bin')), 'mpirun')


def test_mpirun_gets_devices_program_and_options(checkout: Path, mpirun: str) -> None:
    process = launch(checkout, '3', '2', '--data_root', 'my data', PATH=mpirun)
    assert process.returncode == 5
    assert 'devices 2,3,4' in process.stdout
    log, = (checkout / 'logs').glob('distributed_*/all.log')
    call = f'<{sys.executable}><{checkout}/train.py><--distributed><--device><GPU><--data_root><my data>'
    assert '<-n><3>' in process.stdout and f'<--output-filename><{log.parent}>' in process.stdout
    assert call in process.stdout and call in log.read_text()


def test_devices_are_counted_within_the_inherited_ones(checkout: Path, mpirun: str) -> None:
    for inherited, devices in (('4,5,GPU-8f2e,7', '5,GPU-8f2e'), ('0, 2, 4', '2,4')):
        assert f'devices {devices}\n' in launch(checkout, '2', '1', PATH=mpirun, CUDA_VISIBLE_DEVICES=inherited).stdout
    for inherited in ('4,5', ''):
        process = launch(checkout, '2', '1', PATH=mpirun, CUDA_VISIBLE_DEVICES=inherited)
        assert_one_line_error(process, f"CUDA_VISIBLE_DEVICES='{inherited}'", 'RANK_SIZE 2', 'DEVICE_START 1')


@pytest.mark.skipif(not shutil.which('mpirun'), reason='no mpirun')
def test_ranks_under_mpirun_use_all_cores_and_may_be_more(checkout: Path) -> None:
    ranks = os.cpu_count() + 1
    (checkout / 'train.py').write_text(
        "import json, os, sys\nprint(json.dumps(dict(rank=os.environ['OMPI_COMM_WORLD_RANK'], arguments=sys.argv[1:],\n"
        "    devices=os.environ['CUDA_VISIBLE_DEVICES'], cores=len(os.sched_getaffinity(0)))))\n")
    process = launch(checkout, str(ranks), '6', '--tag', 'a b')
    assert process.returncode == 0, process.stderr
    # Two ranks may write into one line.
    calls = sorted(map(json.loads, re.findall(r'{.*?}', process.stdout)), key=lambda call: int(call['rank']))
    assert calls == [dict(rank=str(rank), arguments=['--distributed', '--device', 'GPU', '--tag', 'a b'],
                          devices=','.join(map(str, range(6, 6 + ranks))), cores=len(os.sched_getaffinity(0)))
                     for rank in range(ranks)]


@pytest.mark.skipif(not shutil.which('mpirun'), reason='no mpirun')
def test_error_of_a_rank_under_mpirun_is_the_last_line(checkout: Path) -> None:
    (checkout / 'train.py').write_text("import sys\nsys.exit('error: no such file')\n")
    process = launch(checkout, '2')
    assert process.returncode == 1
    assert process.stdout.splitlines()[-1] == 'error: no such file'


def test_several_machines(checkout: Path, mpirun: str) -> None:
    for inherited, devices in ((dict(CUDA_VISIBLE_DEVICES='2,3'), '2,3'), ({}, ','.join(map(str, range(16))))):
        process = launch(checkout, '16', HOSTFILE='my hosts', PATH=mpirun, **inherited)
        assert f'devices {devices}\n' in process.stdout
        assert '<-n><16><--bind-to><none><--hostfile><my hosts><-x><PATH>' in process.stdout
        assert '<-x><CUDA_VISIBLE_DEVICES>' in process.stdout


def test_cpu_without_msrun(checkout: Path, tmp_path: Path) -> None:
    write_executable(tmp_path / 'old/python', '#!/bin/bash\n')
    process = launch(checkout, '2', '--device', 'CPU', PYTHON=str(tmp_path / 'old/python'))
    assert_one_line_error(process, 'msrun', 'MindSpore 2.3')


def test_what_is_for_gpus_is_refused_on_the_cpu(checkout: Path) -> None:
    assert_one_line_error(launch(checkout, '2', '3', '--device', 'CPU'), 'DEVICE_START 3', 'omit')
    assert_one_line_error(launch(checkout, '2', '--device', 'CPU', HOSTFILE='my hosts'), 'HOSTFILE=my hosts', 'unset')


@needs_msrun
def test_cpu_starts_every_rank(checkout: Path) -> None:
    (checkout / 'train.py').write_text(PROGRAM)
    process = launch(checkout, '2', '0', '--device=CPU', '--tag', 'a b')
    assert process.returncode == 0, process.stderr
    logs, = (checkout / 'logs').glob('distributed_*')
    for rank in range(2):
        call = json.loads((logs / f'worker_{rank}.log').read_text().splitlines()[0])
        assert call == {'rank': str(rank), 'arguments': ['--distributed', '--device=CPU', '--tag', 'a b']}


@needs_msrun
def test_error_of_a_rank_is_shown(checkout: Path) -> None:
    (checkout / 'train.py').write_text("import os, sys\nif os.environ.get('MS_NODE_ID') == '1':\n"
                                       "    sys.exit('error: no such file')\n")
    process = launch(checkout, '2', '--device', 'CPU')
    assert process.returncode == 1
    assert 'error: no such file' in process.stdout.splitlines()
