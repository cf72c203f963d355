"""SVG for pages: well-formed, in the page's colour, without ids that clash."""
from __future__ import annotations

import re
from xml.etree import ElementTree

from src.report import charts


def drawn(name: str) -> str:
    with charts.style(page=True):
        made, (axes,) = charts.figure()
        axes.plot([0, 1], [1, 2], label='a < b', **charts.line_look(0))
        axes.set(xlabel='steps', ylabel='loss')
        axes.legend()
        return charts.svg(made, name, 'loss < 1 & "more"')


def test_svg_takes_the_pages_colour_and_says_what_it_shows() -> None:
    text = drawn('one')
    root = ElementTree.fromstring(text)
    assert root.get('role') == 'img' and root.get('aria-label') == 'loss < 1 & "more"' and root.get('viewBox')
    assert 'currentColor' in text and charts.INK not in text and root.get('width') is None
    assert 'steps' in [e.text for e in root.iter('text')]


def test_ids_differ_from_chart_to_chart_and_references_resolve() -> None:
    ids = [set(re.findall(r' id="([^"]*)"', drawn(name))) for name in ('one', 'two')]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]*)', drawn('one'))) <= ids[0]


def test_the_same_chart_is_the_same_text() -> None:
    assert drawn('one') == drawn('one')


def test_twenty_curves_look_different() -> None:
    assert len({tuple(charts.line_look(i).items()) for i in range(20)}) == 20
