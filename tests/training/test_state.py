"""The file of a training state: whole or refused, never executed."""
from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import InputError
from src.loss import JointsMSELoss, NetWithLoss
from src.training.state import (
    MAGIC,
    TrainingState,
    fill_step,
    read_state,
    require_same_settings,
    settings_affecting_results,
    state_of,
    write_state,
)
from src.training.train_step import TrainStep
from src.utils import make_optimizer
from tests.networks import randomise, tiny


def state() -> TrainingState:
    return TrainingState(1234.5, 7, {'train.batch_size': 4, 'size': [3, 4]},
                         {'a.b': np.float32([[1, np.nan], [-0.0, 3]]), 'step': np.int32([7])})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'x_epoch1.state'
    write_state(state(), path)
    found = read_state(path)
    assert (found.start_time, found.step, found.settings) == (1234.5, 7, state().settings)
    for name, value in state().arrays.items():
        assert found.arrays[name].dtype == value.dtype and found.arrays[name].tobytes() == value.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize('part', [0, 10, 60, 100, 200, 400, -1])
@pytest.mark.parametrize('fault', ['truncated', 'flipped'])
def test_a_damaged_file_is_refused(tmp_path: Path, part: int, fault: str) -> None:
    path = tmp_path / 'x.state'
    write_state(state(), path)
    content = bytearray(path.read_bytes())
    if fault == 'truncated':
        content = content[:part]
    else:
        content[part] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match=r'x\.state: .*damaged'):
        read_state(path)


def test_pickles_are_refused_even_with_a_right_checksum(tmp_path: Path) -> None:
    archive, marker = io.BytesIO(), tmp_path / 'executed'

    class Payload:
        def __reduce__(self):
            return (Path.touch, (marker,))

    np.savez(archive, a=np.array([Payload()], dtype=object))
    rests = [b'{"begun": 0, "done": 0, "settings": {}}\n' + archive.getvalue(), pickle.dumps(Payload())]
    for rest in rests:
        path = tmp_path / 'x.state'
        path.write_bytes(f'{MAGIC} {hashlib.sha256(rest).hexdigest()}\n'.encode() + rest)
        with pytest.raises(InputError, match='damaged'):
            read_state(path)
    assert not marker.exists()


def make_step(optimizer: str = 'Adam', joints: int = 3, steps: int = 3) -> TrainStep:
    network = tiny('NAIVE', joints)
    randomise(network)
    rates = np.linspace(0.1, 0.2, steps, dtype=np.float32)
    return TrainStep(NetWithLoss(network, JointsMSELoss()), make_optimizer(optimizer, network, rates, 0.1))


@pytest.mark.parametrize('optimizer', ['SGD', 'Adam', 'AdamWeightDecay'])
def test_a_step_takes_back_all_but_its_rates(optimizer: str) -> None:
    step = make_step(optimizer)
    before = state_of(step)
    rng = np.random.default_rng(0)
    other = {name: rng.integers(0, 9, value.shape).astype(value.dtype) for name, value in before.items()}
    longer = make_step(optimizer, steps=9)
    fill_step(longer, TrainingState(0, 1, {}, other), Path('x.state'))
    after = state_of(longer)
    assert len(after) > len(list(longer.network.get_parameters())) and 'global_step' in after
    assert all(np.array_equal(after[name], value) for name, value in other.items())
    rates, = [p for p in longer.get_parameters() if p.name == 'learning_rate']
    assert rates.shape == (9,) and rates.asnumpy()[-1] == np.float32(0.2)


@pytest.mark.parametrize(('optimizer', 'joints'), [('SGD', 3), ('Adam', 4)])
def test_a_state_of_another_step_is_refused_whole(optimizer: str, joints: int) -> None:
    arrays = state_of(make_step())
    step = make_step(optimizer, joints)
    before = state_of(step)
    with pytest.raises(InputError, match=r'x\.state: .*entries do not fit'):
        fill_step(step, TrainingState(0, 1, {}, arrays), Path('x.state'))
    assert all(np.array_equal(value, before[name]) for name, value in state_of(step).items())


EXPERIMENT = {'random_seed': 3, 'learning_rate': 0.1, 'workers': 2, 'data_root': 'a'}
CONFIG = {'model': {'module': 'LITE'}, 'data': {'image_size': (64, 64)}, 'train_pipeline': [{'type': 'ToTensor'}],
          'train': {'epochs': 5, 'batch_size': 4, 'schedule': 'step'}, 'eval': {'batch_size': 1}}


@pytest.mark.parametrize(('section', 'key', 'value', 'ranks', 'named'), [
    ('experiment', 'random_seed', 4, 1, 'random_seed was 3 and is now 4'),
    ('experiment', 'learning_rate', 0.2, 1, 'learning_rate was'),
    ('model', 'module', 'NAIVE', 1, 'model.module was'),
    ('data', 'image_size', (64, 96), 1, r'data.image_size was \[64, 64\]'),
    ('train', 'batch_size', 8, 1, 'train.batch_size was 4 and is now 8'),
    ('train', 'new', 8, 1, 'train.new was None'),
    ('train', 'epochs', 8, 2, 'number of devices was 1 and is now 2'),
])
def test_a_setting_that_changed_is_named(section: str, key: str, value, ranks: int, named: str) -> None:
    saved = settings_affecting_results(EXPERIMENT, CONFIG, 10, 1)
    experiment = {**EXPERIMENT, key: value} if section == 'experiment' else EXPERIMENT
    config = CONFIG if section == 'experiment' else {**CONFIG, section: {**CONFIG[section], key: value}}
    with pytest.raises(InputError, match=named):
        require_same_settings(saved, settings_affecting_results(experiment, config, 10, ranks), Path('x.state'))


def test_other_samples_are_refused_and_other_folders_and_lengths_are_not() -> None:
    saved = settings_affecting_results(EXPERIMENT, CONFIG, 10, 1)
    with pytest.raises(InputError, match='number of training samples was 10 and is now 11'):
        require_same_settings(saved, settings_affecting_results(EXPERIMENT, CONFIG, 11, 1), Path('x.state'))
    config = {**CONFIG, 'train': {**CONFIG['train'], 'epochs': 9}, 'eval': {'batch_size': 2},
              'data': {**CONFIG['data'], 'val_annotations': 'other.json', 'detections': 'found.json'}}
    with pytest.raises(InputError, match=r'train\.epochs was 5 and is now 9'):
        cosines = [{**CONFIG, 'train': {'schedule': 'cosine', 'epochs': epochs}} for epochs in (5, 9)]
        require_same_settings(*(settings_affecting_results(EXPERIMENT, c, 10, 1) for c in cosines), Path('x.state'))
    free = {'workers': 0, 'data_root': 'b', 'compile_cache': False, 'dataset_sink_mode': True}
    require_same_settings(saved, settings_affecting_results({**EXPERIMENT, **free}, config, 10, 1),
                          Path('x.state'))
