"""benchmarks/run.py as a user runs it, with a tiny network: the parts that need no peer environment."""
from __future__ import annotations

import json
import re
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
    result = json.loads(output.read_text())
    assert 'cores' in result['machine']
    for row in result['rows'].values():
        assert set(row) == {'ours', 'peers', 'best', 'ratio', 'unit', 'note'} and row['best'] in row['peers']
        for figure in (row['ours'], *row['peers'].values()):
            assert figure['quartiles'][0] <= figure['quartiles'][1]
    return result['rows']


def medians(row: dict) -> tuple[float, float]:
    return row['ours']['median'], row['peers'][row['best']]['median']


@pytest.mark.slow
def test_input_counts_time_and_workers_count_throughput(synthetic: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture) -> None:
    rows = measured('input', synthetic, tmp_path)
    assert set(rows) == {f'input.{synthetic.name}', 'input.workers'}
    time, workers = rows[f'input.{synthetic.name}'], rows['input.workers']
    # A sample holds decoding and warping, so it can't be much faster than these.
    ours, peer = medians(time)
    assert time['unit'] == 'ms' and time['ratio'] == pytest.approx(peer / ours) and time['ratio'] < 1.1
    ours, peer = medians(workers)
    assert workers['unit'] == 'img/s' and workers['ratio'] == pytest.approx(ours / peer)
    assert 'input.workers' in capsys.readouterr().out


@pytest.mark.needs_mindspore('2.0', 'the direct port has an interpolate with a size, which 1.10 does not')
@pytest.mark.slow
def test_evaluation_gives_boxes_per_second_and_the_estimate(synthetic: Path, tmp_path: Path) -> None:
    rows = measured('evaluation', synthetic, tmp_path)
    assert set(rows) == {'evaluation', 'evaluation.forward'}
    assert rows['evaluation']['ours'] == rows['evaluation.forward']['ours'] and rows['evaluation']['ours']['median'] > 0
    assert '104125' in rows['evaluation']['note']


def test_ratio_is_to_the_best_peer_and_above_one_where_ours_is_better() -> None:
    peers = {'eager': [5.0], 'compiled': [10.0], 'ours in openvino': [1.0]}
    faster, slower = run.row([10.0, 30.0, 20.0], peers, 'img/s', run.HIGHER), run.row([20.0], peers, 'ms', run.LOWER)
    assert faster['ratio'] == 2.0 and faster['best'] == 'compiled' and faster['ours']['quartiles'] == [15.0, 25.0]
    assert slower['ratio'] == 0.25 and slower['best'] == 'eager'
    line = run.line('forward', faster)
    assert 'compiled: ours 20 (15-25), eager 5 (5-5), compiled 10 (10-10), ours in openvino 1 (1-1)' in line


def test_machines_are_told_apart_by_their_vector_instructions() -> None:
    text = 'processor\t: 0\nmodel name\t: {}\nflags\t\t: fpu {}\n\n'
    newer = run.machine(text.format('Newer CPU', 'avx2 avx512f avx512_vnni amx_tile') * 2)
    assert newer.startswith('Newer CPU, ') and newer.endswith(' cores, AVX2 AVX-512 AVX512-VNNI AMX')
    assert run.machine(text.format('Older CPU', 'avx2')).endswith(' cores, AVX2')
    assert run.machine('').endswith('neither AVX2 nor AVX-512 seen')


def test_failures_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='latency: peer: ended'):
        run.main(['--part', 'latency', '--peer_python', sys.executable, '--model_config', tiny(tmp_path)])
    with pytest.raises(InputError, match='--rounds 0'):
        run.main(['--rounds', '0'])


@pytest.fixture
def side(tmp_path: Path) -> Worker:
    """A worker that adds."""
    script = tmp_path / 'side.py'
    script.write_text(f'import sys; sys.path.insert(0, {str(Path(run.__file__).parent)!r})\n'
                      'from worker import serve\nprint("noise")\n'
                      'serve(dict(add=lambda a, b: lambda: a + b))\n')
    return Worker(sys.executable, script)


def test_a_peer_that_fails_is_said_and_the_others_count(side: Worker) -> None:
    good, bad = (side, 'add', {'a': 1, 'b': 2}), (side, 'add', {'a': 1, 'b': 'x'})
    with side:
        sides, remark = run.prepare_peers({'eager': good, 'compiled': bad})
        assert sides == {'eager': (side, 'eager')} and side.time('eager', 1)['result'] == 3
        assert re.fullmatch(r'eager ready after .* s, compiled failed \(side: TypeError: .*\)', remark)
        with pytest.raises(RuntimeError, match='TypeError'):
            run.prepare_peers({'compiled': bad})


def test_a_worker_reports_errors_and_is_stopped_while_it_waits(side: Worker) -> None:
    with side:
        assert side.prepare('add', 'sum', a=1, b=2)['result'] == 3
        reply = side.time('sum', 3)
        assert len(reply['seconds']) == 3 and reply['peak'] > 1
        with pytest.raises(RuntimeError, match='side: KeyError'):
            side.time('absent', 1)
        state = Path(f'/proc/{side.pid}/status').read_text()
        assert 'State:\tT' in state
    assert not Path(f'/proc/{side.pid}').exists()
