"""The operator that ends a step; tests/training/test_train_step.py has what it computes against MindSpore's."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from src.cpu.cells import accelerate
from src.cpu.kernels import build_library
from src.cpu.update import accelerate_update
from src.loss import JointsMSELoss, NetWithLoss
from src.training.train_step import TrainStep
from src.utils import make_optimizer
from tests.cpu.test_kernels import call
from tests.networks import mode, randomise, tiny, values

pytestmark = pytest.mark.skipif(build_library() is None, reason='no C++ compiler on this machine')
SIZES = [(3, 2, 1, 1), (3,), (40,)]
STATISTICS = [(2,), (3,)]
SHAPES = {'FinishAdam': [(4,), (9,), (1,), (), (1,), (3,), (5,), *SIZES * 4, *STATISTICS, (1,)],
          'FinishAdamWeightDecay': [(4,), (9,), (1,), (3,), (5,), *SIZES * 4, *STATISTICS, (1,)]}


def arguments(name: str) -> tuple[list[tuple[int, ...]], list[bytes], list[np.ndarray]]:
    """Shapes, types and tensors of a sound call."""
    shapes, rng = SHAPES[name], np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 0.9, 2 * int(np.prod(shape))).astype(np.float32) for shape in shapes]
    arrays[2] = np.zeros(2, np.int32)
    return shapes, [b'int32' if i == 2 else b'float32' for i in range(len(shapes))], arrays


@pytest.mark.parametrize('name', SHAPES)
@pytest.mark.parametrize('bad', [None, np.nan, -np.inf, -1e20])  # the square of the last is no float32
def test_everything_changes_or_nothing(name: str, bad: float | None) -> None:
    shapes, types, arrays = arguments(name)
    first = len(shapes) - 1 - len(STATISTICS) - 4 * len(SIZES)
    trained = range(first + 3, first + 12)
    if bad is not None:
        arrays[first + 2][39] = bad
    arrays[first + 1][3] = np.nan  # behind the gradient's end
    before = [array.copy() for array in arrays]
    code, after = call(name, shapes, types, arrays)
    assert code == 0 and after[-1][0] == (bad is None)
    moving = {2, *((3, 4) if name == 'FinishAdam' else ()), first - 1, *trained} if bad is None else set()
    for i, (old, new) in enumerate(zip(before[:-1], after)):
        size = int(np.prod(shapes[i]))
        assert np.array_equal(old[:size], new[:size], equal_nan=True) == (i not in moving), i
        np.testing.assert_array_equal(old[size:], new[size:])
    if bad is None:
        np.testing.assert_array_equal(after[first - 1][:5], np.concatenate([before[-3][:2], before[-2][:3]]))


@pytest.mark.parametrize('name', SHAPES)
def test_other_tensors_are_refused_and_left_alone(name: str) -> None:
    shapes, types, arrays = arguments(name)
    before = [array.copy() for array in arrays]
    free = {1, *range(len(shapes) - 3 - len(SIZES) * 4, len(shapes) - 3 - len(SIZES) * 3)}  # rates, gradients
    calls = [(shapes[:-1], types[:-1]), (shapes + [(1,)], types + [b'float32']), ([], [])]
    calls += [([*shapes[:i], (7, *shape[1:]), *shapes[i + 1:]], types) for i, shape in enumerate(shapes)
              if i not in free and shape]
    calls += [(shapes, [*types[:i], b'float16', *types[i + 1:]]) for i in range(len(shapes))]
    for other, kinds in calls:
        assert call(name, other, kinds, [*arrays, arrays[0]][:len(other)])[0] != 0, (other, kinds)
        assert all(np.array_equal(old, new) for old, new in zip(before, arrays))


@pytest.mark.slow
def test_a_network_trains_as_with_mindspores_operators() -> None:
    """Three steps, the second of them bad; then statistics are put back."""
    rate, found = 1e-3, []
    for ours in (False, True):
        network = tiny()
        randomise(network)
        accelerate(network)
        step = TrainStep(NetWithLoss(network, JointsMSELoss()),
                         make_optimizer('Adam', network, np.full(3, rate, np.float32), 0.1), 8.0).set_train()
        names = list(values(step))
        assert not ours or accelerate_update(step, 0.1)
        assert list(values(step)) == names
        step.keep_statistics()
        rng = np.random.default_rng(0)
        with mode(ms.GRAPH_MODE):
            for is_bad in (False, True, False):
                x, target = rng.standard_normal((2, 3, 64, 64)), rng.random((2, 3, 16, 16))
                target[0, 0, 0, 0] = np.nan if is_bad else 0
                _, finite = step(*(ms.Tensor(a.astype(np.float32)) for a in (x, target, np.ones((2, 3, 1)))))
                assert bool(finite) != is_bad
                if is_bad:
                    step.restore_statistics()
        found.append(values(step))
    for name, value in found[0].items():
        # Adam makes steps of the rate's size of gradients that are hardly more than rounding.
        np.testing.assert_allclose(found[1][name], value, rtol=1e-4, atol=rate / 10, err_msg=name)


@pytest.mark.parametrize('options', [{'clip_norm': 1.0}, {'accumulate_steps': 2}])
def test_where_more_happens_to_gradients_mindspores_operators_stay(options: dict) -> None:
    network = tiny()
    rates = np.ones(1, np.float32)
    step = TrainStep(NetWithLoss(network, JointsMSELoss()), make_optimizer('Adam', network, rates, 0.1), **options)
    assert not accelerate_update(step, 0.1) and step.fast is None
    step = TrainStep(NetWithLoss(network, JointsMSELoss()), make_optimizer('SGD', network, rates, 0.1))
    assert not accelerate_update(step, 0.1) and step.fast is None
