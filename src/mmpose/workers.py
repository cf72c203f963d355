"""Processes that fill arrays in a memory they share with this one, in the order in which their jobs come."""
from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import signal
import traceback
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Callable

import numpy as np

from src.common.errors import InputError

# A worker is a fork. Were it to collect what this process has left over, among it an iterator of MindSpore's, that
# would wait there for threads that the fork doesn't have, or crash. So workers leave it alone.
os.register_at_fork(before=gc.freeze, after_in_parent=gc.unfreeze)

AHEAD = 2  # jobs that a worker has at a time: the next is there when one is done
LENT = 6  # results that may be in use without being copied

Arrays = tuple[np.ndarray, ...]
Fill = Callable[[Arrays, Any], None]


class _Places:
    """Places for arrays float32 of the same shapes, in memory that forks share and /dev/shm does not limit."""

    def __init__(self, count: int, shapes: Sequence[tuple[int, ...]]) -> None:
        self._shapes, self._ends = shapes, np.cumsum([np.prod(shape) for shape in shapes])
        self._memory = mmap.mmap(-1, 4 * count * int(self._ends[-1]))
        self.free = list(range(count))  # the last used is the next: it may be in the cache

    def arrays(self, place: int, lend: bool = False) -> Arrays:
        """Return the arrays of a place; with `lend`, it is free as soon as nobody has any of them."""
        size = int(self._ends[-1])
        whole = np.frombuffer(self._memory, np.float32, size, 4 * place * size)
        if lend:
            weakref.finalize(whole, self.free.append, place).atexit = False
        return tuple(part.reshape(shape) for part, shape in zip(np.split(whole, self._ends[:-1]), self._shapes))


class Workers:
    """Processes that run one function; each job goes to the next of them in turn.

    They are made for the first job. One that dies is replaced and its jobs are given to the new one, once.
    """

    def __init__(self, count: int, shapes: Sequence[tuple[int, ...]], fill: Fill) -> None:
        """Make the memory for results, and no process yet.

        Args:
            count: processes; 0 runs the function in this one.
            shapes: of a job's results.
            fill: puts the results of a job into arrays float32 of these shapes.
        """
        self._count, self._shapes, self._fill = count, shapes, fill
        self._places = _Places(AHEAD * count + LENT, shapes) if count else None
        self._workers: list[_Worker] = []

    def run(self, jobs: Iterable[Any]) -> Iterator[Arrays]:
        """Yield the results of each job, in order.

        Raises:
            InputError: a job's; or workers die, two in a row at the same job.
        """
        if not self._count:
            for job in jobs:
                arrays = tuple(np.empty(shape, np.float32) for shape in self._shapes)
                self._fill(arrays, job)
                yield arrays
            return
        while len(self._workers) < self._count:
            self._workers.append(_Worker(lambda place, job: self._fill(self._places.arrays(place), job)))
        busy: deque[_Worker] = deque()
        try:
            for number, job in enumerate(jobs):
                busy.append(self._workers[number % self._count])
                busy[-1].give(self._places.free.pop(), job)
                if len(busy) == AHEAD * self._count:
                    yield self._results(busy.popleft().take(), len(busy))
            while busy:
                yield self._results(busy.popleft().take(), len(busy))
        finally:
            if any(worker.jobs for worker in self._workers):  # an error, or nobody wants the rest
                for worker in self._workers:
                    worker.kill()
                    self._places.free.extend(place for place, _ in worker.jobs)
                self._workers.clear()

    def _results(self, place: int, busy: int) -> Arrays:
        """Return the arrays of a place; copies, where lending it would leave too few for the jobs that workers have."""
        if len(self._places.free) + busy >= AHEAD * self._count:
            return self._places.arrays(place, lend=True)
        copies = tuple(map(np.copy, self._places.arrays(place)))
        self._places.free.append(place)
        return copies


class _Worker:
    """One process.

    Attributes:
        jobs: that it has, each with the place for its results.
    """

    def __init__(self, fill: Callable[[int, Any], None]) -> None:
        self._fill = fill
        self.jobs: deque[tuple[int, Any]] = deque()
        self._start()

    def _start(self) -> None:
        """Start the process, or the one in place of it that died."""
        self._connection, end = multiprocessing.Pipe()
        self._process = multiprocessing.get_context('fork').Process(target=_serve, args=(self._fill, end), daemon=True)
        self._process.start()
        end.close()

    def give(self, *job: Any) -> None:
        """Send the process a place and a job."""
        self.jobs.append(job)
        with suppress(OSError):  # it is dead: `take` sends it again
            self._connection.send(job)

    def take(self) -> int:
        """Wait for the end of the first job and return its place."""
        try:
            error = self._connection.recv()
        except (EOFError, OSError):
            self.kill()
            self._start()
            try:
                for job in self.jobs:
                    self._connection.send(job)
                error = self._connection.recv()
            except (EOFError, OSError):
                self._process.join()
                raise InputError(f'two data workers died at the same images (exit status {self._process.exitcode}): '
                                 'for want of memory? pass fewer --workers, or 0') from None
        if error:
            raise error
        return self.jobs.popleft()[0]

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()


def _serve(fill: Callable[[int, Any], None], end: Connection) -> None:
    """Do jobs until the process that gives them closes its end or is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one in front says what follows
    # A pipe ends when all who hold it have closed it: those to other workers, and to whatever else was started before.
    for number in map(int, os.listdir('/proc/self/fd')):
        if number > 2 and number != end.fileno():
            with suppress(OSError):  # that of the listing
                os.close(number)
    with suppress(EOFError, OSError):  # it is gone
        while True:
            place, job = end.recv()
            error = None
            try:
                fill(place, job)
            except InputError as caught:
                error = caught
            except Exception:  # a fault of a step: where it is would be lost on the way
                error = RuntimeError(traceback.format_exc())
            end.send(error)
