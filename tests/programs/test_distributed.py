"""Two processes on the CPU: equal to one with the joined batch; a rank that dies or hangs; signals; heartbeat."""
from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from src.training.saving import find_valid_states
from tests.programs.test_programs import ROOT, train_options
from tests.scripts.test_distributed import needs_msrun
from tests.training.test_saving import LOGGER, NAME

pytestmark = [pytest.mark.slow, needs_msrun]
WORKER = ROOT / 'tests/distributed_worker.py'


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def train_both_ways(folder: Path, kind: str, steps: int) -> tuple[dict, dict, list[dict]]:
    """Parameters before, after `steps` steps of 8 samples in one process, and in two of 4 samples each."""
    subprocess.run([sys.executable, str(WORKER), str(folder), kind, str(steps), '8'], check=True, timeout=160)
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    subprocess.run([sys.executable, '-m', 'mindspore.parallel.cluster.run', '--worker_num=2', '--local_worker_num=2',
                    '--master_addr=127.0.0.1', f'--master_port={free_port()}', f'--log_dir={folder}', '--join=True',
                    str(WORKER), str(folder), kind, str(steps), '4', 'CPU'], check=True, timeout=160,
                   env={**os.environ, 'PATH': path}, stdout=subprocess.DEVNULL)
    before, one, *two = (dict(np.load(folder / f'{name}.npz')) for name in (
        'before', 'rank0_of_1', 'rank0_of_2', 'rank1_of_2'))
    return before, one, two


def test_two_ranks_give_the_weights_of_the_joined_batch(tmp_path: Path) -> None:
    before, one, two = train_both_ways(tmp_path, 'plain', 6)
    for name, value in one.items():
        assert np.abs(value - before[name]).max() > 1e-3, name  # it did learn
        np.testing.assert_array_equal(two[0][name], two[1][name], err_msg=name)
        np.testing.assert_allclose(two[0][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_with_batch_normalisation_the_ranks_agree_and_statistics_add_up(tmp_path: Path) -> None:
    """Each rank normalises by its own half of the batch, so gradients differ from those of the joined batch (as in
    PyTorch without SyncBN). All ranks apply the same mean gradient: what is trained stays identical. Statistics are
    each rank's own; their mean is that of the joined batch while the weights are equal, and close to it soon after."""
    before, one, two = train_both_ways(tmp_path, 'bn', 2)
    moved = np.linalg.norm(one['first.weight'] - before['first.weight'])
    for name in one:
        if 'moving' not in name:
            np.testing.assert_array_equal(two[0][name], two[1][name], err_msg=name)
    assert 0 < np.linalg.norm(two[0]['first.weight'] - one['first.weight']) < 0.5 * moved
    assert not np.array_equal(two[0]['bn.moving_mean'], two[1]['bn.moving_mean'])
    mean = (two[0]['bn.moving_mean'] + two[1]['bn.moving_mean']) / 2
    np.testing.assert_allclose(mean, one['bn.moving_mean'], atol=0.01 * np.abs(one['bn.moving_mean']).max() + 1e-3)


class Run:
    """The script with two ranks of train.py, its output so far, and all processes that it has started."""

    def __init__(self, data: Path, output: Path, device: str = 'CPU', environment: Mapping[str, str] = {}) -> None:
        self.mark, self.log = f'LITE_HRNET_TEST={uuid.uuid4()}', output / 'said.txt'
        self.rank_variable = {'CPU': 'MS_NODE_ID', 'GPU': 'OMPI_COMM_WORLD_RANK'}[device]
        options = train_options(data, output, '--train.epochs', '100000', '--train.batch_size', '2',
                                '--checkpoint_interval', '100000', '--device', device)
        name, _, value = self.mark.partition('=')
        with self.log.open('w') as log:
            self.script = subprocess.Popen(
                ['bash', str(ROOT / 'scripts/run_distributed_train_gpu.sh'), '2', *options], stdout=log, stderr=log,
                start_new_session=True, env={**os.environ, **environment, name: value, 'PYTHON': sys.executable},
                # A job in the background would ignore the signal.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def processes(self) -> dict[int, dict[str, str]]:
        """Environment of every living process that came of it."""
        found = {}
        for path in Path('/proc').glob('[0-9]*/environ'):
            try:
                words = path.read_bytes().decode(errors='replace').split('\0')
            except OSError:
                continue
            if self.mark in words:
                found[int(path.parent.name)] = dict(word.partition('=')[::2] for word in words)
        return found

    def rank(self, number: int) -> int:
        """Process of a rank: the first of those that bear its number."""
        return min(pid for pid, values in self.processes().items() if values.get(self.rank_variable) == str(number)
                   and 'train.py' in Path(f'/proc/{pid}/cmdline').read_text())

    def wait_for(self, words: str, seconds: float = 180) -> None:
        end = time.time() + seconds
        while words not in self.log.read_text():
            assert self.script.poll() is None and time.time() < end, self.log.read_text()[-2000:]
            time.sleep(0.2)


@contextmanager
def running(data: Path, output: Path, device: str = 'CPU', environment: Mapping[str, str] = {}) -> Iterator[Run]:
    """A run in its second epoch; nothing of it is left afterwards."""
    run = Run(data, output, device, environment)
    try:
        run.wait_for('epoch 2:')
        yield run
    finally:
        for pid in run.processes():
            os.kill(pid, signal.SIGKILL)
        run.script.wait()


def assert_nothing_left(run: Run, port: int | None = None) -> None:
    end = time.time() + 5
    while run.processes() and time.time() < end:
        time.sleep(0.2)
    assert not run.processes()
    if port is None:
        return
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(('127.0.0.1', port))


@pytest.mark.parametrize(('sent', 'words'), [(signal.SIGKILL, 'is gone'), (signal.SIGSTOP, 'no sign of life for')])
def test_a_rank_that_dies_or_hangs_ends_the_others_by_name(synthetic: Path, tmp_path: Path, sent: signal.Signals,
                                                           words: str) -> None:
    with running(synthetic, tmp_path) as run:
        port = int(run.processes()[run.rank(1)]['MS_SCHED_PORT'])
        os.kill(run.rank(1), sent)
        assert run.script.wait(timeout=90) == 1
        said = [line for line in run.log.read_text().splitlines() if line.startswith('error: rank 1 ')]
        assert said and words in said[0], run.log.read_text()[-2000:]
        assert_nothing_left(run, port)


@pytest.mark.parametrize(('sent', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_script_saves_and_ends_all(synthetic: Path, tmp_path: Path, sent: signal.Signals,
                                                   status: int) -> None:
    with running(synthetic, tmp_path) as run:
        port = int(run.processes()[run.rank(1)]['MS_SCHED_PORT'])
        run.script.send_signal(sent)
        assert run.script.wait(timeout=90) == status
        logs = Path(run.log.read_text().splitlines()[0].partition('log: ')[2]).parent
        assert 'SIGTERM after step' in (logs / 'worker_0.log').read_text()
        assert len(find_valid_states(tmp_path / 'checkpoints/tiny' / f'{NAME}.ckpt', LOGGER)) == 1
        assert_nothing_left(run, port)
