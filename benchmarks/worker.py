"""A process that prepares callables and times them on request: JSON lines in by stdin, out by a pipe of its own.

Both sides of a comparison run as such workers, each in its own Python. The one that does not measure is stopped
(SIGSTOP), so that thread pools that spin while they wait cost the other nothing.
Standard library only: the peer's Python imports this file too.
"""
from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

Builder = Callable[..., Callable[[], Any]]


def serve(builders: dict[str, Builder]) -> None:
    """Answer requests from stdin until it ends; the pipe's number is the program's only argument.

    Requests: {"prepare": builder, "name": name, "options": {...}} builds a callable and runs it once;
    {"name": name, "runs": n} runs it n times. Replies hold the wall-clock seconds of each run (the first after a
    preparation includes that), what the last one returned, and the peak memory of the process in MB; or the error.
    """
    replies = os.fdopen(int(sys.argv[1]), 'w')
    prepared: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        seconds, result = [], None
        try:
            start = time.perf_counter()
            if 'prepare' in request:
                prepared[request['name']] = builders[request['prepare']](**request['options'])
            for _ in range(request.get('runs', 1)):
                result = prepared[request['name']]()
                seconds.append(time.perf_counter() - start)
                start = time.perf_counter()
            reply = {'seconds': seconds, 'result': result,
                     'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        except Exception as error:
            reply = {'error': f'{type(error).__name__}: {error}'}
        print(json.dumps(reply), file=replies, flush=True)


class Worker:
    """A running worker, stopped whenever it has nothing to do."""

    def __init__(self, python: Path | str, script: Path) -> None:
        self.label = script.stem
        read, write = os.pipe()
        # Libraries' output goes to stderr.
        self._process = subprocess.Popen([str(python), str(script), str(write)], stdin=subprocess.PIPE, stdout=2,
                                         pass_fds=[write], text=True)
        os.close(write)
        self._replies = os.fdopen(read)
        self.pid = self._process.pid

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # so that it ends, and its own worker processes with it
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._replies.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Return the reply to a request of `serve`.

        Raises:
            RuntimeError: the request failed in the worker, or the worker died.
        """
        self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # of a dead worker, which does not reply either
            print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._replies.readline()
        self._process.send_signal(signal.SIGSTOP)
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        reply = json.loads(line) if line else {'error': f'ended with status {self._process.wait()}'}
        if 'error' in reply:
            raise RuntimeError(f'{self.label}: {reply["error"]}')
        return reply

    def prepare(self, builder: str, name: str | None = None, **options: Any) -> dict[str, Any]:
        """Build a callable under `name` (default: the builder's), run it once and return the reply."""
        return self.ask(prepare=builder, name=name or builder, options=options)

    def time(self, name: str, runs: int) -> dict[str, Any]:
        """Run a prepared callable and return the reply."""
        return self.ask(name=name, runs=runs)
