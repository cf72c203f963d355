"""Devices, seeds, parameter groups and optimizers, the log."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from src import utils
from src.common import compat
from src.common.errors import InputError
from src.utils import get_logger, make_optimizer, parameter_groups, set_device, set_seed
from tests.networks import tiny, values


@pytest.fixture(scope='module')
def network() -> nn.Cell:
    return tiny()


@pytest.fixture(autouse=True)
def context():
    """`set_device` changes the mode for all."""
    before = ms.get_context('mode')
    yield
    ms.set_context(mode=before)


# Parameter groups

def test_convolution_weights_alone_decay(network: nn.Cell) -> None:
    decayed, plain, order = parameter_groups(network, 0.25)
    assert decayed['weight_decay'] == 0.25 and plain['weight_decay'] == 0
    names = {p.name for p in decayed['params']}
    assert names == {p.name for p in network.trainable_params() if p.name.endswith('.weight')}
    assert {p.name.rpartition('.')[2] for p in plain['params']} == {'gamma', 'beta', 'bias'}
    assert len(names) + len(plain['params']) == len(network.trainable_params())
    assert [p.name for p in order['order_params']] == [p.name for p in network.trainable_params()]


@pytest.mark.parametrize('name', ['AdamWeightDecay', 'Adam', 'SGD'])
def test_optimizers_take_the_groups_in_the_networks_order(network: nn.Cell, name: str) -> None:
    optimizer = make_optimizer(name, network, np.float32([0.5, 0.25]), 0.125)
    assert type(optimizer).__name__ == name or (name == 'SGD' and compat.VERSION < (2,))
    assert [p.name for p in optimizer.parameters] == [p.name for p in network.trainable_params()]
    decays = {p.name: float(d) for p, d in zip(optimizer.parameters, optimizer.get_weight_decay())}
    assert all(d == (0.125 if name.endswith('.weight') else 0) for name, d in decays.items())


# Seeds

def test_seed_fixes_the_initial_weights() -> None:
    states = []
    for seed in (3, 3, 2 ** 64 - 1):
        set_seed(seed)
        states.append(values(tiny()))
    assert all(np.array_equal(states[0][k], states[1][k]) for k in states[0])
    weights = [k for k in states[0] if states[0][k].ndim == 4]
    assert weights and not any(np.array_equal(states[0][k], states[2][k]) for k in weights)


def test_no_seed_leaves_the_generators_alone() -> None:
    np.random.seed(5)
    expected = np.random.rand(3)
    np.random.seed(5)
    set_seed(None)
    np.testing.assert_array_equal(np.random.rand(3), expected)


def test_a_seed_of_any_size_is_taken() -> None:
    set_seed(2 ** 40 + 3)
    first = values(tiny())
    set_seed(2 ** 40 + 3)
    assert all(np.array_equal(value, first[name]) for name, value in values(tiny()).items())


# Devices

def refused(*arguments) -> str:
    with pytest.raises(InputError) as caught:
        set_device(*arguments)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_cpu_runs_in_graph_mode() -> None:
    assert set_device('CPU', 0) == (0, 1)
    assert ms.get_context('mode') == ms.GRAPH_MODE and ms.get_context('device_target') == 'CPU'


def test_the_cpu_has_one_number() -> None:
    assert 'device_id 1' in refused('CPU', 1)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, 'cuda_devices', lambda: 0)
    message = refused('GPU', 0)
    assert 'no CUDA device' in message and '--device CPU' in message


def test_no_such_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, 'cuda_devices', lambda: 2)
    assert 'device_id 2: there are 2 GPUs, numbered 0 to 1' in refused('GPU', 2)


def test_no_driver_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(utils.ctypes, 'CDLL', missing)
    assert utils.cuda_devices() == 0


def test_no_such_device_in_the_machine() -> None:
    message = refused('Ascend', 0)
    assert "device 'Ascend'" in message and '--device CPU' in message
    assert set_device('CPU', 0) == (0, 1)  # and nothing is left of it


def test_a_device_this_mindspore_was_not_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, 'built_for', lambda device: device == 'CPU')
    message = refused('GPU', 0)
    assert f'MindSpore {ms.__version__} is not built for it' in message and '--device CPU' in message
    assert set_device('CPU', 0) == (0, 1)


def test_ranks_meet_before_the_first_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator before `init` would bind every rank to device 0; a probe after it serves nobody."""
    events = []
    monkeypatch.setattr(ms.ops, 'Add', lambda: lambda *tensors: events.append('operator'))
    monkeypatch.setattr(utils, 'init', lambda: events.append('init'))
    monkeypatch.setattr(utils, 'get_rank', lambda: 1)
    monkeypatch.setattr(utils, 'get_group_size', lambda: 2)
    monkeypatch.setattr(ms, 'set_auto_parallel_context', lambda **settings: events.append(settings['device_num']))
    assert set_device('CPU', 0, distributed=True) == (1, 2) and events == ['init', 2]
    events.clear()
    assert set_device('CPU', 0) == (0, 1) and events == ['operator']


@pytest.mark.parametrize('message', ['', 'no scheduler\nC++ call stack'])
def test_ranks_that_cannot_meet(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(utils, 'init', fail)
    words = message.split('\n')[0] or 'RuntimeError'
    assert f'no communication with the other ranks ({words}); start with' in refused('CPU', 0, True)


def test_ranks_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, 'built_for', lambda device: True)
    monkeypatch.setattr(utils, 'cuda_devices', lambda: 0)
    assert 'no CUDA device' in refused('GPU', 0, True)


# Log

def test_log_goes_to_screen_and_file_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / 'new' / 'train.log'
    for _ in range(2):
        logger = get_logger(file)
    logger.info('hello')
    assert capsys.readouterr().out == 'hello\n'
    line, = file.read_text().splitlines()
    assert line.endswith(' hello') and line[:2] == '20'
    get_logger()
    assert len(logger.handlers) == 1


def test_two_trainings_do_not_write_to_one_folder(tmp_path: Path) -> None:
    file = tmp_path / 'train.log'
    code = (f'import fcntl; f = open({str(file)!r}, "a"); fcntl.lockf(f, fcntl.LOCK_EX); print("locked", flush=True); '
            'input()')
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b'locked\n'
        with pytest.raises(InputError, match=r'another training writes there; .* another --experiment_tag'):
            get_logger(file)
        other.communicate(b'\n')
    get_logger(file)
    get_logger()


def test_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='--output_root'):
        get_logger(tmp_path / 'file' / 'train.log')
    get_logger()
