"""Writes an evaluation as one HTML page: scores, curves, kinds of error, the best and worst persons drawn.

    python tools/report.py --results results_gt.json --annotations .../person_keypoints_val2017.json \
        --images .../val2017 --training checkpoints/mine --output report.html
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, run
from src.common.files import atomic_path
from src.common.inputs import load_json
from src.config import load_model_config
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import METRICS, evaluate, precision_recall
from src.mmpose.own_data import resolve_info
from src.report import charts, curves
from src.report import page as report_page
from src.report.error_analysis import analyse, read_results, read_truth
from src.report.pictures import PersonPictures

DEFAULT_MODEL = 'litehrnet_18_coco_256x192'


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument('--results', type=Path, required=True, metavar='FILE', help='result JSON of eval.py')
    made.add_argument('--metrics', type=Path, metavar='FILE',
                      help='metrics JSON of eval.py: the conditions (default: metrics_X.json beside results_X.json)')
    made.add_argument('--annotations', type=Path, required=True, metavar='FILE', help='COCO annotations: the truth')
    made.add_argument('--images', type=Path, required=True, metavar='DIR')
    made.add_argument('--training', type=Path, nargs='*', default=[], metavar='DIR', help='folders of training runs')
    made.add_argument('--output', type=Path, default=Path('report.html'), metavar='FILE',
                      help='.html (default: report.html)')
    made.add_argument('--model_config', metavar='NAME',
                      help=f'whose joints (default: what the metrics name, else {DEFAULT_MODEL})')
    made.add_argument('--data.info', dest='data_info', metavar='FILE',
                      help='JSON file about the joints, as for eval.py')
    made.add_argument('--count', type=int, default=8, metavar='N', help='persons drawn of each sort (default: 8)')
    made.add_argument('--min_score', type=float, default=0.2, metavar='S',
                      help='predictions scored lower are left out of the error analysis (default: 0.2)')
    return made


def read_metrics(options: argparse.Namespace) -> dict[str, Any]:
    """What eval.py noted beside the results; empty where there is no such file and none was named.

    Raises:
        InputError: the file is missing or of another kind.
    """
    path = options.metrics or options.results.with_name(options.results.name.replace('results', 'metrics', 1))
    if not options.metrics and (path == options.results or not path.is_file()):
        return {}
    noted = load_json(path)
    if not isinstance(noted, dict) or not all(isinstance(noted.get(key, 0), (int, float)) for key in METRICS):
        raise InputError(f'{path}: not the metrics that eval.py writes')
    return noted


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    if options.output.suffix.lower() not in ('.html', '.htm'):
        raise InputError(f'--output {options.output}: the name must end in .html')
    if options.count < 0:
        raise InputError(f'--count {options.count}: must not be negative')
    noted = read_metrics(options)
    model = options.model_config or noted.get('model_config', DEFAULT_MODEL)
    joints = resolve_info(options.data_info or load_model_config(model)['data']['info'], [options.annotations])
    info = DatasetInfo.from_dict(joints)
    truths, names = read_truth(options.annotations, info)
    results = read_results(options.results, names, info)
    runs = curves.read_runs(options.training)

    sigmas = np.array(info.sigmas)
    figures = evaluate(results, options.annotations, sigmas=sigmas)
    for key in METRICS:
        if abs(noted.get(key, figures[key]) - figures[key]) > 1e-3:
            raise InputError(f'the metrics say {key} {noted[key]:.4f}, the results have {figures[key]:.4f}: they do '
                             'not belong together; give the --metrics that eval.py wrote with them')
    conditions = {key: value for key, value in noted.items() if key not in METRICS}
    persons = analyse(truths, results, info, options.min_score)
    pictures = PersonPictures(persons, info, options.images, names)
    with charts.style(page=True):
        sections = [report_page.overview(figures, conditions, persons, len(names))]
        if results:
            sections.append(report_page.precision_recall(*precision_recall(results, options.annotations,
                                                                           sigmas=sigmas)))
        sections += [report_page.joints(persons, info), report_page.errors(persons, info, options.min_score),
                     report_page.examples(persons, pictures, options.count)]
        if runs:
            sections.append(report_page.training(runs))
    page = report_page.render(f'Evaluation of {model}', sections)
    with atomic_path(options.output) as path:
        path.write_text(page, encoding='utf-8')
    print(f'{options.output}: {len(page) / 2 ** 20:.1f} MB, {len(persons.ids)} persons, AP {figures["AP"]:.4f}')
    return 0


if __name__ == '__main__':
    run(main)
