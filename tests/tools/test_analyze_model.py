"""The command line: which networks, and what it prints."""
from __future__ import annotations

import pytest

from src.common.errors import InputError
from tests.deployment.test_complexity import TOTALS
from tools.analyze_model import DEFAULT, main


def test_the_published_networks_are_the_default() -> None:
    assert sorted(DEFAULT) == sorted(TOTALS)


@pytest.mark.slow
def test_prints_a_table_per_configuration(capsys: pytest.CaptureFixture) -> None:
    assert main(['naive_litehrnet_18_coco_256x192']) == 0
    printed = capsys.readouterr().out
    assert 'naive_litehrnet_18_coco_256x192, input 256x192: 194.8 M' in printed
    assert [line.split()[0] for line in printed.splitlines()[2:-1]] == [
        'stem', 'transition', 'stage', 'transition', 'stage', 'transition', 'stage', 'head', 'final', 'total']
    assert '204,217,152' in printed.splitlines()[-2]


def test_unknown_configuration_is_named() -> None:
    with pytest.raises(InputError, match='litehrnet_19'):
        main(['litehrnet_19_coco_256x192'])
