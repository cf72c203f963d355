"""Files as other projects write them, made here of our networks by renaming the other way round."""
from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from src.common.errors import InputError
from src.weights.checkpoint import load_network, network_state, read_state, to_torch
from tests.networks import randomise, tiny
from tests.weights.test_checkpoint import NETWORKS, build

ARRAYS = dict[str, np.ndarray]


def zoo_name(name: str) -> str:
    """Of MindSpore's model zoo."""
    name = name.replace('keypoint_head.final_layer', 'final_layer.conv').replace('.bn.', '.norm.')
    return re.sub(r'(transition\d)\.', r'\1', name.replace('backbone.', ''))


def courses_name(name: str) -> str:
    """Of mindspore-courses: sequences of convolution, BN and (without entries) ReLU."""
    parts, kinds = name.replace('backbone.', '').split('.'), {'conv': 0, 'bn': 1}
    if parts[0] == 'keypoint_head':
        return name.replace('keypoint_head', 'heat_map')
    if parts[0][-1].isdigit():
        parts[:1] = [f'{parts[0][:-1]}s', parts[0][-1]]
    if 'branch1' in parts or 'branch2' in parts:
        first = (0, 2) if 'branch1' in parts else (0, 3, 5)
        parts[-3:-1] = [str(first[int(parts[-3])] + kinds[parts[-2]])]
    elif 'projects' in parts:
        parts[-3:-1] = [str({'depthwise_conv': 0, 'pointwise_conv': 2}[parts[-3]] + kinds[parts[-2]])]
    elif parts[-2] in kinds:
        parts[-2] = str(kinds[parts[-2]])
    return '.'.join(parts)


def paddle_name(name: str) -> str:
    """Of PaddleDetection; `name` is an official one."""
    for ours, theirs in (('.bn.', '.norm.'), ('.running_mean', '._mean'), ('.running_var', '._variance'),
                         ('keypoint_head.final_layer', 'final_conv')):
        name = name.replace(ours, theirs)
    return name


def save_zoo(state: ARRAYS, path: Path, spell: Callable[[str], str] = zoo_name) -> Path:
    file = path / 'a.ckpt'
    ms.save_checkpoint([{'name': spell(name), 'data': ms.Tensor(value)} for name, value in state.items()], str(file))
    return file


def save_courses(state: ARRAYS, path: Path) -> Path:
    return save_zoo(state, path, courses_name)


def save_paddle(state: ARRAYS, path: Path) -> Path:
    named = {paddle_name(name): value for name, value in to_torch(state).items() if value.dtype == np.float32}
    file = path / 'a.pdparams'
    file.write_bytes(pickle.dumps({**named, 'StructuredToParameterName@@': {key: f'x{key}' for key in named}}, 2))
    return file


SOURCES = pytest.mark.parametrize('save', [save_zoo, save_courses, save_paddle])


def varied(network: ms.nn.Cell) -> ARRAYS:
    randomise(network)
    return network_state(network)


def assert_same(found: ARRAYS, expected: ARRAYS) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@SOURCES
@pytest.mark.parametrize('name', NETWORKS)
def test_every_network_of_every_source(save: Callable, name: str, tmp_path: Path,
                                       caplog: pytest.LogCaptureFixture) -> None:
    state = varied(build(NETWORKS[name]))
    assert_same(read_state(save(state, tmp_path)), state)
    assert not caplog.records


def test_the_spellings() -> None:
    """As the sources have them."""
    state = network_state(build(NETWORKS['litehrnet_18']))
    assert len(state) == 1214
    zoo, courses = set(map(zoo_name, state)), set(map(courses_name, state))
    naive = set(map(courses_name, network_state(build(NETWORKS['naive_litehrnet_18']))))
    assert {'stem.conv1.norm.gamma', 'transition00.0.weight', 'transition12.0.0.weight', 'final_layer.conv.bias'} < zoo
    assert {'stem.conv1.0.weight', 'stem.branch1.3.beta', 'stem.linear_conv.1.gamma', 'transitions.1.2.0.3.gamma',
            'stages.0.1.layers.0.spatial_weighting.1.conv2.0.bias', 'heat_map.final_layer.weight',
            'head_layer.projects.3.2.weight', 'stages.1.0.fuse_layers.2.0.1.3.moving_mean'} < courses
    assert {'stages.0.0.layers.1.0.branch2.4.beta', 'stages.0.0.layers.1.0.branch2.5.weight'} < naive


@pytest.mark.slow
@pytest.mark.parametrize(('save', 'module'), [(save_paddle, 'LITE'), (save_zoo, 'NAIVE'), (save_courses, 'LITE')])
def test_the_same_heatmaps(save: Callable, module: str, tmp_path: Path) -> None:
    network, empty = tiny(module), tiny(module)
    file = save(varied(network), tmp_path)
    load_network(empty, file)
    images = ms.Tensor(np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32))
    expected, found = (net.set_train(False)(images).asnumpy() for net in (network, empty))
    assert expected.std() > 0.01
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('spell', [zoo_name, courses_name])
@pytest.mark.parametrize('inner', ['_backbone.', ''], ids=['optimizer after', 'optimizer before'])
def test_what_a_training_saves(spell: Callable, inner: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The optimizer's states bear the names that the weights had when it was made."""
    state = varied(tiny())
    trained = [name for name in state if not name.rpartition('.')[2].startswith('moving_')]
    entries = {f'_backbone.{spell(name)}': value for name, value in state.items()}
    entries.update({f'{moment}.{inner}{spell(name)}': np.zeros_like(state[name]) for name in trained
                    for moment in ('moment1', 'moment2')})
    entries.update(global_step=np.array([7], np.int32), learning_rate=np.zeros(210, np.float32),
                   beta1_power=np.array(0.5, np.float32))
    assert_same(read_state(save_zoo(entries, tmp_path, str)), state)
    [line] = caplog.messages
    assert line.endswith(f'only the weights (_backbone.*) are read; ignored: moment1.* ({len(trained)}), moment2.* '
                         f'({len(trained)}), global_step, learning_rate, beta1_power')


@SOURCES
def test_what_no_rule_explains_is_refused(save: Callable, tmp_path: Path) -> None:
    network = tiny()
    state = varied(network)
    state['backbone.stage0.0.layers.0.extra.weight'] = np.zeros((3, 3), np.float32)
    with pytest.raises(InputError, match=r': 1 unknown: backbone\.stage0\.0\.layers\.0\.extra\.weight$'):
        load_network(network, save(state, tmp_path))
    del state['backbone.stage0.0.layers.0.extra.weight'], state['keypoint_head.final_layer.bias']
    with pytest.raises(InputError, match=r'missing keypoint_head\.final_layer\.bias'):
        load_network(network, save(state, tmp_path))
