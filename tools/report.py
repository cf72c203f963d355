"""Writes an evaluation as one HTML page: scores, curves, kinds of error, the best and worst persons drawn.

    python tools/report.py --results results_gt.json --annotations .../person_keypoints_val2017.json \
        --images .../val2017 --training checkpoints/mine --output report.html
"""
from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, argument_parser, run
from src.common.files import atomic_path
from src.config import load_model_config, read_saved
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.own_data import resolve_info
from src.report.curves import read_runs
from src.report.page import build_sections, read_metrics, render

DEFAULT_MODEL = 'litehrnet_18_coco_256x192'


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argument_parser(__doc__)
    parser.add_argument('--results', type=Path, required=True, metavar='FILE', help='result JSON of eval.py')
    parser.add_argument('--metrics', type=Path, metavar='FILE',
                        help='metrics JSON of eval.py: the conditions (default: metrics_X.json beside results_X.json)')
    parser.add_argument('--annotations', type=Path, required=True, metavar='FILE',
                        help='COCO annotations: the ground truth')
    parser.add_argument('--images', type=Path, required=True, metavar='DIR')
    parser.add_argument('--training', type=Path, nargs='*', default=[], metavar='DIR', help='folders of training runs')
    parser.add_argument('--output', type=Path, default=Path('report.html'), metavar='FILE',
                        help='.html (default: report.html)')
    parser.add_argument('--model_config', metavar='NAME',
                        help='whose keypoints (default: those of config.json beside the results, else of what the '
                             f'metrics name, else of {DEFAULT_MODEL})')
    parser.add_argument('--data.info', dest='data_info', metavar='FILE',
                        help='JSON file about the keypoints, as for eval.py')
    parser.add_argument('--count', type=int, default=8, metavar='N', help='persons drawn of each sort (default: 8)')
    parser.add_argument('--min_score', type=float, default=0.2, metavar='S',
                        help='predictions scored lower are omitted from the error analysis (default: 0.2)')
    options = parser.parse_args(argv)
    if options.output.suffix.lower() not in ('.html', '.htm'):
        raise InputError(f'--output {options.output}: the name must end in .html')
    if options.count < 0:
        raise InputError(f'--count {options.count}: must not be negative')
    if not options.metrics:
        beside = options.results.with_name(options.results.name.replace('results', 'metrics', 1))
        options.metrics = beside if beside != options.results and beside.is_file() else None
    return options


def keypoints_of(model: str, options: argparse.Namespace) -> dict[str, Any] | str | None:
    """Return the `data.info` of what was evaluated, as `resolve_info` takes it."""
    if options.data_info:
        return options.data_info
    if not options.model_config:
        with suppress(InputError, KeyError, TypeError):  # there is none, or one of something else
            saved = read_saved(options.results.with_name('config.json'))
            if saved['experiment'].get('model_config') == model:
                return saved['config']['data']['info']
    return load_model_config(model)['data']['info']


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    metrics = read_metrics(options.metrics) if options.metrics else {}
    model = options.model_config or metrics.get('model_config', DEFAULT_MODEL)
    info = DatasetInfo.from_dict(resolve_info(keypoints_of(model, options), [options.annotations]))
    sections = build_sections(options.results, options.annotations, options.images, info, metrics,
                              read_runs(options.training), options.count, options.min_score)
    page = render(f'Evaluation of {model}', sections)
    with atomic_path(options.output) as path:
        path.write_text(page, encoding='utf-8')
    facts, scores = dict(sections[0].facts), dict(sections[0].scores)
    if 'annotations' in facts:
        print(facts['annotations'])
    print(f'{options.output}: {len(page) / 2 ** 20:.1f} MB; {facts["data"]}, AP {scores["AP"]}')
    return 0


if __name__ == '__main__':
    run(main)
