"""Draws the training curves of one or several runs: loss per step and per epoch, learning rate, evaluation.

    python tools/plot_curves.py checkpoints/first checkpoints/second --output curves.png
"""
from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, argument_parser, run
from src.report import charts, curves


def main(argv: list[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument('runs', nargs='+', type=Path, metavar='DIR',
                        help='folder of a training: <output_root>/checkpoints/<experiment_tag>')
    parser.add_argument('--output', type=Path, default=Path('curves.png'), metavar='FILE',
                        help='.png or .svg (default: curves.png)')
    options = parser.parse_args(argv)
    if options.output.suffix.lower() not in charts.SUFFIXES:
        raise InputError(f'--output {options.output}: the name must end in {" or ".join(charts.SUFFIXES)}')
    found = curves.read_runs(options.runs)
    with charts.style():
        charts.save(curves.draw(found), options.output)
    print(f'{options.output}: ' + ', '.join(f'{r.name} ({len(r.step)} steps, {len(r.epochs)} epochs)' for r in found))
    return 0


if __name__ == '__main__':
    run(main)
