"""Two ranks under Open MPI's mpirun in the double of CUDA: devices, weights, logs, signals."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src.training.saving import find_valid_states
from tests.gpu_double.programs import ROOT, Programs
from tests.gpu_double.test_double import pytestmark as needs_double
from tests.programs.test_distributed import WORKER, assert_nothing_left, running
from tests.training.test_saving import LOGGER, NAME

pytestmark = [needs_double, pytest.mark.slow, pytest.mark.skipif(not shutil.which('mpirun'), reason='no mpirun')]
SCRIPT = ROOT / 'scripts/run_distributed_train_gpu.sh'
CPU_PYTHON = ROOT / '.venv/bin/python'


@pytest.fixture
def two_devices(double: dict[str, str]) -> dict[str, str]:
    return {**double, 'GPU_DOUBLE_DEVICES': '2'}


def launch(options: list[str], environment: dict[str, str]) -> Path:
    """Run the script to its end and return its folder of logs."""
    done = subprocess.run(['bash', str(SCRIPT), *options], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout[-3000:]
    return Path(done.stdout.splitlines()[0].partition('log: ')[2]).parent


def test_ranks_have_the_devices_asked_for_and_the_losses_of_ranks_on_the_cpu(
        programs: Programs, double: dict[str, str]) -> None:
    environment = {**double, 'PYTHON': sys.executable, 'GPU_DOUBLE_DEVICES': '4',
                   'GPU_DOUBLE_TRACE': str(programs.folder / 'ranks.trace')}
    more = ('--max_steps', '5', '--eval_interval', '1')
    logs = launch(['2', '2', *programs.train_options('GPU', 'ranks', *more)], environment)
    assert programs.rows('GPU', 'ranks')[1]['learning_rate'] == str(float(np.float32(2e-3)))  # 1e-3 times two ranks
    trace = programs.trace('ranks')
    assert all(trace[f'call ncclCommInitRank(rank {rank} of 2 on device {2 + rank})'] == 1 for rank in range(2))
    assert {name for name in trace if 'cudaSetDevice' in name} == {'call cudaSetDevice(2)', 'call cudaSetDevice(3)'}
    evaluating = [path for path in programs.folder.glob('ranks.trace.*') if 'ForwardInference' in path.read_text()]
    assert len(evaluating) == 1 and 'AP 0.' in (logs / '1/rank.0/stdout').read_text()
    assert 'first step' in (logs / '1/rank.0/stdout').read_text() and (logs / '1/rank.1/stdout').is_file()
    if not CPU_PYTHON.is_file():
        pytest.skip('no default stack to compare with')
    plain = {name: value for name, value in os.environ.items() if name not in ('LD_LIBRARY_PATH', 'PYTHONPATH')}
    done = subprocess.run(['bash', str(SCRIPT), '2', *programs.train_options('CPU', 'ranks', *more)], timeout=300,
                          env={**plain, 'PYTHON': str(CPU_PYTHON)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    np.testing.assert_allclose(programs.losses('GPU', 'ranks'), programs.losses('CPU', 'ranks'), rtol=1e-4)


@pytest.mark.parametrize('kind', ['plain', 'bn'])
def test_ranks_end_with_the_same_weights_those_of_the_joined_batch(two_devices: dict[str, str], tmp_path: Path,
                                                                   kind: str) -> None:
    subprocess.run([sys.executable, str(WORKER), str(tmp_path), kind, '6', '8'], check=True, timeout=160)
    subprocess.run(['mpirun', '-n', '2', '--bind-to', 'none', '--allow-run-as-root', sys.executable, str(WORKER),
                    str(tmp_path), kind, '6', '4', 'GPU'], check=True, timeout=120, env={**os.environ, **two_devices})
    one, *two = (dict(np.load(tmp_path / f'{name}.npz')) for name in ('rank0_of_1', 'rank0_of_2', 'rank1_of_2'))
    for name, value in one.items():
        if 'moving' not in name:
            np.testing.assert_array_equal(two[0][name], two[1][name], err_msg=name)
        if kind == 'plain':  # with BN each rank normalises by its own half
            np.testing.assert_allclose(two[0][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(('sent', 'words'), [(signal.SIGKILL, 'is gone'), (signal.SIGSTOP, 'no sign of life for')])
def test_a_rank_that_dies_or_hangs_ends_the_others_by_name(synthetic: Path, tmp_path: Path, sent: signal.Signals,
                                                           two_devices: dict[str, str], words: str) -> None:
    with running(synthetic, tmp_path, 'GPU', two_devices) as run:
        os.kill(run.rank(1), sent)
        assert run.script.wait(timeout=90) not in (0, None)
        said = [line for line in run.log.read_text().splitlines() if line.startswith('error: rank 1 ')]
        assert said and words in said[0], run.log.read_text()[-2000:]
        assert_nothing_left(run)


@pytest.mark.parametrize(('sent', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_script_saves_and_ends_all(synthetic: Path, tmp_path: Path, sent: signal.Signals, status: int,
                                                   two_devices: dict[str, str]) -> None:
    with running(synthetic, tmp_path, 'GPU', two_devices) as run:
        run.script.send_signal(sent)
        assert run.script.wait(timeout=90) == status
        assert 'SIGUSR1 after step' in run.log.read_text()
        assert len(find_valid_states(tmp_path / 'checkpoints/tiny' / f'{NAME}.ckpt', LOGGER)) == 1
        assert_nothing_left(run)
