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
from collections.abc import Iterator
from pathlib import Path

SILENCE_LIMIT = 15.0  # seconds


@contextlib.contextmanager
def signs_of_life(folder: Path, rank: int, ranks: int) -> Iterator[None]:
    """Show in a folder shared by all ranks that this process lives, and end it when another is silent."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = map(str, (folder, rank, ranks, os.getpid(), SILENCE_LIMIT))
    process = subprocess.Popen([sys.executable, __file__, *arguments], stdin=subprocess.PIPE)
    try:
        yield
    finally:  # say that the rank ends as it should
        with contextlib.suppress(BrokenPipeError):
            process.communicate(b'done', timeout=10)


def _stopped(pid: int) -> bool:
    """Return whether a process is held by a signal or a debugger."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] in 'tT'
    except OSError:
        return False


def _read_signs(folder: Path, ranks: int) -> dict[int, float]:
    """Return when each rank gave its last sign, by the clock of the folder; without those that gave none."""
    signs = {}
    for rank in range(ranks):
        with contextlib.suppress(OSError):
            signs[rank] = (folder / str(rank)).stat().st_mtime
    return signs


def _longest_silence(signs: dict[int, float], old_signs: dict[int, float], rank: int) -> tuple[int, float]:
    """Return which other rank has been silent longest, and for how many seconds.

    A rank counts from its first new sign on: what an earlier, killed run left behind is no silence.
    """
    now = signs.get(rank, 0.0)
    ages = {other: now - sign for other, sign in signs.items() if other != rank and sign != old_signs.get(other)}
    return max(ages.items(), key=lambda item: item[1], default=(rank, 0.0))


def watch(folder: Path, rank: int, ranks: int, parent: int, limit: float) -> None:
    """Give and watch signs of life for rank `rank`, process `parent`, until that process ends."""
    sign, old_signs = folder / str(rank), _read_signs(folder, ranks)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    late, failed = 0, False
    while not select.select([sys.stdin], [], [], 1)[0]:
        if os.getppid() != parent:
            break
        if _stopped(parent):
            continue
        try:
            sign.touch()
        except OSError as error:  # the next may succeed
            if not failed:
                print(f'warning: rank {rank}: {sign} cannot be touched ({error.strerror})', file=sys.stderr)
            failed = True
        other, age = _longest_silence(_read_signs(folder, ranks), old_signs, rank)
        late = late + 1 if age > limit else 0
        if late > 3:  # once may be this machine, just awake again
            print(f'error: rank {other} has given no sign of life for {age:.0f} s: rank {rank} ends', file=sys.stderr)
            os.kill(parent, signal.SIGKILL)
            return
    with contextlib.suppress(OSError):
        sign.unlink()
    if sys.stdin.read() != 'done':
        print(f'error: rank {rank} (process {parent} on {socket.gethostname()}) is gone', file=sys.stderr)


if __name__ == '__main__':
    watch(Path(sys.argv[1]), *map(int, sys.argv[2:5]), float(sys.argv[5]))
