"""Signs of life: stopped and vanished ranks are named, done ones are not."""
from __future__ import annotations

import os
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
with heartbeat.Heartbeat(Path(sys.argv[1]), int(sys.argv[2]), 2):
    print('up', flush=True)
    time.sleep(float(sys.argv[3]))
'''


def rank(folder: Path, number: int, seconds: float) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, '-c', RANK, str(folder), str(number), str(seconds)], cwd=ROOT,
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == 'up\n'
    return process


def test_ranks_that_end_leave_nothing_and_say_nothing(tmp_path: Path) -> None:
    ranks = [rank(tmp_path / 'ranks', number, 3) for number in range(2)]
    assert [process.communicate(timeout=30)[1] for process in ranks] == ['', '']
    assert not list((tmp_path / 'ranks').iterdir())


def test_a_rank_that_vanishes_is_named(tmp_path: Path) -> None:
    process = rank(tmp_path, 1, 60)
    process.kill()
    assert process.communicate(timeout=30)[1].startswith(f'error: rank 1 (process {process.pid} on ')


@pytest.mark.slow
def test_a_stopped_rank_is_named_and_its_fellow_ended(tmp_path: Path) -> None:
    fellow, stopped = rank(tmp_path, 0, 90), rank(tmp_path, 1, 90)
    time.sleep(3)
    stopped.send_signal(signal.SIGSTOP)
    began = time.time()
    said = fellow.communicate(timeout=60)[1]
    assert fellow.returncode == -signal.SIGKILL and time.time() - began < 45
    assert said.startswith('error: rank 1 has given no sign of life for')
    os.kill(stopped.pid, signal.SIGKILL)
    stopped.communicate()
