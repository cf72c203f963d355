"""Items are made as far ahead as was asked, and come in their order."""
from __future__ import annotations

import pytest

from src.common.look_ahead import look_ahead


@pytest.mark.parametrize('total', [0, 1, 3, 4, 10])
def test_so_many_are_made_before_the_first_is_given(total: int) -> None:
    made, given = [], []
    for item in look_ahead((made.append(number) or number for number in range(total)), 3):
        given.append(item)
        assert len(made) == min(total, len(given) + 2)
    assert given == list(range(total))
