"""The sections of the evaluation report: analysis, charts and pictures as what the page's template shows."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from src.mmpose.annotations import Annotations
from src.mmpose.dataset_info import DatasetInfo
from src.report import charts, curves
from src.report.error_analysis import KINDS, LEAST_OKS, MOST_PERSONS, Persons, reached
from src.report.pictures import KIND_COLOURS, PersonPictures, Picture, choose

TOTAL = 'all keypoints'
PCK = (0.05, 0.1, 0.2)  # fractions of the larger side of the person's box


@dataclass(frozen=True)
class Chart:
    """A chart of the page."""
    svg: str
    caption: str = ''


@dataclass(frozen=True)
class Table:
    """A table of text; the row that begins with `total` is set off."""
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: str = TOTAL


@dataclass(frozen=True)
class Group:
    """Pictures under a heading."""
    title: str
    pictures: list[Picture]


@dataclass
class Section:
    """A part of the page."""
    id: str
    title: str
    texts: list[str] = field(default_factory=list)
    scores: list[tuple[str, str]] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    key: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


def number(value: float, digits: int = 3) -> str:
    """Return a number as text, a dash where it is not finite."""
    return f'{value:.{digits}f}' if np.isfinite(value) else '-'


def percent(value: float) -> str:
    """Return a fraction as text in per cent."""
    return number(100 * value, 1)


def overview(scores: dict[str, float], conditions: dict[str, Any], persons: Persons,
             annotations: Annotations) -> Section:
    """Return COCO's ten scores, and what they hold for."""
    labels = {'True': 'on', 'False': 'off', 'det': "det (the detector's)", 'gt': 'gt (annotated)'}
    facts = [(key.replace('_', ' '), labels.get(str(value), str(value))) for key, value in conditions.items()]
    facts.append(('data', f'{len(annotations.images)} images, {len(persons.oks)} persons with labelled keypoints'))
    if annotations.remarks:
        facts.append(('annotations', annotations.remarks))
    section = Section('scores', 'Scores', facts=facts)
    section.texts.append('AP and AR are means over OKS 0.50 to 0.95 (50 and 75: at that OKS alone); M and L: persons '
                         'of medium size (32 x 32 to 96 x 96 pixels) and of large size.')
    section.scores = [(name, number(value) if value >= 0 else '-') for name, value in scores.items()]
    if not conditions:
        section.texts.append('Box source, flip test and decoding are not known: no metrics file was given.')
    return section


def precision_recall(thresholds: np.ndarray, recalls: np.ndarray, precision: np.ndarray) -> Section:
    """Return curves at OKS 0.50, 0.75 and their mean from 0.50 to 0.95, of what `evaluation.precision_recall` gives."""
    chart_figure, (axes,) = charts.figure(width=4.4, height=3.4)
    rows = {f'OKS {t:.2f}': precision[np.argmin(abs(thresholds - t))] for t in (0.5, 0.75)}
    rows['mean of OKS 0.50 to 0.95'] = precision.mean(0)
    areas = []
    for i, (name, row) in enumerate(rows.items()):
        areas.append(f'{name}: {row.mean():.3f}')
        axes.plot(recalls, row, label=f'{name} (area {row.mean():.3f})', **charts.line_look(i))
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.03))
    chart_figure.legend(loc='outside lower center')
    chart = Chart(charts.svg(chart_figure, 'precision-recall', f'Precision over recall; areas {"; ".join(areas)}'))
    return Section('precision-recall', 'Precision and recall', charts=[chart], texts=[
        'Persons of all sizes, best score first. The area under a curve is the average precision at that OKS.'])


def display_names(info: DatasetInfo) -> list[str]:
    """Return the keypoints' names without underscores."""
    return [name.replace('_', ' ') for name in info.joint_names]


def labelled_keypoints(persons: Persons) -> list[int]:
    """Return the numbers of the keypoints that are labelled in any person."""
    return np.flatnonzero((persons.truth[..., 2] > 0).any(0)).tolist()


def mirror_groups(info: DatasetInfo) -> dict[str, list[int]]:
    """Return the keypoints with their mirror images: {common name: keypoint numbers}."""
    groups: dict[str, list[int]] = {}
    names = display_names(info)
    for keypoint, mirror in enumerate(info.flip_index.tolist()):
        if keypoint <= mirror:
            own, other = names[keypoint], names[mirror]
            common = own if keypoint == mirror else ' '.join(w for w in own.split() if w in other.split())
            groups[common if common and common not in groups else f'{own} / {other}'] = sorted({keypoint, mirror})
    return groups


def keypoint_chart(name: str, description: str, values: dict[str, np.ndarray], x: np.ndarray, label: str) -> Chart:
    """Return a chart with a curve for each group of keypoints."""
    chart_figure, (axes,) = charts.figure(width=4.4, height=3.7)
    for i, (group, row) in enumerate(values.items()):
        axes.plot(x, row, label=group, **charts.line_look(i))
    axes.set(xlabel=label, ylabel='fraction of keypoints', xlim=(x[0], x[-1]), ylim=(0, 1.03))
    chart_figure.legend(loc='outside lower center', ncols=3)
    return Chart(charts.svg(chart_figure, name, description), description)


def keypoints(persons: Persons, info: DatasetInfo) -> Section:
    """Return OKS and PCK of the keypoints, as curves and as a table."""
    used, names = labelled_keypoints(persons), display_names(info)
    groups = {name: rows for name, rows in mirror_groups(info).items() if set(rows) & set(used)}
    thresholds, fractions = np.linspace(0.01, 1, 100), np.linspace(0, PCK[-1], 101)
    similar = {name: reached(persons.ks[:, rows].ravel(), thresholds) for name, rows in groups.items()}
    close = {name: reached(-persons.distances[:, rows].ravel(), -fractions) for name, rows in groups.items()}
    rows = []
    for name, chosen in [*((names[i], [i]) for i in used), (TOTAL, used)]:
        ks, distances = persons.ks[:, chosen], persons.distances[:, chosen]
        shares = reached(-distances.ravel(), -np.array(PCK))
        rows.append([name, str(int((~np.isnan(ks)).sum())), number(np.nanmean(ks)), *map(percent, shares)])
    never = ', '.join(name for i, name in enumerate(names) if i not in used)
    return Section('keypoints', 'Keypoints', texts=[
        'Of all labelled keypoints of all persons; those of missed persons (see Kinds of error) count as not found. '
        'OKS of a keypoint weighs its distance by the size of the person and by how exactly people place it. PCK is '
        "the fraction of keypoints within a part of the larger side of the person's box.",
        *([f'Never labelled in these data: {never}.'] if never else [])],
        charts=[keypoint_chart('keypoint-oks', 'Fraction of keypoints whose OKS is at least a threshold', similar,
                               thresholds, 'OKS of the keypoint, at least'),
                keypoint_chart('keypoint-pck', 'PCK: fraction of keypoints within a distance', close, fractions,
                               "distance, at most (part of the box's larger side)")],
        tables=[Table('Number of labelled keypoints, their mean OKS, and PCK in per cent by distance',
                      ['keypoint', 'labelled', 'mean OKS', *(f'PCK {limit:g}' for limit in PCK)], rows)])


def bars(shares: np.ndarray, names: Sequence[str]) -> Figure:
    """Return stacked bars of the kinds' shares (rows, kinds) in [0, 1]."""
    chart_figure, (axes,) = charts.figure(width=4.8, height=0.22 * len(names) + 0.9)
    left = np.zeros(len(names))
    for kind, share in zip(KINDS, 100 * np.nan_to_num(shares).T):
        axes.barh(names, share, left=left, height=0.75, color=KIND_COLOURS[kind], label=kind)
        left += share
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set(xlabel='% of the labelled keypoints of persons found', xlim=(0, 100))
    axes.grid(visible=False, axis='y')
    axes.tick_params(axis='y', length=0)
    chart_figure.legend(loc='outside upper center', ncols=len(KINDS), columnspacing=1, handlelength=1)
    return chart_figure


def errors(persons: Persons, info: DatasetInfo, least_score: float) -> Section:
    """Return the kinds of error of the keypoints, and the persons that were missed or made up."""
    used = labelled_keypoints(persons)
    counts = np.stack([(persons.kinds[:, used] == kind).sum(0) for kind in range(len(KINDS))], 1)
    counts = np.concatenate([counts, counts.sum(0, keepdims=True)])
    totals = counts.sum(1)
    shares = counts / np.where(totals, totals, np.nan)[:, None]
    names = [*(display_names(info)[i] for i in used), TOTAL]
    rows = [[name, str(total), *map(percent, row)]
            for name, total, row in zip(names, totals.tolist(), shares)]
    summary = '; '.join(f'{kind} {percent(share)} %' for kind, share in zip(KINDS, shares[-1]))
    missed, everyone = int(persons.missed.sum()), len(persons.oks)
    people = [['found', str(everyone - missed), percent((everyone - missed) / everyone)],
              ['missed', str(missed), percent(missed / everyone)],
              ['background false positives', str(len(persons.background)),
               percent(len(persons.background) / persons.counted if persons.counted else np.nan)]]
    least = f' that score at least {least_score:g}' if least_score > 0 else ''
    return Section('errors', 'Kinds of error', texts=[
        'After Ronchi and Perona (ICCV 2017). Good: OKS of the keypoint at least 0.85. Jitter: near its place (0.50 to '
        '0.85). Inversion: near the same person\'s mirrored keypoint, such as left for right. Swap: near the keypoint '
        'of another person. Miss: near none of these.',
        f'Of each image, the {MOST_PERSONS} best predictions{least} are matched one to one to the annotated persons '
        f'by the Hungarian method, so that the sum of OKS is largest; a pair needs an OKS of {LEAST_OKS}. Persons left '
        'over are missed; predictions left over are background false positives, unless they lie on people who are '
        'annotated without keypoints or as a crowd.'],
        charts=[Chart(charts.svg(bars(shares, names), 'errors', f'Kinds of error, all keypoints: {summary}'))],
        tables=[Table('Kinds of error, in per cent of the labelled keypoints of the persons found',
                      ['keypoint', 'labelled', *KINDS], rows),
                Table('In per cent of the annotated persons; background false positives: of the predictions',
                      ['persons', 'number', '%'], people)])


def examples(persons: Persons, pictures: PersonPictures, count: int) -> Section:
    """Return the best and the worst persons, drawn."""
    chosen = choose(persons, count)
    groups = [Group(title, [pictures.person(row) for row in chosen[key]])
              for key, title in (('worst', 'Worst of the persons found'), ('missed', 'Missed persons, largest first'),
                                 ('best', 'Best'))]
    groups.insert(2, Group('Background false positives, highest score first',
                           [pictures.background(result) for result in persons.background[:count]]))
    return Section('persons', 'Persons', groups=groups, texts=[
        'Ground truth on the left, prediction on the right. Left keypoints are orange, right ones blue. Rings mark '
        'keypoints that are not good:'], key=[(kind, KIND_COLOURS[kind]) for kind in KINDS[1:]])


def training(runs: Sequence[curves.Run]) -> Section:
    """Return the curves of the training runs."""
    found_charts = []
    for name, (function, *arguments) in curves.panels(runs).items():
        chart_figure, (axes,) = charts.figure(width=4.4, height=3.2)
        function(axes, runs, *arguments)
        chart_figure.legend(loc='outside lower center', ncols=2)
        title = axes.get_title()
        found_charts.append(Chart(charts.svg(chart_figure, name, f'{title} of {", ".join(run.name for run in runs)}')))
    return Section('training', 'Training', charts=found_charts)
