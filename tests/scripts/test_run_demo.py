"""run_demo.sh: all its stages on a copy of the whole checkout, and the folders that it must leave alone."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.scripts.shell import ROOT, assert_one_line_error, run_script


@pytest.fixture
def product(ready: Path) -> Path:
    """A checkout that is set up and has all programs."""
    for folder in ('configs', 'src', 'tools'):
        shutil.copytree(ROOT / folder, ready / folder, ignore=shutil.ignore_patterns('__pycache__'))
    for program in ('train.py', 'eval.py', 'export.py'):
        shutil.copy(ROOT / program, ready)
    return ready


def test_a_folder_of_the_users_is_refused(ready: Path) -> None:
    (ready / 'demo').mkdir()
    (ready / 'demo/mine.txt').write_text('')
    assert_one_line_error(run_script(ready / 'scripts/run_demo.sh'), f'{ready}/demo', 'move')
    assert [path.name for path in (ready / 'demo').iterdir()] == ['mine.txt']


@pytest.mark.slow
def test_all_stages_and_options_of_train(product: Path, tmp_path: Path) -> None:
    for file in ('demo/.made_by_run_demo', 'demo/of_an_earlier_run', 'checkpoints/demo/mine.ckpt'):
        (product / file).parent.mkdir(parents=True, exist_ok=True)
        (product / file).write_text('')
    process = run_script(product / 'scripts/run_demo.sh', '--train.epochs', '1',
                         folder=tmp_path, timeout=1800)
    # One epoch is too little to learn anything, which is the last thing that it says.
    assert process.returncode == 1 and process.stderr.splitlines()[-1].startswith('error: AP with ground-truth boxes')
    assert json.loads((product / 'demo/metrics_gt.json').read_text())['AP'] < 0.5
    made = {path.name for path in (product / 'demo').iterdir()}
    assert made >= {'data', 'checkpoints', 'metrics_det.json', 'results_gt.json', 'litehrnet.mindir', 'predictions.png',
                    'predictions'} and 'of_an_earlier_run' not in made
    assert 'photographs' in made or 'with published weights: .venv/bin/python tools/predict.py' in process.stdout
    assert len((product / 'demo/checkpoints/demo/epochs.jsonl').read_text().splitlines()) == 1
    assert [path.name for path in (product / 'checkpoints').rglob('*')] == ['demo', 'mine.ckpt']


@pytest.mark.slow
def test_it_stops_at_the_first_failure(product: Path) -> None:
    process = run_script(product / 'scripts/run_demo.sh', '--train.epochs', 'many', timeout=600)
    assert process.returncode == 1 and 'epochs' in process.stderr.splitlines()[-1]
    assert {path.name for path in (product / 'demo').iterdir()} == {'data', '.made_by_run_demo'}
