"""The evaluation report: scores, error analysis and pictures as one HTML page that needs nothing else."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from src.common.errors import InputError
from src.common.inputs import load_json
from src.mmpose.annotations import read_annotations
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import METRICS, evaluate, precision_recall, read_results
from src.report import charts, sections
from src.report.curves import Run
from src.report.error_analysis import analyse
from src.report.pictures import PersonPictures


def read_metrics(path: Path) -> dict[str, Any]:
    """Return the scores and conditions that eval.py wrote beside its results.

    Raises:
        InputError: the file is missing or of another kind.
    """
    metrics = load_json(path)
    if not isinstance(metrics, dict) or not all(isinstance(metrics.get(key, 0), (int, float)) for key in METRICS):
        raise InputError(f'{path}: not the metrics that eval.py writes')
    return metrics


def build_sections(results_file: Path, annotation_file: Path, images: Path, info: DatasetInfo, metrics: dict[str, Any],
                   runs: Sequence[Run], count: int, least_score: float) -> list[sections.Section]:
    """Return the sections of the report.

    Args:
        metrics: what eval.py wrote with the results; {} where that is not known.
        runs: trainings to draw the curves of.
        count: persons drawn of each sort.
        least_score: predictions scored lower are omitted from the error analysis.

    Raises:
        InputError: a file is missing or of another kind, or results, annotations and metrics do not belong together.
    """
    annotations = read_annotations(annotation_file, info)
    if not annotations.persons:
        raise InputError(f'{annotation_file}: no person with labelled keypoints to compare results with')
    results = read_results(results_file, annotations, info)
    sigmas = np.array(info.sigmas)
    scores = evaluate(results, annotations, sigmas=sigmas)
    for key in METRICS:
        if abs(metrics.get(key, scores[key]) - scores[key]) > 1e-3:
            raise InputError(f'the metrics say {key} {metrics[key]:.4f}, the results have {scores[key]:.4f}: they do '
                             'not belong together; give the --metrics that eval.py wrote with them')
    conditions = {key: value for key, value in metrics.items() if key not in METRICS}
    persons = analyse(annotations, results, info, least_score)
    pictures = PersonPictures(persons, info, images, annotations)
    with charts.style(page=True):
        parts = [sections.overview(scores, conditions, persons, annotations)]
        if results:
            parts.append(sections.precision_recall(*precision_recall(results, annotations, sigmas=sigmas)))
        parts += [sections.keypoints(persons, info), sections.errors(persons, info, least_score),
                  sections.examples(persons, pictures, count)]
        if runs:
            parts.append(sections.training(runs))
    return parts


def render(title: str, parts: Sequence[sections.Section]) -> str:
    """Return the page as text."""
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True,
                            undefined=StrictUndefined)
    return templates.get_template('page.html').render(title=title, sections=parts)
