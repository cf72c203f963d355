"""The one exception for what a user can mend, and the frame that every program runs in."""
from __future__ import annotations

import argparse
import difflib
import os
import select
import signal
import sys
from collections.abc import Iterable
from typing import Any, Callable


class InputError(ValueError):
    """A file, key or value from outside is wrong; the message is one line that names it and what to do."""


# The last error while data were made. MindSpore reports it as text among others; 1.10 may say that it shuts down, only.
_data_errors: list[InputError] = []


def record_data_error(error: InputError) -> None:
    """Note an error, which is about to be raised in a thread of MindSpore's, for `behind`."""
    _data_errors.append(error)


def behind(error: RuntimeError) -> Exception:
    """Return the `InputError` that was recorded before MindSpore raised this error, or the error as it is."""
    return _data_errors.pop() if _data_errors else error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that holds text, or the name of the error's type."""
    return next(filter(str.strip, str(error).splitlines()), type(error).__name__).strip()


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return the question after the word most like one that is none of them; '' where none is like it."""
    close = difflib.get_close_matches(word, words, 1, 0.5)
    return f'did you mean {close[0]!r}?' if close else ''


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the part of an error message that names the nearest valid word, or all where none is near."""
    words = list(words)
    return did_you_mean(word, words) or f'valid: {", ".join(words) or "none"}'


def argument_parser(description: str, **options: Any) -> argparse.ArgumentParser:
    """Return a parser whose help shows the description as it stands, and that takes no abbreviated options."""
    return argparse.ArgumentParser(description=description, allow_abbrev=False,
                                   formatter_class=argparse.RawDescriptionHelpFormatter, **options)


def run(main: Callable[[], int]) -> None:
    """Run a program: an `InputError` or want of memory becomes one line and exit status 1, Ctrl-C exit status 130.

    Where nobody reads the output any more (`| head`), it ends in silence, with the exit status of SIGPIPE.
    """
    try:
        status = main()
        sys.stdout.flush()
        sys.exit(status)
    except InputError as error:
        print('error:', *str(error).splitlines(), file=sys.stderr)  # a file's name may have a line break
        sys.exit(1)
    except MemoryError as error:
        print(f'error: out of memory ({first_line(error)}); take smaller batches or images', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        output = select.poll()
        output.register(sys.stdout, 0)
        if not output.poll(0):  # another pipe
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes at the end
        sys.exit(128 + signal.SIGPIPE)
