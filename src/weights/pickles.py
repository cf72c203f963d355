"""Pickles read without running anything that they say.

An ordinary unpickler calls whatever a file names. The one here knows a few names, each with a meaning of its own, and
turns all others into inert `Foreign` objects, so no code from a file, nor any that a file chooses, is ever run.
"""
from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, ClassVar


class Foreign:
    """An object of a class that weights don't need; it swallows whatever the pickle does to it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Foreign:
        return self

    def _swallow(self, *args: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = _swallow

    def __repr__(self) -> str:
        return f'<{type(self).__name__}>'


class RestrictedUnpickler(pickle.Unpickler):
    """Rebuild dicts, lists, numbers, strings, and what `KNOWN` has a meaning for by (module, name)."""

    KNOWN: ClassVar[Mapping[tuple[str, str], Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the file stands for: a known name's meaning or an inert class."""
        return self.KNOWN.get((module, name)) or type(f'{module}.{name}', (Foreign,), {})
