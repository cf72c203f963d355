"""train.py, eval.py and export.py on the GPU plugin of mindspore-gpu 1.10 and on its CPU: the same numbers."""
from __future__ import annotations

import json

import numpy as np
import pytest

from src.deployment.runtime import open_file
from tests.gpu_double.programs import Programs
from tests.gpu_double.test_double import pytestmark  # noqa: F401

ALL_OPTIONS = ['--clip_norm', '0.1', '--ema_decay', '0.99', '--accumulate_steps', '2', '--freeze', 'stem']


def deviation(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], kind: str) -> float:
    """Distance of all arrays of a kind together, relative to their length.

    A kind is the end of the network's names ('.weight'), or the beginning of others ('adam_m.').
    """
    networks = ('backbone.', 'keypoint_head.') if kind.startswith('.') else (kind,)
    names = [name for name in expected if name.startswith(networks) and (name.endswith(kind) or kind in networks)]
    assert names and found.keys() == expected.keys()
    a, b = (np.concatenate([arrays[name].ravel().astype(np.float64) for name in names]) for arrays in (found, expected))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize(('tag', 'moments', 'options'), [
    ('adamw', ['adam_m.', 'adam_v.'], []),
    pytest.param('adam', ['moment1.', 'moment2.'], ['--train.optimizer', 'Adam'], marks=pytest.mark.slow),
    pytest.param('sgd', [], ['--train.optimizer', 'SGD', '--learning_rate', '0.1'], marks=pytest.mark.slow),
    pytest.param('all', ['adam_m.', 'adam_v.', 'ema.keypoint_head.'], ALL_OPTIONS, marks=pytest.mark.slow)])
def test_ten_steps(programs: Programs, tag: str, moments: list[str], options: list[str]) -> None:
    programs.train(tag, *options)
    expected = programs.losses('CPU', tag)
    assert len(expected) == 10 and np.abs(np.diff(expected)).max() > 0.01
    np.testing.assert_allclose(programs.losses('GPU', tag), expected, rtol=2e-6)
    found, state = programs.state('GPU', tag), programs.state('CPU', tag)
    # Shifts whose gradient is 0 but for rounding go where Adam sends them, and means of what comes after with them.
    limits = {'.weight': 1e-5, '.gamma': 1e-5, '.beta': 2e-3, '.bias': 1e-4, '.moving_mean': 1e-3}
    for kind, limit in (limits | dict.fromkeys(moments, 1e-4)).items():
        assert deviation(found, state, kind) < limit, kind
    # cuDNN moves the running variance towards that over n - 1, MindSpore 1.10 on the CPU to that over n; a layer that
    # sees 4 values has them a third apart.
    assert deviation(found, state, '.moving_variance') < 2e-2
    grown = [found[name].sum() >= state[name].sum() * (1 - 1e-5) for name in state if 'moving_variance' in name]
    assert all(grown)


def test_launches_of_a_step(programs: Programs) -> None:
    """What a GPU is asked for in each step: one launch for each parameter's update, few for what concerns them all."""
    if not programs.checkpoint('GPU', 'adamw').is_file():
        programs.train('adamw')
    trace, parameters = programs.trace('adamw'), sum('adam_m' in name for name in programs.state('GPU', 'adamw'))
    updates = sum(count for name, count in trace.items() if name.startswith('launch') and 'AdamWeightDecayOp' in name)
    launches = sum(count for name, count in trace.items() if name.startswith('launch'))
    assert updates == 10 * parameters
    assert launches < 10 * 5.5 * parameters


@pytest.mark.slow
@pytest.mark.parametrize('level', ['O2', 'O3'])
def test_float16(programs: Programs, level: str) -> None:
    """Convolutions are NHWC there. Rounding differs from the first step on, so the way of the losses is compared."""
    programs.train(level, '--amp_level', level)
    found, expected = programs.losses('GPU', level), programs.losses('CPU', level)
    assert abs(found[0] / expected[0] - 1) < 5e-4
    np.testing.assert_allclose(found, expected, rtol=0.05)
    assert any('__half' in name for name in programs.trace(level))


@pytest.mark.slow
def test_sink_mode(programs: Programs) -> None:
    """Batches go to the device through MindSpore's queue; losses, state and rows per step are those of the CPU."""
    programs.run('train.py', ('GPU', 'sink', programs.train_options('GPU', 'sink', '--dataset_sink_mode', 'true')),
                 ('CPU', 'sink', programs.train_options('CPU', 'sink')))
    np.testing.assert_allclose(programs.losses('GPU', 'sink'), programs.losses('CPU', 'sink'), rtol=2e-6)
    assert deviation(programs.state('GPU', 'sink'), programs.state('CPU', 'sink'), 'adam_m.') < 1e-4


@pytest.mark.slow
def test_a_bad_step_leaves_the_statistics_as_they_were(programs: Programs) -> None:
    """A rate without measure makes the third step overflow: it is skipped on both devices."""
    options = ('--learning_rate', '1e30', '--train.warmup_steps', '0', '--max_steps', '4', '--max_bad_steps', '9')
    programs.train('bad', *options)
    for device in ('CPU', 'GPU'):
        state, rows = programs.state(device, 'bad'), programs.rows(device, 'bad')
        assert [row['finite'] for row in rows] == ['1', '0', '0', '0'], device
        assert state['global_step'] == 1
        assert all(np.isfinite(value).all() for name, value in state.items() if 'moving' in name)


@pytest.mark.slow
def test_resume(programs: Programs) -> None:
    whole, parts = programs.train_options('GPU', 'whole'), programs.train_options('GPU', 'parts', '--max_steps', '5')
    programs.run('train.py', ('GPU', 'whole', whole), ('GPU', 'parts', parts))
    programs.run('train.py', ('GPU', 'parts', [*parts, '--max_steps', '10', '--resume', 'yes']))
    np.testing.assert_array_equal(programs.losses('GPU', 'parts'), programs.losses('GPU', 'whole'))
    expected = programs.state('GPU', 'whole')
    for name, value in programs.state('GPU', 'parts').items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.slow
def test_evaluation_and_export(programs: Programs) -> None:
    keypoints, heatmaps = {}, {}
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    for device in ('CPU', 'GPU'):
        checkpoint, folder = ('--checkpoint', str(programs.start)), programs.folder / device
        programs.run('eval.py', (device, 'eval', programs.options(
            device, 'eval', *checkpoint, '--boxes', 'gt', '--results_json', str(folder / 'results.json'))))
        programs.run('export.py', (device, 'export', programs.options(
            device, 'export', *checkpoint, '--output', str(folder / 'network.mindir'), '--batch_size', '1')))
        results = json.loads((folder / 'results.json').read_text())
        keypoints[device] = np.array([result['keypoints'] for result in results])
        heatmaps[device] = open_file(folder / 'network.mindir')[0](image)
    assert len(keypoints['CPU']) >= 4
    np.testing.assert_allclose(keypoints['GPU'], keypoints['CPU'], atol=1e-3)
    np.testing.assert_allclose(heatmaps['GPU'], heatmaps['CPU'], atol=1e-6)
