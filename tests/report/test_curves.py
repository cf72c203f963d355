"""Runs read from their folders; smoothing and thinning of curves."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src.common import epoch_log
from src.common.errors import InputError
from src.report import charts, curves

HEADER = 'epoch,step,loss,learning_rate,finite\n'


def make_run(folder: Path, losses: tuple[float, ...] = (0.5, 0.4, 0.3, 0.2), score: str | None = 'AP') -> Path:
    """A folder as train.py leaves it, two steps per epoch."""
    folder.mkdir(parents=True)
    rows = [f'{i // 2 + 1},{i + 1},{loss},0.001,{int(np.isfinite(loss))}\n' for i, loss in enumerate(losses)]
    (folder / 'steps.csv').write_text(HEADER + ''.join(rows))
    for epoch in range(1, len(losses) // 2 + 1):
        mean = float(np.mean(losses[2 * epoch - 2:2 * epoch]))
        epoch_log.append(folder / epoch_log.FILE, dict(epoch=epoch, loss=mean, learning_rate=0.001))
        if score:
            epoch_log.append(folder / epoch_log.FILE, {'epoch': epoch, score: epoch / 10})
    return folder


def test_run_is_read_and_skipped_steps_have_no_loss(tmp_path: Path) -> None:
    run = curves.read_run(make_run(tmp_path / 'one', (0.5, float('nan'), 0.3, 0.2)))
    assert run.name == 'one' and run.step.tolist() == [1, 2, 3, 4] and run.rate.tolist() == [0.001] * 4
    assert np.isnan(run.loss).tolist() == [False, True, False, False]
    assert [row['AP'] for row in run.epochs] == [0.1, 0.2]


def test_panels_are_those_there_is_something_for(tmp_path: Path) -> None:
    full = curves.read_run(make_run(tmp_path / 'full'))
    (make_run(tmp_path / 'short') / epoch_log.FILE).unlink()
    short, mpii = curves.read_run(tmp_path / 'short'), curves.read_run(make_run(tmp_path / 'mpii', score='Mean'))
    assert list(curves.panels([short])) == ['step-loss', 'learning-rate']
    assert list(curves.panels([short, full])) == ['step-loss', 'epoch-loss', 'learning-rate', 'score-AP']
    assert list(curves.panels([mpii])) == ['step-loss', 'epoch-loss', 'learning-rate', 'score-Mean']


def test_what_is_drawn_is_what_was_read(tmp_path: Path) -> None:
    runs = curves.read_runs([make_run(tmp_path / 'a'), make_run(tmp_path / 'b', (0.9, 0.8))])
    with charts.style():
        step_loss, epoch_loss, rate, score = curves.draw(runs).axes
    assert step_loss.lines[0].get_ydata().tolist() == [0.5, 0.4, 0.3, 0.2]
    assert epoch_loss.lines[0].get_ydata().tolist() == pytest.approx([0.45, 0.25])
    assert [line.get_label() for line in rate.lines] == ['a', 'b']
    assert score.lines[0].get_xydata().tolist() == [[1, 0.1], [2, 0.2]] and score.get_ylabel() == 'AP'


def test_folders_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / 'x' / 'run'), make_run(tmp_path / 'y' / 'run'), make_run(tmp_path / 'z')]
    assert [run.name for run in curves.read_runs(folders)] == [str(folders[0]), str(folders[1]), 'z']


def test_smoothing_keeps_constants_and_starts_at_the_first_value() -> None:
    assert curves.smooth(np.full(50, 3.0), 10) == pytest.approx(np.full(50, 3.0))
    values = np.random.default_rng(0).normal(1, 0.1, 500)
    assert curves.smooth(values, 20)[0] == values[0] and curves.smooth(values, 20)[50:].std() < values.std() / 2
    assert curves.smooth(values, 1).tolist() == values.tolist()


def test_long_curves_are_thinned_without_losing_their_peaks() -> None:
    y = np.random.default_rng(0).normal(size=100_000)
    y[12_345], y[70_001] = 50, -50
    x, thin = curves.envelope(np.arange(len(y)), y)
    assert len(x) <= curves.POINTS and (np.diff(x) > 0).all() and {50, -50} <= set(thin.tolist())
    assert (y[x] == thin).all()


@pytest.mark.parametrize(('content', 'words'), [
    (None, 'cannot be read'), (HEADER, 'holds no step'), ('step,loss\n1,2\n', 'not the steps'),
    (HEADER + '1,1,x,0.1,1\n', 'not the steps'), (HEADER + '1,1\n', 'not the steps')])
def test_other_files_are_refused(content: str | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / 'steps.csv').write_text(content)
    with pytest.raises(InputError, match=words):
        curves.read_run(tmp_path)


def test_all_steps_skipped_and_wide_ranges_are_drawn(tmp_path: Path) -> None:
    nothing = curves.read_run(make_run(tmp_path / 'nothing', (float('nan'),) * 2))
    wide = curves.read_run(make_run(tmp_path / 'wide', (1.0, 0.5, 0.01, 0.001)))
    with charts.style():
        assert curves.draw([nothing]).axes[0].get_yscale() == 'linear'
        assert curves.draw([wide]).axes[0].get_yscale() == 'log'
