"""Results of worker processes: their order, their memory, and what deaths and errors do."""
from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.common.errors import InputError
from src.mmpose.workers import AHEAD, LENT, Arrays, Workers

ROOT = Path(__file__).resolve().parents[2]
SHAPES = [(2, 3), (4,)]


def fill(arrays: Arrays, job: int) -> None:
    """Put the number of a job into both arrays; even jobs are faster."""
    time.sleep(0.002 * (job % 2))
    for array in arrays:
        array[...] = job


def numbers(results: list[Arrays]) -> list[int]:
    """The job that each of the results is of; checks shapes and that they are of one job."""
    for first, second in results:
        assert (first.shape, second.shape) == ((2, 3), (4,)) and first.dtype == second.dtype == np.float32
        assert (first == second[0]).all() and (second == second[0]).all()
    return [int(first[0, 0]) for first, _ in results]


@pytest.mark.parametrize('count', [0, 1, 3])
def test_results_come_in_order_and_stay_while_they_are_held(count: int) -> None:
    workers = Workers(count, SHAPES, fill)
    held = [list(workers.run(range(n))) for n in (0, 1, 40)]  # more than there are places
    again = list(workers.run(range(100, 105)))
    assert [numbers(results) for results in (*held, again)] == [[], [0], list(range(40)), list(range(100, 105))]


def test_memory_is_used_again_and_results_that_are_held_are_copies_in_the_end() -> None:
    workers = Workers(2, SHAPES, fill)
    assert len({first.ctypes.data for first, _ in workers.run(range(50))}) <= 2 * AHEAD + LENT
    held = list(workers.run(range(50)))
    assert sum(first.base is not None and first.base.base is not None for first, _ in held) == LENT
    part = held[0][1][2:]  # a part of a result holds all of it
    del held
    assert numbers(list(workers.run(range(60)))) == list(range(60)) and part.tolist() == [0, 0]


def test_the_rest_need_not_be_wanted() -> None:
    workers = Workers(2, SHAPES, fill)
    for start in (0, 10, 20):
        run = workers.run(range(start, start + 9))
        assert numbers([next(run), next(run)]) == [start, start + 1]
        del run
    assert numbers(list(workers.run(range(9)))) == list(range(9))


@pytest.mark.parametrize('job', [0, 3, 8])
def test_a_worker_that_dies_is_replaced(job: int, tmp_path: Path) -> None:
    def dies_once(arrays: Arrays, number: int) -> None:
        fill(arrays, number)
        if number == job and not (tmp_path / 'dead').exists():
            (tmp_path / 'dead').write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)

    workers = Workers(2, SHAPES, dies_once)
    assert numbers(list(workers.run(range(9)))) == list(range(9))
    assert int((tmp_path / 'dead').read_text()) != os.getpid()
    assert numbers(list(workers.run(range(9)))) == list(range(9))


@pytest.mark.parametrize('count', [1, 2])
def test_a_job_that_kills_its_workers_is_an_error(count: int) -> None:
    def dies(arrays: Arrays, number: int) -> None:
        fill(arrays, number)
        if number == 4:
            os._exit(3)

    run = Workers(count, SHAPES, dies).run(range(9))
    assert numbers([next(run) for _ in range(4)]) == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r'two data workers died at the same images \(exit status 3\).*--workers'):
        next(run)


@pytest.mark.parametrize('count', [0, 2])
@pytest.mark.parametrize('job', [4, 8])
def test_errors_of_jobs_are_raised_here(count: int, job: int) -> None:
    def fails(arrays: Arrays, number: Any) -> None:
        fill(arrays, number)
        if number == job:
            raise InputError('4.jpg: truncated')
        if number == 20:
            raise KeyError('of a step')

    workers = Workers(count, SHAPES, fails)
    with pytest.raises(InputError, match=r'^4\.jpg: truncated$'):
        list(workers.run(range(9)))
    with pytest.raises((RuntimeError, KeyError), match='of a step'):
        list(workers.run([1, 2, 20, 3]))
    assert numbers(list(workers.run(range(30, 39)))) == list(range(30, 39))


PARENT = '''
import os, signal, sys
from src.mmpose.workers import Workers
def fill(arrays, job):
    arrays[0][0] = os.getpid()
workers = Workers(2, [(2,)], fill)
other = Workers(1, [(2,)], fill)
run = workers.run(range(9))
print(os.getpid(), *(int(next(r)[0][0]) for r in (run, run, other.run(range(9)))), flush=True)
os.kill(os.getpid(), getattr(signal, sys.argv[1])) if len(sys.argv) > 1 else next(run)
'''


def is_running(process: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f'/proc/{process}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.parametrize('death', ['', 'SIGKILL', 'SIGTERM', 'SIGINT'])
def test_workers_end_with_their_parent(death: str, tmp_path: Path) -> None:
    # The file is no pipe: one would be open until the last process that has it is gone.
    with (tmp_path / 'said').open('w') as out:
        done = subprocess.run([sys.executable, '-c', PARENT, *([death] if death else [])], cwd=ROOT, timeout=60,
                              stdout=out, stderr=subprocess.DEVNULL,
                              # A job in the background would ignore the signal.
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert (done.returncode == 0) == (not death)
    parent, *children = map(int, (tmp_path / 'said').read_text().split())
    assert len({parent, *children}) == 4
    end = time.monotonic() + 10
    while any(map(is_running, children)):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_workers_hold_no_pipe_open() -> None:
    """As that to heartbeat.py, which ends when it is closed."""
    reader, writer = os.pipe()
    workers = Workers(2, SHAPES, fill)
    run = workers.run(range(9))
    next(run)
    os.close(writer)
    assert select.select([reader], [], [], 10)[0] and os.read(reader, 1) == b''
    os.close(reader)
    assert numbers(list(run)) == list(range(1, 9))


def test_a_ctrl_c_for_all_processes_is_left_to_the_first(tmp_path: Path) -> None:
    def pid(arrays: Arrays, number: int) -> None:
        fill(arrays, number)
        (tmp_path / str(os.getpid())).touch()

    workers = Workers(1, SHAPES, pid)
    run = workers.run(range(9))
    next(run)
    worker, = map(int, os.listdir(tmp_path))
    os.kill(worker, signal.SIGINT)
    assert numbers(list(run)) == list(range(1, 9)) and os.listdir(tmp_path) == [str(worker)]
