"""The network against the reference's numbers, and its cheap operators against their plain spelling."""
from __future__ import annotations

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from src.config import load_model_config
from src.layers import Shuffle, Upsample
from src.model import CrossResolutionWeighting, IterativeHead, LiteHRNet, StageModule
from src.settings.build import build_network
from src.weights.checkpoint import load_network
from tests.networks import mode, our_name, randomise, tiny

SIZES = {'256x192': [(64, 48), (32, 24), (16, 12), (8, 6)], '384x288': [(96, 72), (48, 36), (24, 18), (12, 9)]}
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


# The plain spellings, as the literature and PyTorch's manual define them.

def plain_shuffle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    x = np.concatenate((a, b), 1)
    n, c, h, w = x.shape
    return x.reshape(n, 2, c // 2, h, w).transpose(0, 2, 1, 3, 4).reshape(n, c, h, w)


def plain_nearest(x: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = np.arange(height) * x.shape[2] // height, np.arange(width) * x.shape[3] // width
    return x[:, :, rows][:, :, :, columns]


def plain_bilinear(x: np.ndarray, height: int, width: int) -> np.ndarray:
    def along(x: np.ndarray, axis: int, size: int) -> np.ndarray:
        at = np.arange(size) * ((x.shape[axis] - 1) / (size - 1))
        low = np.minimum(at.astype(int), x.shape[axis] - 2)
        share = np.expand_dims(at - low, tuple(d for d in range(4) if d != axis))
        return x.take(low, axis) * (1 - share) + x.take(low + 1, axis) * share
    return along(along(x.astype(np.float64), 2, height), 3, width).astype(np.float32)


def plain_adaptive_pool(x: np.ndarray, height: int, width: int) -> np.ndarray:
    def cells(size: int, parts: int) -> list[slice]:
        return [slice(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
    return np.stack([np.stack([x[:, :, r, c].mean((2, 3)) for c in cells(x.shape[3], width)], -1)
                     for r in cells(x.shape[2], height)], -2)


def literal_fusion(module: StageModule, xs: list[np.ndarray]) -> list[np.ndarray]:
    """The fusion step as the official code runs it: in place, in order, path by path."""
    def path(i: int, j: int, x: np.ndarray) -> np.ndarray:
        y = module.fuse_layers[i][j](ms.Tensor(x)).asnumpy()
        return plain_nearest(y, *xs[i].shape[2:]) if j > i else y

    xs, out = [x.copy() for x in xs], []
    for i in range(len(xs)):
        total = xs[0] if i == 0 else path(i, 0, xs[0])
        for j in range(len(xs)):
            total += xs[j] if i == j else path(i, j, xs[j])
        out.append(np.maximum(total, 0))
    return out


# Structure

@pytest.mark.parametrize(('config', 'count'), [
    ('litehrnet_18_coco_256x192', 1_130_769), ('litehrnet_18_coco_384x288', 1_130_769),
    ('litehrnet_30_coco_256x192', 1_763_717), ('litehrnet_30_coco_384x288', 1_763_717),
    ('naive_litehrnet_18_coco_256x192', 760_365), ('wider_naive_litehrnet_18_coco_256x192', 1_318_625)])
def test_parameter_counts(config: str, count: int) -> None:
    network = build_network(load_model_config(config))
    assert sum(p.size for p in network.trainable_params()) == count


@pytest.fixture(scope='module')
def fresh() -> LiteHRNet:
    return LiteHRNet()


def test_names_are_the_official_ones(fresh: LiteHRNet, goldens: Path) -> None:
    listed = {name: tuple(shape) for name, shape, _ in json.loads(
        (goldens / 'state_dict_litehrnet_18_256x192.json').read_text())}
    batch_norms = {name.rpartition('.')[0] for name in listed if name.endswith('.running_mean')}
    wanted = {our_name(name, batch_norms): shape for name, shape in listed.items() if not name.endswith('_tracked')}
    assert {name: p.shape for name, p in fresh.parameters_and_names()} == wanted


def test_initial_values_are_the_official_ones(fresh: LiteHRNet) -> None:
    weights = []
    for name, parameter in fresh.parameters_and_names():
        value = parameter.asnumpy()
        if value.ndim == 4:
            weights.append(value.ravel())
            assert value.size < 2000 or value.std() == pytest.approx(0.001, rel=0.1), name
        else:
            constant = float(name.endswith(('.gamma', '.moving_variance')))
            assert (value == constant).all(), name
    weights = np.concatenate(weights) / 0.001
    assert abs(weights.mean()) < 0.01 and weights.std() == pytest.approx(1, rel=0.01)
    assert np.mean(weights ** 4) == pytest.approx(3, rel=0.02)  # normal, neither uniform nor cut off


# Reference numbers

@pytest.fixture(scope='module')
def reference_run(goldens: Path) -> dict[str, list[np.ndarray]]:
    """Outputs of every cell of Lite-HRNet-18 on the fixed input; the whole network's under ''."""
    network = LiteHRNet()
    load_network(network, goldens / 'litehrnet_18_coco_256x192.pth')
    network.set_train(False)
    outputs = {}

    def remember(name: str):
        def hook(cell, inputs, output) -> None:
            outputs[name] = [x.asnumpy() for x in (output if isinstance(output, (tuple, list)) else [output])]
        return hook

    with mode(ms.PYNATIVE_MODE):
        for name, cell in network.cells_and_names():
            if not isinstance(cell, (nn.Conv2d, nn.BatchNorm2d, nn.CellList)):
                cell.register_forward_hook(remember(name))
        network(ms.Tensor(np.random.RandomState(0).randn(2, 3, 256, 192).astype(np.float32)))
    return outputs


def test_heatmaps_are_the_references(reference_run, goldens: Path) -> None:
    expected = np.load(goldens / 'model_litehrnet_18_256x192.npz')
    heatmaps, = reference_run['']
    worst = [float(np.abs(heatmaps - expected[key]).max()) for key in ('heatmaps', 'heatmaps_float64_reference')]
    print(f'largest deviation: {worst}')
    assert max(worst) < 1e-3


def test_every_stage_is_the_references(reference_run, goldens: Path) -> None:
    expected = np.load(goldens / 'activations_litehrnet_18_256x192.npz')
    points = {tuple(key.split('|')[:2]) for key in expected.files}
    assert len(points) == 45
    worst = dict.fromkeys(('mean', 'std', 'min_max', 'slice'), 0.0)
    for point, branch in sorted(points):
        head = point == 'backbone.head_layer'
        output = (reference_run[f'backbone.head_layer.projects.{3 - int(branch)}'][0] if head
                  else reference_run[point][int(branch)])
        want = {kind: expected[f'{point}|{branch}|{kind}'] for kind in ('shape', *worst)}
        assert output.shape == tuple(want['shape']), point
        double = output.astype(np.float64)
        found = dict(mean=double.mean((0, 2, 3)), std=double.std((0, 2, 3)), min_max=[output.min(), output.max()],
                     slice=output[:1, :6, :8, :6])
        for kind, limit in (('mean', 5e-5), ('std', 5e-5), ('min_max', 5e-4), ('slice', 5e-4)):
            deviation = float(np.abs(found[kind] - want[kind]).max() / want['std'].max())
            worst[kind] = max(worst[kind], deviation)
            assert deviation < limit, (point, branch, kind)
    print(f'largest deviation in standard deviations: {worst}')


def test_trained_network_sees_what_it_should(goldens: Path) -> None:
    expected = np.load(goldens / 'tinypose_expected.npz')
    network = build_network(load_model_config('wider_naive_litehrnet_18_coco_256x192'))
    load_network(network, goldens / 'tinypose_wider_naive_18_256x192.pth')
    network.set_train(False)
    crops = ((expected['crop_uint8'] / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    with mode(ms.PYNATIVE_MODE):
        worst = float(np.abs(network(ms.Tensor(crops)).asnumpy() - expected['heatmaps']).max())
    print(f'largest deviation: {worst}')
    assert worst < 1e-4


# Cheap operators

@pytest.fixture
def pynative():
    with mode(ms.PYNATIVE_MODE):
        yield


@pytest.mark.parametrize('size', [(4, 6), (12, 9)])
def test_shuffle(size: tuple[int, int], pynative) -> None:
    a, b = random(2, 5, *size), random(2, 5, *size, seed=1)
    found = Shuffle(5, *size)(ms.Tensor(a), ms.Tensor(b)).asnumpy()
    np.testing.assert_array_equal(found, plain_shuffle(a, b))


@pytest.mark.parametrize(('size', 'factor'), [((8, 6), 2), ((96, 72), 8), ((24, 18), 2)])
@pytest.mark.parametrize(('primitive', 'combine'), [(ops.Add, np.add), (ops.Mul, np.multiply)])
def test_nearest_upsampling(size: tuple[int, int], factor: int, primitive, combine, pynative) -> None:
    high, low = random(2, 3, *size), random(2, 3, *(n // factor for n in size), seed=1)
    found = Upsample(primitive(), 3, *size, factor)(ms.Tensor(high), ms.Tensor(low)).asnumpy()
    np.testing.assert_array_equal(found, combine(high, plain_nearest(low, *size)))


@pytest.mark.parametrize('sizes', SIZES.values(), ids=SIZES)
def test_bilinear_upsampling(sizes: list[tuple[int, int]], pynative) -> None:
    head = IterativeHead([4] * len(sizes), sizes)
    for b, size in enumerate(sizes[:-1]):
        x = random(2, 4, *sizes[b + 1])
        found = head.upsample(ms.Tensor(x), b).asnumpy()
        np.testing.assert_allclose(found, plain_bilinear(x, *size), atol=2e-6)


@pytest.mark.parametrize('sizes', SIZES.values(), ids=SIZES)
def test_cross_resolution_weighting(sizes: list[tuple[int, int]], pynative) -> None:
    cell = CrossResolutionWeighting([4, 8, 8, 12], sizes)
    randomise(cell)
    cell.set_train(False)
    xs = [random(2, c, *size, seed=c) for c, size in zip([4, 8, 8, 12], sizes)]
    pooled = np.concatenate([plain_adaptive_pool(x, *sizes[-1]) for x in xs], 1)
    weights = np.split(cell.conv2(cell.conv1(ms.Tensor(pooled))).asnumpy(), [4, 12, 20], 1)
    found = cell(tuple(map(ms.Tensor, xs)))
    assert len(found) == 4
    for y, x, weight in zip(found, xs, weights):
        np.testing.assert_allclose(y.asnumpy(), x * plain_nearest(weight, *x.shape[2:]), atol=2e-6)


@pytest.mark.parametrize('branches', [2, 3, 4])
def test_fusion_doubles_what_the_official_code_doubles(branches: int, pynative) -> None:
    sizes, channels = SIZES['384x288'][:branches], [8, 8, 16, 24][:branches]
    module = StageModule('NAIVE', channels, sizes)
    randomise(module)
    module.set_train(False)
    xs = [random(1, c, *size, seed=b) for b, (c, size) in enumerate(zip(channels, sizes))]
    expected = literal_fusion(module, [x.asnumpy() for x in module.run_blocks(tuple(map(ms.Tensor, xs)))])
    for found, want in zip(module(tuple(map(ms.Tensor, xs))), expected):
        np.testing.assert_allclose(found.asnumpy(), want, atol=1e-5 * np.abs(want).max())


@pytest.mark.slow
def test_modes_agree() -> None:
    network = tiny()
    randomise(network)
    network.set_train(False)
    x = ms.Tensor(random(2, 3, 64, 64))
    with mode(ms.PYNATIVE_MODE):
        expected = network(x).asnumpy()
    with mode(ms.GRAPH_MODE):
        found = network(x).asnumpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def spell_plainly(network: LiteHRNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the plain spellings in the place of the cheap operators."""
    def tensors(xs) -> tuple[ms.Tensor, ...]:
        return tuple(ms.Tensor(x) for x in xs)

    monkeypatch.setattr(Shuffle, 'construct', lambda self, a, b: ms.Tensor(plain_shuffle(a.asnumpy(), b.asnumpy())))
    monkeypatch.setattr(Upsample, 'construct', lambda self, high, low: self.combine(
        high, ms.Tensor(plain_nearest(low.asnumpy(), *high.shape[2:]))))
    monkeypatch.setattr(IterativeHead, 'upsample', lambda self, x, b: ms.Tensor(
        plain_bilinear(x.asnumpy(), self.rows[b].shape[0], self.columns[b].shape[1])))
    monkeypatch.setattr(StageModule, 'construct', lambda self, xs: tensors(
        literal_fusion(self, [x.asnumpy() for x in self.run_blocks(xs)])))
    for _, cell in network.cells_and_names():
        if isinstance(cell, CrossResolutionWeighting):
            height, width = cell.scale[-1].low_shape[2], cell.scale[-1].low_shape[4]
            cell.pools = [lambda x, size=(height, width): ms.Tensor(plain_adaptive_pool(x.asnumpy(), *size))
                          for _ in cell.pools]


@pytest.mark.slow
@pytest.mark.parametrize('config', ['litehrnet_30_coco_256x192', 'litehrnet_30_coco_384x288',
                                    'litehrnet_18_coco_384x288', 'naive_litehrnet_18_coco_256x192'])
def test_networks_without_reference_equal_their_plain_spelling(config: str, pynative,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_model_config(config)
    network = build_network(settings)
    randomise(network)
    network.set_train()  # batch statistics keep the signal's size through all these layers
    width, height = settings['data']['image_size']
    x = ms.Tensor(random(2, 3, height, width))
    found = network(x).asnumpy()
    assert found.shape == (2, 17, height // 4, width // 4) and found.std() > 0.1
    spell_plainly(network, monkeypatch)
    expected = network(x).asnumpy()
    worst = float(np.abs(found - expected).max() / expected.std())
    print(f'largest deviation in standard deviations: {worst}')
    assert worst < 1e-3
