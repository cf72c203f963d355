"""Names, recognition, EMA and wrappers in numpy; then files into networks and back."""
from __future__ import annotations

import functools
import json
import stat
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import InputError
from src.weights.architecture import Architecture, recognise
from src.weights.checkpoint import (
    fill_network,
    load_network,
    network_state,
    official_state,
    read_state,
    save_network,
    to_mindspore,
    to_torch,
)
from src.weights.pickles import Foreign
from src.weights.pth import write_pth

LITE_18 = Architecture((2, 4, 2), (40, 80, 160, 320), 'LITE', 17)
NETWORKS = {'litehrnet_18': LITE_18,
            'litehrnet_30': Architecture((3, 8, 3), (40, 80, 160, 320), 'LITE', 17),
            'naive_litehrnet_18': Architecture((2, 4, 2), (30, 60, 120, 240), 'NAIVE', 16),
            'wider_naive_litehrnet_18': Architecture((2, 4, 2), (40, 80, 160, 320), 'NAIVE', 17)}
HEAD = 'keypoint_head.final_layer.weight'


@functools.cache
def build(architecture: Architecture):
    """A network (one for all tests) of small pictures, which its parameters don't depend on."""
    from src.model import LiteHRNet
    return LiteHRNet((64, 64), stage_modules=architecture.stage_modules, stage_channels=architecture.stage_channels,
                     module=architecture.module, num_joints=architecture.num_joints)


@pytest.fixture(scope='module')
def network():
    return build(LITE_18)


@pytest.fixture(scope='module')
def official(network) -> dict[str, np.ndarray]:
    """Official-format weights, different in every entry."""
    rng = np.random.default_rng(0)
    state = to_torch(network_state(network))
    return {name: rng.standard_normal(value.shape).astype(np.float32) if value.dtype == np.float32 else value
            for name, value in state.items()}


def assert_holds(network, state: dict[str, np.ndarray]) -> None:
    held = to_torch(network_state(network))
    assert list(held) == list(state)
    for name, value in state.items():
        np.testing.assert_array_equal(held[name], value, err_msg=name)


def test_names_shapes_and_order_are_the_official_ones(goldens, network):
    listed = json.loads((goldens / 'state_dict_litehrnet_18_256x192.json').read_text())
    ours = to_torch(network_state(network))
    assert [[name, list(value.shape), str(value.dtype)] for name, value in ours.items()] == listed
    back = to_mindspore(ours)
    assert set(back) == {name for name, _ in network.parameters_and_names()}


def test_recognises_official_names(goldens):
    listed = json.loads((goldens / 'state_dict_litehrnet_18_256x192.json').read_text())
    found = recognise({name: np.empty(shape) for name, shape, _ in listed}, 'a.pth')
    assert found == LITE_18 and found.name == 'litehrnet_18'


@pytest.mark.parametrize('name', NETWORKS)
def test_recognises_every_published_network(name):
    state = network_state(build(NETWORKS[name]))
    for spelt in (state, to_torch(state)):
        found = recognise(spelt, 'a.pth')
        assert found == NETWORKS[name] and found.name == name


def test_describes_unpublished_networks():
    assert Architecture((1, 1), (8, 16, 32), 'LITE', 5).name == 'lite Lite-HRNet with 1-1 modules of 8-16-32 channels'


@pytest.mark.parametrize('other', [{}, {'conv1.weight': np.empty((64, 3, 7, 7)), 'fc.bias': np.empty(1000)}])
def test_other_networks_are_refused(other):
    with pytest.raises(InputError, match=r'a\.pth: no Lite-HRNet'):
        recognise(other, 'a.pth')


@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: {'state_dict': s, 'meta': {}, 'optimizer': {'state': {}}},
                                  lambda s: {'model': s, 'epoch': 3}, lambda s: {'model_state': s},
                                  lambda s: {'state_dict': {f'module.{k}': v for k, v in s.items()}}])
def test_wrappers_and_prefixes(official, wrap):
    state = official_state(wrap(official))
    assert list(state) == list(official) and all(state[name] is official[name] for name in official)


def test_mmpose_1x_names(official):
    renamed = {name.replace('keypoint_head.', 'head.'): value for name, value in official.items()}
    raw = {'state_dict': {**renamed, 'data_preprocessor.mean': np.zeros(3), 'data_preprocessor.std': np.ones(3)}}
    state = official_state(raw)
    assert list(state) == list(official) and state[HEAD] is official[HEAD]


def test_bare_backbone_lists_the_head(official):
    bare = {name[len('backbone.'):]: v for name, v in official.items() if name.startswith('backbone.')}
    state = official_state({'state_dict': bare})
    assert set(state) == {name for name in official if name.startswith('backbone.')}
    with pytest.raises(InputError, match=r'missing keypoint_head.final_layer.bias, keypoint_head.final_layer.weight'):
        recognise(state, 'a.pth')


def ema_files(official: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    average = {name: np.asarray(value + 1) for name, value in official.items()}
    learnt = [n for n in official if not n.endswith(('running_mean', 'running_var', 'num_batches_tracked'))]
    return average, {
        'mmengine': {'state_dict': official,
                     'ema_state_dict': {'steps': np.array(5), **{f'module.{n}': v for n, v in average.items()}}},
        'timm': {'state_dict': official, 'state_dict_ema': average},
        'alone': {'state_dict_ema': average},
        'mmcv': {'state_dict': {**official, **{f'ema_{n.replace(".", "_")}': average[n] for n in learnt}}}}


@pytest.mark.parametrize('kind', ['mmengine', 'timm', 'alone', 'mmcv'])
def test_moving_averages(official, caplog, kind):
    average, files = ema_files(official)
    state = official_state(files[kind], ema=True)
    assert set(state) == set(official) and not caplog.records
    for name, value in state.items():
        shared = kind == 'mmcv' and name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))
        assert value is (official if shared else average)[name]


@pytest.mark.parametrize('kind', ['mmengine', 'timm', 'mmcv'])
def test_moving_averages_are_ignored_aloud(official, caplog, kind):
    state = official_state(ema_files(official)[1][kind])
    assert all(state[name] is official[name] for name in official) and len(state) == len(official)
    assert 'ignored' in caplog.text


def test_moving_averages_must_be_there_if_asked_for(official):
    with pytest.raises(InputError, match='no EMA weights'):
        official_state({'state_dict': official}, ema=True)
    with pytest.raises(InputError, match='EMA weights only'):
        official_state({'state_dict_ema': official})


def test_what_is_no_weight_is_named(official):
    with pytest.raises(InputError, match=r'epoch \(3\), model \(<Foreign>\)'):
        official_state({'model': Foreign(), 'epoch': 3})
    with pytest.raises(InputError, match='duplicate entry'):
        official_state({**official, f'module.{HEAD}': official[HEAD]})


def test_counters_may_be_absent(official):
    counters = [name for name in official if name.endswith('num_batches_tracked')]
    for absent in (counters, counters[:1]):  # files from before PyTorch 0.4.1 have none
        assert set(to_mindspore({n: v for n, v in official.items() if n not in absent})) == set(to_mindspore(official))


def test_files_fill_networks_and_come_back(tmp_path, network, official):
    write_pth(tmp_path / 'a.pth', official)
    load_network(network, tmp_path / 'a.pth')
    assert_holds(network, official)
    save_network(network, tmp_path / 'deep/a.ckpt')
    save_network(network, tmp_path / 'deep/a.ckpt')  # over an existing file
    mode = (tmp_path / 'deep/a.ckpt').stat()
    assert mode.st_mode & stat.S_IWUSR and 4.5e6 < mode.st_size < 4.9e6
    assert sorted(path.name for path in (tmp_path / 'deep').iterdir()) == ['a.ckpt', 'a.ckpt.sha256']
    fill_network(network, {name: np.zeros_like(v) for name, v in to_mindspore(official).items()})
    load_network(network, tmp_path / 'deep/a.ckpt')
    assert_holds(network, official)


def test_half_precision_weights_become_float32(tmp_path, network, official):
    half = {name: v.astype(np.float16) if v.dtype == np.float32 else v for name, v in official.items()}
    write_pth(tmp_path / 'a.pth', half)
    load_network(network, tmp_path / 'a.pth')
    assert_holds(network, half)
    assert network.keypoint_head.final_layer.weight.asnumpy().dtype == np.float32


def test_every_misfit_is_listed_and_nothing_is_loaded(tmp_path, network, official):
    before = network_state(network)
    bn, conv, bias = 'backbone.stem.conv1.bn', 'backbone.transition0.0.0.weight', 'keypoint_head.final_layer.bias'
    broken = {name: value for name, value in official.items() if name != f'{bn}.running_var'}
    broken.update({'backbone.extra.weight': np.zeros(1, np.float32), conv: official[conv][:, :, :1],
                   bias: np.full_like(official[bias], np.nan)})
    write_pth(tmp_path / 'a.pth', broken)
    with pytest.raises(InputError) as caught:
        load_network(network, tmp_path / 'a.pth')
    assert str(caught.value) == (f'{tmp_path}/a.pth: does not fit litehrnet_18: 1 unknown: backbone.extra.weight; '
                                 f'1 missing: {bn}.running_var; 1 misshapen: {conv}; 1 not finite: {bias}')
    for name, value in network_state(network).items():
        np.testing.assert_array_equal(value, before[name])


def test_long_lists_are_cut_and_counted(tmp_path, network, official):
    write_pth(tmp_path / 'a.pth', {**official, **{f'extra.{i}': np.zeros(1) for i in range(9)}})
    with pytest.raises(InputError, match=r'9 unknown: extra\.0, extra\.1, extra\.2, extra\.3 and 5 more$'):
        load_network(network, tmp_path / 'a.pth')


@pytest.mark.parametrize('name', ['backbone.head_layer.projects.0.depthwise_conv.conv.weight', HEAD])
def test_a_misshapen_entry_that_recognition_reads(tmp_path, network, official, name):
    write_pth(tmp_path / 'a.pth', {**official, name: official[name][:, :, 0]})
    with pytest.raises(InputError, match=f'does not fit litehrnet_18: 1 misshapen: {name}$'):
        load_network(network, tmp_path / 'a.pth')


def test_another_architecture_is_named(tmp_path, network):
    save_network(build(NETWORKS['litehrnet_30']), tmp_path / 'a.ckpt')
    assert 7.0e6 < (tmp_path / 'a.ckpt').stat().st_size < 7.5e6
    with pytest.raises(InputError, match=r'holds litehrnet_30 \(17 keypoints\), the network is litehrnet_18 \('):
        load_network(network, tmp_path / 'a.ckpt')


@pytest.mark.parametrize('spoil', [lambda b: b[:len(b) // 2], lambda b: b'', lambda b: b'hello there\n' * 9,
                                   lambda b: bytes(300)])
def test_damaged_ckpt_names_the_file(tmp_path, network, spoil):
    path = tmp_path / 'a.ckpt'
    save_network(network, path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=rf'^{path}: damaged \(its checksum'):
        load_network(network, path)
    (tmp_path / 'a.ckpt.sha256').unlink()
    with pytest.raises(InputError, match=f'^{path}: not a whole MindSpore checkpoint'):
        load_network(network, path)


@pytest.mark.parametrize('name, ema, message', [('absent.ckpt', False, 'no such file'),
                                                ('absent.pth', False, 'cannot be read'),
                                                ('a.onnx', False, "unknown suffix '.onnx'"),
                                                ('a.ckpt', True, 'has no EMA weights')])
def test_unreadable_files(tmp_path: Path, name, ema, message):
    with pytest.raises(InputError, match=message):
        read_state(tmp_path / name, ema)
