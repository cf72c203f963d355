"""The loop: steps, epochs and their callbacks, rates, bad steps."""
from __future__ import annotations

import csv
import logging
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.train.callback import Callback, RunContext

from src.callback import BadStepGuard, Progress, StepTable
from src.common.errors import InputError
from src.training.loop import CallbackRelay, fit
from src.training.train_step import TrainStep
from tests.networks import mode, values
from tests.training.test_train_step import RATES, Small, batch, gradients, make_step, train
from tests.training.test_train_step_options import make_step as make_step_with

LOGGER = logging.getLogger('loop')


@pytest.fixture(autouse=True)
def graph():
    with mode(ms.GRAPH_MODE):
        yield


class Watcher(Callback):
    """Notes the events; `stop_at` raises at that step."""

    def __init__(self, stop_at: int = 0) -> None:
        self.events: list[str] = []
        self.steps, self.exits, self.stop_at = 0, 0, stop_at

    def on_train_begin(self, run_context: RunContext) -> None:
        self.events.append('begin')

    def on_train_epoch_begin(self, run_context: RunContext) -> None:
        self.events.append('epoch')

    def on_train_step_end(self, run_context: RunContext) -> None:
        self.steps += 1
        self.events.append('step')
        if self.steps == self.stop_at:
            raise InputError('enough')

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        self.events.append('epoch_end')

    def on_train_end(self, run_context: RunContext) -> None:
        self.events.append('end')

    def __exit__(self, *error: object) -> None:
        self.exits += 1


def loader(batches: int, bad: tuple[int, ...] = ()) -> ds.Dataset:
    """The first batches; those in `bad` have a pixel that is not a number."""
    arrays = [np.concatenate([batch(i)[k].asnumpy() for i in range(batches)]) for k in range(3)]
    for number in bad:
        arrays[0][4 * number + 1, 0, 3, 3] = np.nan
    return ds.NumpySlicesDataset(tuple(arrays), ['img', 'target', 'target_weight'], shuffle=False).batch(4)


def test_fit_runs_all_steps_and_leaves_the_callbacks() -> None:
    step, watcher = make_step('SGD'), Watcher()
    before = values(step)
    fit(step, Progress(3, 3), loader(3), [watcher])
    assert watcher.events == ['begin', 'epoch', 'step', 'step', 'step', 'epoch_end', 'end'] and watcher.exits == 1
    _, expected = train('SGD')
    after = values(step)
    for name in before:
        np.testing.assert_allclose(after[name], expected[name], rtol=1e-6, err_msg=name)
    assert not np.array_equal(after['last.weight'], before['last.weight'])


def test_fit_leaves_the_callbacks_when_one_refuses(caplog: pytest.LogCaptureFixture) -> None:
    watcher = Watcher(stop_at=2)
    with caplog.at_level(logging.CRITICAL), pytest.raises(InputError, match='enough'):
        fit(make_step('SGD'), Progress(3, 3), loader(3), [watcher])
    assert (watcher.steps, watcher.exits) == (2, 1)


def test_an_error_of_mindspore_comes_as_it_is() -> None:
    class Fails(Callback):
        def on_train_step_end(self, run_context: RunContext) -> None:
            raise RuntimeError('an operator failed')

    with pytest.raises(RuntimeError, match='an operator failed') as caught:
        fit(make_step('SGD'), Progress(3, 3), loader(3), [Fails()])
    assert caught.value.__cause__ is not caught.value


def test_a_bad_step_leaves_every_parameter_as_it_was() -> None:
    step, seen, progress = make_step('AdamWeightDecay'), [], Progress(3, 3)

    class Record(Callback):
        def on_train_step_end(self, run_context: RunContext) -> None:
            seen.append((progress.finite, values(step)))

    fit(step, progress, loader(3, bad=(1,)), [Record()])
    assert [finite for finite, _ in seen] == [True, False, True] and progress.skipped == 1
    before, bad, after = (found for _, found in seen)
    assert all(np.isfinite(value).all() for value in after.values())
    for name, value in before.items():
        np.testing.assert_array_equal(bad[name], value, err_msg=name)
    assert not np.array_equal(after['bn.moving_mean'], before['bn.moving_mean'])


@pytest.mark.parametrize(('done', 'total', 'expected'), [
    (1, 6, 'begin epoch step step epoch_end epoch step step step epoch_end end'),  # an interrupted epoch's rest first
    (1, 3, 'begin epoch step step epoch_end end'),
    (3, 6, 'begin epoch step step step epoch_end end'),
    (0, 4, 'begin epoch step step step epoch_end epoch step epoch_end end'),  # the last epoch is cut short
    (1, 2, 'begin epoch step epoch_end end')])
def test_epochs_are_those_of_the_data(done: int, total: int, expected: str) -> None:
    watcher, progress = Watcher(), Progress(3, total, step=done)
    fit(make_step_with(rates=np.full(6, 0.01, np.float32)), progress, loader(3), [watcher],
        loader(3 - done % 3) if done % 3 else None)
    assert ' '.join(watcher.events) == expected and progress.step == total


class Arguments(dict):
    """What MindSpore hands to callbacks, by attributes."""


def test_steps_reported_as_epochs_are_epochs_of_the_data() -> None:
    """Sink mode, which the CPU lacks: there every step is an epoch to MindSpore."""
    step, watcher, progress = make_step('SGD'), Watcher(), Progress(2, 3)
    relay, arguments = CallbackRelay(step, progress, [watcher]), Arguments()
    context = RunContext(arguments)
    relay.on_train_begin(context)
    for number in range(3):
        relay.on_train_epoch_begin(context)
        relay.on_train_step_begin(context)
        arguments.net_outputs = step(*batch(number))
        relay.on_train_step_end(context)
        relay.on_train_epoch_end(context)
    assert watcher.events == ['begin', 'epoch', 'step', 'step', 'epoch_end', 'epoch', 'step', 'epoch_end']
    assert relay.stopped


class Applied(Callback):
    """The learning rate of every update, from weights and gradients of gradient descent; None where none was made."""

    def __init__(self, step: TrainStep) -> None:
        self.step, self.rates, self.number = step, [], 0

    def on_train_step_begin(self, run_context: RunContext) -> None:
        self.before = values(self.step.network)

    def on_train_step_end(self, run_context: RunContext) -> None:
        reference = Small()
        for parameter in reference.get_parameters():
            parameter.set_data(ms.Tensor(self.before[parameter.name]))
        gradient = gradients(reference, batch(self.number))['last.bias']
        change = self.before['last.bias'] - self.step.network.network.last.bias.asnumpy()
        self.rates.append(float((change / gradient).mean()) if change.any() else None)
        self.number += 1


def logged_rates(folder: Path) -> list[float]:
    return [float(row['learning_rate']) for row in csv.DictReader((folder / 'steps.csv').open())]


def test_the_logged_rate_is_the_applied_one_also_after_a_skipped_step(tmp_path: Path) -> None:
    step, progress = make_step_with(rates=RATES), Progress(4, 4)
    applied = Applied(step)
    fit(step, progress, loader(4, bad=(1,)), [StepTable(tmp_path / 'steps.csv', progress, LOGGER), applied])
    assert logged_rates(tmp_path) == pytest.approx([RATES[0], RATES[1], RATES[1], RATES[2]])
    assert applied.rates[1] is None
    assert [applied.rates[i] for i in (0, 2, 3)] == pytest.approx(RATES, rel=1e-3)


def test_with_accumulation_steps_have_the_rate_of_their_update(tmp_path: Path) -> None:
    step, progress = make_step_with(rates=RATES, accumulate_steps=2), Progress(6, 6)
    fit(step, progress, loader(6, bad=(2,)), [StepTable(tmp_path / 'steps.csv', progress, LOGGER)])
    # The third step is skipped, so that the second update takes the fourth and the fifth.
    assert logged_rates(tmp_path) == pytest.approx([RATES[i] for i in (0, 0, 1, 1, 1, 2)])


@pytest.mark.parametrize(('bad', 'ends_at'), [((1, 2, 3), 3), ((0, 1), 2), ((0, 2, 4), 0)])
def test_skipped_steps_in_a_row_end_the_training(bad: tuple[int, ...], ends_at: int,
                                                 caplog: pytest.LogCaptureFixture) -> None:
    step, progress, watcher = make_step_with(rates=np.full(5, 0.01, np.float32)), Progress(5, 5), Watcher()
    callbacks = [BadStepGuard(progress, 2, LOGGER), watcher]
    if ends_at:
        with pytest.raises(InputError, match=r'2 steps in a row had non-finite gradients.*--learning_rate'):
            fit(step, progress, loader(5, bad), callbacks)
    else:
        fit(step, progress, loader(5, bad), callbacks)
    assert progress.step == (ends_at or 5) and watcher.exits == 1
    assert all(np.isfinite(value).all() for value in values(step).values())
    assert caplog.text.count('the step was skipped') == len([number for number in bad if number < progress.step])
