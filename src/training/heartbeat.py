"""Signs of life between the ranks of a data-parallel training.

A small process beside each rank (of its own, so that a rank held up in compiled code still shows life) touches a file
in a folder that all ranks share, as long as its rank runs, and watches those of the others. A rank that is gone, or
stopped, is named, and the other ranks are ended rather than left waiting for ever; the launcher then ends the rest.
"""
from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SILENCE_LIMIT = 15.0  # seconds


class Heartbeat(contextlib.AbstractContextManager):
    """Shows, from its making to the end of its context, that this process lives; ends it when another rank is silent.

    Args:
        folder: shared by all ranks.
        rank: number of this process.
        ranks: number of processes.
    """

    def __init__(self, folder: Path, rank: int, ranks: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        words = [str(folder), str(rank), str(ranks), str(os.getpid())]
        self._process = subprocess.Popen([sys.executable, __file__, *words], stdin=subprocess.PIPE)

    def __exit__(self, *error: object) -> None:
        """Say that the rank ends as it should."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(b'done', timeout=10)


def _stopped(pid: int) -> bool:
    """Return whether a process is held by a signal or a debugger."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] in 'tT'
    except OSError:
        return False


def _silent(folder: Path, rank: int, ranks: int) -> tuple[int, float]:
    """Return which other rank has been silent longest, and for how many seconds, by the clock of the folder."""
    now = (folder / str(rank)).stat().st_mtime
    ages = {other: now - (folder / str(other)).stat().st_mtime for other in range(ranks)
            if other != rank and (folder / str(other)).exists()}
    return max(((other, age) for other, age in ages.items()), key=lambda pair: pair[1], default=(rank, 0.0))


def watch(folder: Path, rank: int, ranks: int, parent: int, limit: float = SILENCE_LIMIT) -> None:
    """Give and watch signs of life for rank `rank`, process `parent`, until that process ends."""
    sign = folder / str(rank)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    began, late = time.time(), 0
    while not select.select([sys.stdin], [], [], 1)[0]:
        if os.getppid() != parent:
            break
        if _stopped(parent):
            continue
        sign.touch()
        other, age = _silent(folder, rank, ranks)
        late = late + 1 if age > limit and time.time() - began > limit else 0
        if late > 3:  # once may be this machine, just awake again
            print(f'error: rank {other} has given no sign of life for {age:.0f} s: rank {rank} ends', file=sys.stderr)
            os.kill(parent, signal.SIGKILL)
            return
    sign.unlink(missing_ok=True)
    if sys.stdin.read() != 'done':
        print(f'error: rank {rank} (process {parent} on {socket.gethostname()}) is gone', file=sys.stderr)


if __name__ == '__main__':
    watch(Path(sys.argv[1]), *map(int, sys.argv[2:]))
