"""benchmarks/run.py as a user runs it, with a tiny network: the parts that need no peer environment."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.worker import Worker
from src.common.errors import InputError

CONFIG = '''from configs.coco_base import coco_config
config = coco_config(dict(module='LITE', stage_modules=(1,), stage_channels=(8, 16)), image_size=(64, 64))
'''


def tiny(folder: Path) -> str:
    """A configuration file of a tiny network."""
    (folder / 'tiny.py').write_text(CONFIG)
    return str(folder / 'tiny.py')


def measured(part: str, synthetic: Path, folder: Path) -> dict[str, dict]:
    output = folder / 'rows.json'
    assert run.main(['--part', part, '--json', str(output), '--model_config', tiny(folder), '--rounds', '2',
                     '--data_root', str(synthetic)]) == 0
    rows = json.loads(output.read_text())
    for row in rows.values():
        assert set(row) == {'ours', 'peer', 'ratio', 'unit', 'spread', 'note'}
        assert all(low <= high for low, high in row['spread'].values()) and set(row['spread']) == {'ours', 'peer'}
    return rows


@pytest.mark.slow
def test_input_counts_time_and_workers_count_throughput(synthetic: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture) -> None:
    rows = measured('input', synthetic, tmp_path)
    assert set(rows) == {f'input.{synthetic.name}', 'input.workers'}
    time, workers = rows[f'input.{synthetic.name}'], rows['input.workers']
    # A sample holds decoding and warping, so it can't be much faster than these.
    assert time['unit'] == 'ms' and time['ratio'] == pytest.approx(time['peer'] / time['ours']) and time['ratio'] < 1.1
    assert workers['unit'] == 'img/s' and workers['ratio'] == pytest.approx(workers['ours'] / workers['peer'])
    assert 'input.workers' in capsys.readouterr().out


@pytest.mark.needs_mindspore('2.0', 'the direct port has an interpolate with a size, which 1.10 does not')
@pytest.mark.slow
def test_evaluation_gives_boxes_per_second_and_the_estimate(synthetic: Path, tmp_path: Path) -> None:
    rows = measured('evaluation', synthetic, tmp_path)
    assert set(rows) == {'evaluation', 'evaluation.forward'}
    assert rows['evaluation']['ours'] == rows['evaluation.forward']['ours'] > 0
    assert '104125' in rows['evaluation']['note']


def test_ratio_is_above_one_where_ours_is_better() -> None:
    faster, slower = run.row([10.0, 30.0, 20.0], [10.0], 'img/s', run.HIGHER), run.row([20.0], [10.0], 'ms', run.LOWER)
    assert faster['ratio'] == 2.0 and faster['spread']['ours'] == [15.0, 25.0]
    assert slower['ratio'] == 0.5


def test_failures_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='latency: peer: ended'):
        run.main(['--part', 'latency', '--peer_python', sys.executable, '--model_config', tiny(tmp_path)])
    with pytest.raises(InputError, match='--rounds 0'):
        run.main(['--rounds', '0'])


def test_a_worker_reports_errors_and_is_stopped_while_it_waits(tmp_path: Path) -> None:
    script = tmp_path / 'side.py'
    script.write_text(f'import sys; sys.path.insert(0, {str(Path(run.__file__).parent)!r})\n'
                      'from worker import serve\nprint("noise")\n'
                      'serve(dict(add=lambda a, b: lambda: a + b))\n')
    with Worker(sys.executable, script) as worker:
        assert worker.prepare('add', 'sum', a=1, b=2)['result'] == 3
        reply = worker.time('sum', 3)
        assert len(reply['seconds']) == 3 and reply['peak'] > 1
        with pytest.raises(RuntimeError, match='side: KeyError'):
            worker.time('absent', 1)
        state = Path(f'/proc/{worker.pid}/status').read_text()
        assert 'State:\tT' in state
    assert not Path(f'/proc/{worker.pid}').exists()
