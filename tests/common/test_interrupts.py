"""Ctrl-C and SIGTERM while a network is compiled and called."""
from __future__ import annotations

import os
import signal

import pytest

from src.common.interrupts import deferred_interrupts, raise_on_sigterm


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    handlers, done = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)], []
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():
        os.kill(os.getpid(), number)
        done.append(1)
    assert done and [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_sigterm_ends_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        raise_on_sigterm()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
