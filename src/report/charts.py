"""The look of all charts, and their files: PNG, SVG, or an SVG element in the colours of the page around it."""
from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.common.files import atomic_path

# Distinct on white as on near-black, and (with the line styles) to those who do not see all colours.
COLOURS = ('#2f80d0', '#d9682b', '#2f9e6e', '#a463c8', '#bf9118', '#d2487d', '#4aa5b5', '#8a8a8a', '#7d8f2c', '#b0624a')
STYLES = ('-', '--')
SUFFIXES = ('.png', '.svg')
INK = '#0a0b0c'  # stands for the colour of the text around the chart until `svg` puts that in its place
STYLE = {'axes.spines.top': False, 'axes.spines.right': False, 'axes.grid': True, 'grid.alpha': 0.25,
         'grid.color': '#888888', 'axes.axisbelow': True, 'font.size': 9.5, 'axes.titlesize': 10,
         'axes.titleweight': 'bold', 'legend.frameon': False, 'legend.fontsize': 8, 'lines.linewidth': 1.5,
         'font.family': ['DejaVu Sans', 'sans-serif'], 'svg.fonttype': 'none',
         'text.parse_math': False}
ON_PAGE = dict.fromkeys(('text.color', 'axes.labelcolor', 'axes.edgecolor', 'xtick.color', 'ytick.color'), INK)


def style(page: bool = False) -> AbstractContextManager[None]:
    """Return the context that gives charts their look; with `page`, for `svg`: text in the page's colour."""
    return matplotlib.rc_context({**STYLE, **(ON_PAGE if page else {})})


def figure(columns: int = 1, rows: int = 1, width: float = 5.0, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """Return a figure of `rows` x `columns` charts of `width` x `height` inches each, and the charts row by row."""
    chart_figure = Figure(figsize=(columns * width, rows * height), layout='constrained')
    return chart_figure, list(chart_figure.subplots(rows, columns, squeeze=False).ravel())


def line_look(number: int) -> dict[str, Any]:
    """Return colour and line style of the curve of that number, from 0."""
    return dict(color=COLOURS[number % len(COLOURS)], linestyle=STYLES[number // len(COLOURS) % len(STYLES)], alpha=0.9)


def save(chart_figure: Figure, path: Path) -> None:
    """Write a PNG or SVG by the suffix, whole or not at all."""
    with atomic_path(path) as temporary:
        chart_figure.savefig(temporary, dpi=150)


def svg(chart_figure: Figure, name: str, description: str) -> str:
    """Return a figure as an <svg> element to stand in an HTML page.

    Args:
        chart_figure: drawn inside `style(page=True)`.
        name: differs from that of the other charts of the page, and keeps the ids inside apart.
        description: read out in the chart's place.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': name}):
        chart_figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None})
    text = buffer.getvalue()
    text = re.sub(r' id="[a-z][\w.]*_\w+"', '', text[text.index('<svg'):])  # names of groups, the same in every figure
    text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL).replace(INK, 'currentColor')
    view = re.search(r'viewBox="[^"]*"', text)[0]
    head = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {view} role="img" aria-label="{escape(description)}">'
    return head + text[text.index('>') + 1:]
