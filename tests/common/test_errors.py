"""Messages of errors in one line."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from src.common.errors import first_line, run


@pytest.mark.parametrize(('error', 'line'), [
    (RuntimeError('one\ntwo'), 'one'), (RuntimeError('\n\n  one \ntwo'), 'one'), (RuntimeError(''), 'RuntimeError'),
    (OSError(), 'OSError'), (ValueError(' \n'), 'ValueError'), (OSError(28, 'No space'), '[Errno 28] No space')])
def test_an_error_has_a_line_also_without_a_message(error: Exception, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize('count', [10, 100000])
def test_a_reader_that_has_left_ends_the_program_in_silence(count: int) -> None:
    process = subprocess.Popen(
        [sys.executable, '-c', f'from src.common.errors import run; run(lambda: print("x" * {count}) or 0)'],
        cwd=Path(__file__).resolve().parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b'', 141)


def test_want_of_memory_is_one_line(capsys: pytest.CaptureFixture) -> None:
    def fail() -> int:
        raise MemoryError('Unable to allocate 110. GiB\nfor an array')

    with pytest.raises(SystemExit) as caught:
        run(fail)
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        'error: out of memory (Unable to allocate 110. GiB); take smaller batches or images\n')


def test_another_broken_pipe_is_not_silent() -> None:
    def fail() -> int:
        raise BrokenPipeError('of a worker')

    with pytest.raises(BrokenPipeError, match='of a worker'):
        run(fail)
