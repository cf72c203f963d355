"""Ctrl-C and SIGTERM in programs whose work must not be cut in two."""
from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def raise_on_sigterm() -> None:
    """Let SIGTERM raise KeyboardInterrupt: while it runs a network, MindSpore makes a SIGTERM of a SIGINT."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the block has ended, and raise KeyboardInterrupt then.

    MindSpore, interrupted while it compiles, prints its stacks and leaves files behind.
    """
    received: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: received.append(number))
                for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            raise KeyboardInterrupt
