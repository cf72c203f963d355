"""Signs of life: stopped and vanished ranks are named, done ones are not."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.programs.test_programs import ROOT

RANK = '''
import sys, time
from pathlib import Path
from src.training import heartbeat
heartbeat.SILENCE_LIMIT = 3.0
with heartbeat.signs_of_life(Path(sys.argv[1]), int(sys.argv[2]), 2):
    print('up', flush=True)
    time.sleep(float(sys.argv[3]))
'''


def rank(folder: Path, number: int, seconds: float) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, '-c', RANK, str(folder), str(number), str(seconds)], cwd=ROOT,
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == 'up\n'
    return process


def wait_for(path: Path, seconds: float = 20) -> None:
    end = time.time() + seconds
    while not path.exists():
        assert time.time() < end, f'{path} did not appear'
        time.sleep(0.1)


def test_ranks_that_end_leave_nothing_and_say_nothing(tmp_path: Path) -> None:
    ranks = [rank(tmp_path / 'ranks', number, 3) for number in range(2)]
    assert [process.communicate(timeout=30)[1] for process in ranks] == ['', '']
    assert not list((tmp_path / 'ranks').iterdir())


def test_a_rank_that_vanishes_is_named(tmp_path: Path) -> None:
    process = rank(tmp_path, 1, 60)
    process.kill()
    assert process.communicate(timeout=30)[1].startswith(f'error: rank 1 (process {process.pid} on ')


@pytest.mark.slow
def test_a_stopped_rank_is_named_and_the_other_ended(tmp_path: Path) -> None:
    other, stopped = rank(tmp_path, 0, 90), rank(tmp_path, 1, 90)
    time.sleep(3)
    stopped.send_signal(signal.SIGSTOP)
    message = other.communicate(timeout=60)[1]
    assert other.returncode == -signal.SIGKILL
    assert message.startswith('error: rank 1 has given no sign of life for')
    os.kill(stopped.pid, signal.SIGKILL)
    stopped.communicate()


@pytest.mark.slow
def test_what_a_killed_run_left_ends_nobody_and_its_successor_is_watched(tmp_path: Path) -> None:
    (tmp_path / '1').touch()
    os.utime(tmp_path / '1', (0, 0))
    first = rank(tmp_path, 0, 90)
    time.sleep(9)  # beyond the limit and the four looks after it
    assert first.poll() is None
    second = rank(tmp_path, 1, 90)
    time.sleep(3)
    second.send_signal(signal.SIGSTOP)
    assert first.communicate(timeout=60)[1].startswith('error: rank 1 has given no sign of life for')
    second.kill()
    second.communicate()


def test_a_sign_that_cannot_be_given_is_not_the_last(tmp_path: Path) -> None:
    folder = tmp_path / 'ranks'
    process = rank(folder, 0, 60)
    wait_for(folder / '0')
    shutil.rmtree(folder)
    time.sleep(3)
    folder.mkdir()
    wait_for(folder / '0')
    process.kill()
    message = process.communicate(timeout=30)[1]
    assert message.count('cannot be touched (No such file or directory)') == 1 and 'Traceback' not in message
