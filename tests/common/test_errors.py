"""Messages of errors in one line."""
from __future__ import annotations

import pytest

from src.common.errors import first_line


@pytest.mark.parametrize(('error', 'line'), [
    (RuntimeError('one\ntwo'), 'one'), (RuntimeError('\n\n  one \ntwo'), 'one'), (RuntimeError(''), 'RuntimeError'),
    (OSError(), 'OSError'), (ValueError(' \n'), 'ValueError'), (OSError(28, 'No space'), '[Errno 28] No space')])
def test_an_error_has_a_line_also_without_a_message(error: Exception, line: str) -> None:
    assert first_line(error) == line
