"""Files from outside: read, or refused in one line that names the file and the entry."""
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import InputError


def require_exists(path: Path) -> Path:
    """Return an existing path.

    Raises:
        InputError: it does not exist; the message names the first part of it that is missing.
    """
    if not path.exists():
        missing = next(part for part in (*reversed(path.parents), path) if not part.exists())
        raise InputError(f'{path}: {missing} does not exist; check the data root and its layout')
    return path


def load_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: the file is missing, unreadable or no JSON.
    """
    try:
        return json.loads(require_exists(path).read_bytes())
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path}: not a JSON file ({error})') from error


@contextmanager
def as_input_error(file: Path, entry: str) -> Iterator[None]:
    """Turn what goes wrong while an entry of a file is read into an InputError that names both."""
    try:
        yield
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f'{file}: {entry} has no key {error}; is the file of the right kind?') from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f'{file}: {entry} is malformed ({error}); is the file of the right kind?') from error


def numbers(values: Any, count: int) -> np.ndarray:
    """Return a flat list of exactly `count` numbers as float64 (count,).

    Raises:
        TypeError, ValueError: it is something else.
    """
    array = np.asarray(values, np.float64)
    if array.shape != (count,):
        nested = ' in nested lists' if array.ndim > 1 else ''
        raise ValueError(f'{count} numbers expected where there are {array.size}{nested}')
    return array
