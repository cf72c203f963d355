"""Things that are begun before they are asked for."""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar('T')


def look_ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """Yield the items in order, each when it and the `count` - 1 after it have been made: futures, for instance."""
    ahead: deque[T] = deque()
    for item in items:
        ahead.append(item)
        if len(ahead) == count:
            yield ahead.popleft()
    while ahead:
        yield ahead.popleft()
