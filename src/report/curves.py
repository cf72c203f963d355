"""Training curves of one or several runs, drawn from their steps.csv and epochs.jsonl."""
from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.signal import lfilter

from src.common import epoch_log
from src.common.errors import InputError
from src.report.charts import figure, line_look

POINTS = 1000  # of a curve; longer ones are drawn by the smallest and largest values of as many pieces
# The scores that stand for an evaluation, and their axes.
SCORES = {'AP': 'AP', 'Mean': 'PCKh@0.5 (%)', 'PCK': 'PCK', 'AUC': 'AUC', 'EPE': 'EPE (pixels)', 'NME': 'NME'}


@dataclass(frozen=True)
class Run:
    """A training."""
    name: str  # of its folder
    step: np.ndarray  # (S,) numbers of the steps
    loss: np.ndarray  # float64 (S,), not-a-number for steps that were skipped
    rate: np.ndarray  # float64 (S,) learning rates
    epochs: list[dict[str, Any]]  # rows of epochs.jsonl, one dict per epoch


def read_run(folder: Path) -> Run:
    """Read a training's folder; epochs.jsonl may be absent (trainings stopped in their first epoch).

    Raises:
        InputError: there is no steps.csv or no step in it, or one of the files is damaged.
    """
    path = folder / 'steps.csv'
    try:
        with path.open(newline='') as file:
            rows = [(int(row['step']), float(row['loss']) if int(row['finite']) else np.nan,
                     float(row['learning_rate'])) for row in csv.DictReader(file)]
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); give folders that train.py wrote') from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f'{path}: not the steps of a training ({type(error).__name__}: {error}); '
                         'its columns are step, loss, learning_rate, finite') from error
    if not rows:
        raise InputError(f'{path}: holds no step yet')
    step, loss, rate = map(np.array, zip(*rows))
    epochs_file, name = folder / epoch_log.FILE, folder.resolve().name
    # A legend omits names that begin with an underscore.
    return Run(f'./{name}' if name.startswith('_') else name, step, np.where(np.isfinite(loss), loss, np.nan), rate,
               epoch_log.read(epochs_file) if epochs_file.is_file() else [])


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read several runs; those whose folders have the same name are called by their paths.

    Raises:
        InputError: a run has no steps, or one of its files is damaged.
    """
    runs = [read_run(folder) for folder in folders]
    names = [run.name for run in runs]
    return [Run(str(folder), *list(vars(run).values())[1:]) if names.count(run.name) > 1 else run
            for folder, run in zip(folders, runs)]


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Return the exponential mean of (S,) values over about `window` of them; the first are means of those so far."""
    keep = 1 - 2 / (window + 1)
    sums, weights = (lfilter([1.0], [1.0, -keep], v) for v in (values, np.ones(len(values))))
    return sums / weights


def envelope(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a curve of at most about `POINTS` points that looks the same: each piece's smallest and largest value."""
    if len(x) <= POINTS:
        return x, y
    length = -(-2 * len(x) // POINTS)
    pieces = [np.arange(at, min(at + length, len(x))) for at in range(0, len(x), length)]
    chosen = np.unique([piece[i] for piece in pieces for i in (y[piece].argmin(), y[piece].argmax())])
    return x[chosen], y[chosen]


def draw_step_loss(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw the loss of every step, faint, and its smoothed course."""
    for number, run in enumerate(runs):
        good = np.isfinite(run.loss)
        step, loss = run.step[good], run.loss[good]
        if len(step):
            look = line_look(number)
            axes.plot(*envelope(step, loss), **{**look, 'alpha': 0.25, 'linewidth': 0.7})
            axes.plot(*envelope(step, smooth(loss, max(1, len(loss) // 30))), label=run.name, **look)
    axes.set(title='Loss per step', xlabel='step', ylabel='loss (faint: raw; line: smoothed)')
    fit_loss(axes, [run.loss for run in runs])


def draw_epoch(axes: Axes, runs: Sequence[Run], key: str) -> None:
    """Draw one value of every epoch that has it, over the epochs."""
    for number, run in enumerate(runs):
        rows = [(row['epoch'], row[key]) for row in run.epochs if row.get(key) is not None]
        if rows:
            axes.plot(*np.array(rows).T, marker='o', markersize=3, label=run.name, **line_look(number))
    axes.xaxis.get_major_locator().set_params(integer=True)


def draw_epoch_loss(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw the mean loss of every epoch."""
    draw_epoch(axes, runs, 'loss')
    axes.set(title='Loss per epoch', xlabel='epoch', ylabel='mean loss')
    fit_loss(axes, [np.array([row['loss'] for row in run.epochs if row.get('loss')]) for run in runs])


def draw_rate(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw the learning rate of every step."""
    for number, run in enumerate(runs):
        axes.plot(*envelope(run.step, run.rate), label=run.name, **line_look(number))
    axes.set(title='Learning rate', xlabel='step', ylabel='learning rate')
    axes.ticklabel_format(axis='y', style='sci', scilimits=(-2, 3))
    axes.set_ylim(bottom=0)


def draw_score(axes: Axes, runs: Sequence[Run], key: str) -> None:
    """Draw the score of the evaluations during training."""
    draw_epoch(axes, runs, key)
    axes.set(title='Evaluation during training', xlabel='epoch', ylabel=SCORES[key])


def fit_loss(axes: Axes, losses: Sequence[np.ndarray]) -> None:
    """Set a logarithmic axis where the losses span more than a factor of twenty, one from zero otherwise."""
    values = np.concatenate([loss[np.isfinite(loss)] for loss in losses])
    if len(values) and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale('log')
    else:
        axes.ticklabel_format(axis='y', style='sci', scilimits=(-2, 3))
        axes.set_ylim(bottom=0)


def panels(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    """Return the charts that these runs have data for: name -> (function of (axes, runs), more arguments)."""
    found: dict[str, tuple[Any, ...]] = {'step-loss': (draw_step_loss,)}
    if any(row.get('loss') is not None for run in runs for row in run.epochs):
        found['epoch-loss'] = (draw_epoch_loss,)
    found['learning-rate'] = (draw_rate,)
    for key in SCORES:
        if any(row.get(key) is not None for run in runs for row in run.epochs):
            found[f'score-{key}'] = (draw_score, key)
    return found


def draw(runs: Sequence[Run]) -> Figure:
    """Return all charts in one figure, two in a row, with one legend; to be called inside `charts.style()`."""
    chosen = panels(runs)
    chart_figure, axes = figure(2, -(-len(chosen) // 2))
    for place, (function, *arguments) in zip(axes, chosen.values()):
        function(place, runs, *arguments)
    for place in axes[len(chosen):]:
        place.set_axis_off()
    with_all_runs = axes[list(chosen).index('learning-rate')]
    chart_figure.legend(*with_all_runs.get_legend_handles_labels(), loc='outside lower center', ncols=min(len(runs), 3))
    return chart_figure
