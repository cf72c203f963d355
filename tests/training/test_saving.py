"""Training goes on exactly where it stopped; what is saved, kept and found again; signals; a full disk."""
from __future__ import annotations

import csv
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import train as train_program
from src.callback import Progress
from src.common import epoch_log
from src.common.errors import InputError
from src.training import saving
from src.training.saving import Checkpoints, find_start, find_valid_states
from src.training.state import TrainingState, read_state, state_of
from src.weights.checkpoint import read_state as read_weights
from tests.programs.test_programs import ROOT, train_options
from tests.training.test_state import make_step

NAME = 'litehrnet_18_coco_256x192'
LOGGER = logging.getLogger('saving')


def folder(output: Path) -> Path:
    return output / 'checkpoints' / 'tiny'


def options(data: Path, output: Path, *more: str) -> list[str]:
    return train_options(data, output, '--train.epochs', '4', '--checkpoint_interval', '2', *more)


@pytest.fixture(scope='module')
def straight(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of four epochs without a stop."""
    output = tmp_path_factory.mktemp('straight')
    assert train_program.main(options(synthetic, output)) == 0
    return output


def steps(output: Path) -> list[dict]:
    return list(csv.DictReader((folder(output) / 'steps.csv').open()))


def assert_same_end(output: Path, straight: Path) -> None:
    """Every Parameter bit for bit, every row, every epoch's loss."""
    found, expected = (read_state(folder(o) / f'{NAME}_epoch4.state') for o in (output, straight))
    assert found.step == expected.step and found.arrays.keys() == expected.arrays.keys()
    for name, value in expected.arrays.items():
        assert found.arrays[name].tobytes() == value.tobytes(), name
    final, other = ((folder(o) / f'{NAME}.ckpt').read_bytes() for o in (output, straight))
    assert final == other
    assert steps(output) == steps(straight)
    losses, others = ([row['loss'] for row in epoch_log.read(folder(o) / epoch_log.FILE)] for o in (output, straight))
    assert losses == others and len(losses) == 4


@pytest.mark.slow
def test_stopped_within_an_epoch_and_damaged_it_ends_the_same(synthetic: Path, straight: Path, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture) -> None:
    per_epoch = len(steps(straight)) // 4
    assert per_epoch > 1
    train_program.main(options(synthetic, tmp_path, '--max_steps', str(2 * per_epoch + 1)))
    states = sorted(p.name for p in folder(tmp_path).glob('*.state'))
    assert states == [f'{NAME}_epoch2.state', f'{NAME}_epoch2_step1.state']
    train_program.main(options(synthetic, tmp_path, '--resume', '--max_steps', str(3 * per_epoch + 1)))
    newest = folder(tmp_path) / f'{NAME}_epoch3_step1.state'
    newest.write_bytes(newest.read_bytes()[:-7])
    capsys.readouterr()
    train_program.main(options(synthetic, tmp_path, '--resume'))
    said = capsys.readouterr().out
    assert f'{newest}: damaged' in said and f'{NAME}_epoch2_step1.state at step {2 * per_epoch + 1}' in said
    assert_same_end(tmp_path, straight)
    (folder(tmp_path) / f'{NAME}.ckpt').unlink()
    train_program.main(options(synthetic, tmp_path, '--resume'))
    assert 'nothing left to do' in capsys.readouterr().out
    assert_same_end(tmp_path, straight)


@pytest.mark.slow
def test_five_epochs_and_five_are_ten_even_when_the_ten_come_as_a_surprise(synthetic: Path, tmp_path: Path) -> None:
    for output, runs in (('ten', [['10']]), ('five', [['5'], ['10', '--resume', 'auto']])):
        for epochs, *more in runs:
            assert train_program.main(options(synthetic, tmp_path / output, '--train.epochs', epochs, *more)) == 0
    ten, five = (read_state(folder(tmp_path / o) / f'{NAME}_epoch10.state').arrays for o in ('ten', 'five'))
    assert ten.keys() == five.keys() and all(ten[name].tobytes() == five[name].tobytes() for name in ten)


@contextmanager
def process(arguments: list[str], **more) -> Iterator[subprocess.Popen]:
    """train.py in a session of its own, which is gone at the end."""
    started = subprocess.Popen([sys.executable, str(ROOT / 'train.py'), *arguments], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.STDOUT, start_new_session=True, **more)
    try:
        yield started
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.stdout.close()
        started.wait()


@pytest.mark.slow
@pytest.mark.parametrize(('sent', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_end_is_the_same(synthetic: Path, straight: Path, tmp_path: Path, sent: signal.Signals,
                                                status: int) -> None:
    long = options(synthetic, tmp_path, '--checkpoint_interval', '1000', '--workers', '2')
    with process([*long, '--train.epochs', '100000']) as run:
        while 'first step: loss' not in run.stdout.readline():
            assert run.poll() is None
        run.send_signal(sent)
        said, _ = run.communicate(timeout=120)
    # While an epoch's data pipeline starts, MindSpore passes SIGINT on as SIGTERM.
    assert run.returncode in (status, 143), said
    assert f'{signal.Signals(run.returncode - 128).name} after step' in said and 'saved' in said
    state, = folder(tmp_path).glob('*.state')
    done = read_state(state).step
    assert len(steps(tmp_path)) == done >= 1 and not list(folder(tmp_path).glob('*.ckpt'))
    if done < len(steps(straight)):
        assert train_program.main(options(synthetic, tmp_path, '--resume')) == 0
        assert_same_end(tmp_path, straight)


def workers_of(pid: int) -> set[int]:
    """Its children that read pictures."""
    return {int(child) for file in Path(f'/proc/{pid}/task').glob('*/children') for child in file.read_text().split()}


@pytest.mark.slow
def test_a_dead_data_worker_is_replaced(synthetic: Path, tmp_path: Path) -> None:
    with process(options(synthetic, tmp_path, '--train.epochs', '100000', '--workers', '2')) as run:
        while 'epoch 2:' not in run.stdout.readline():
            assert run.poll() is None
        before = workers_of(run.pid)
        dead = min(before)
        os.kill(dead, signal.SIGKILL)
        for epoch in (4, 8):
            while f'epoch {epoch}:' not in run.stdout.readline():
                assert run.poll() is None
        after = workers_of(run.pid)
        assert len(before) == len(after) == 2 and dead not in after
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate(timeout=160)
    assert run.returncode == 143, said
    assert find_valid_states(folder(tmp_path) / f'{NAME}.ckpt', LOGGER)


@pytest.mark.slow
def test_a_full_disk_is_told_and_costs_no_file(synthetic: Path, straight: Path, tmp_path: Path) -> None:
    size = max(p.stat().st_size for p in folder(straight).glob('*.ckpt'))
    for limit, status in ((size + 1000, 0), (20_000, 1)):  # states are larger than checkpoints
        output = tmp_path / str(limit)
        with process(options(synthetic, output), preexec_fn=lambda limit=limit: resource.setrlimit(
                resource.RLIMIT_FSIZE, (limit, limit))) as run:
            said, _ = run.communicate(timeout=160)
        assert run.returncode == status, said
        assert f'{NAME}_epoch2.state: not saved (' in said and 'training continues' in said
        assert 'Traceback' not in said and not list(output.rglob('.*'))
        if status:
            assert said.splitlines()[-1].startswith(f'error: {folder(output) / NAME}.ckpt: the final checkpoint could')
        else:
            assert (folder(output) / f'{NAME}.ckpt').read_bytes() == (folder(straight) / f'{NAME}.ckpt').read_bytes()


@pytest.mark.parametrize('root', ['/proc/self', 'a file'])
def test_a_folder_that_cannot_be_written_ends_it_before_the_training(synthetic: Path, tmp_path: Path, root: str,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'a file').write_text('')
    monkeypatch.setattr(train_program, 'fit', lambda *_: pytest.fail('the training began'))
    with pytest.raises(InputError, match=r'cannot be written .*output_root'):
        train_program.main(options(synthetic, tmp_path / root))


def test_resume_without_a_state_and_with_other_settings(synthetic: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    reached = []
    monkeypatch.setattr(train_program, 'fit', lambda *_: reached.append(1))
    with pytest.raises(InputError, match=r'--resume: .*tiny has no valid training state.*--resume auto'):
        train_program.main(options(synthetic, tmp_path, '--resume'))
    assert train_program.main(options(synthetic, tmp_path, '--resume', 'auto')) == 0 and reached == [1]
    with pytest.raises(InputError, match="resume 'maybe': choose one of no, yes, auto"):
        train_program.main(options(synthetic, tmp_path, '--resume', 'maybe'))


# The callback alone, over a step that is never compiled.

def make(tmp_path: Path, start: TrainingState, first_epoch: int = 0, **more) -> Checkpoints:
    final = tmp_path / 'net.ckpt'
    plan = dict(interval=1, eval_interval=0, keep=0, states=find_valid_states(final, LOGGER), logger=LOGGER)
    progress = Progress(2, 100, first_epoch=first_epoch, step=start.step)
    return Checkpoints(make_step(), progress, final, start, **{**plan, **more})


def run_epochs(callback: Checkpoints, count: int) -> None:
    for _ in range(2 * count):
        callback.progress.end_step(0.5, True, 0.1)
        if not callback.progress.step_in_epoch:
            callback.on_train_epoch_end(None)


def names(tmp_path: Path, pattern: str) -> set[str]:
    return {p.name for p in tmp_path.glob(pattern)}


BEGIN = TrainingState(100.0, 0, {'a': 1}, {})


def test_the_newest_stay_and_the_best_and_the_final(tmp_path: Path) -> None:
    for name in ('net_best.ckpt', 'net.ckpt', 'other_epoch1.ckpt', '.net_epoch9.123.part.ckpt'):
        (tmp_path / name).write_text('')
    run_epochs(make(tmp_path, BEGIN, keep=2), 5)
    assert names(tmp_path, '*.ckpt') == {'net_best.ckpt', 'net.ckpt', 'other_epoch1.ckpt', 'net_epoch4.ckpt',
                                         'net_epoch5.ckpt'}
    assert names(tmp_path, '*.sha256') == {'net_epoch4.ckpt.sha256', 'net_epoch5.ckpt.sha256'}
    assert names(tmp_path, '*.state') == {'net_epoch4.state', 'net_epoch5.state'}
    process = subprocess.run(['sha256sum', '-c', 'net_epoch5.ckpt.sha256'], cwd=tmp_path, capture_output=True)
    assert process.returncode == 0


def test_all_checkpoints_stay_by_default_and_the_interval_counts_from_epoch_0(tmp_path: Path) -> None:
    run_epochs(make(tmp_path, BEGIN, interval=3, first_epoch=1), 6)
    assert names(tmp_path, '*.ckpt') == {'net_epoch3.ckpt', 'net_epoch6.ckpt'}


def test_the_state_is_saved_before_every_evaluation(tmp_path: Path) -> None:
    run_epochs(make(tmp_path, BEGIN, interval=5, eval_interval=2), 4)
    assert names(tmp_path, '*.ckpt') == set() and names(tmp_path, '*.state') == {'net_epoch2.state', 'net_epoch4.state'}


def test_an_error_without_a_message_is_reported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    caplog: pytest.LogCaptureFixture) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(saving, 'write_state', fail)
    run_epochs(make(tmp_path, BEGIN), 1)
    assert 'net_epoch1.state: not saved (RuntimeError); earlier files are whole' in caplog.text


def test_a_later_training_is_newer_than_all_of_an_earlier_one(tmp_path: Path) -> None:
    run_epochs(make(tmp_path, BEGIN), 5)
    run_epochs(make(tmp_path, TrainingState(200.0, 0, {}, {})), 1)
    states = find_valid_states(tmp_path / 'net.ckpt', LOGGER)
    assert [p.name for p in states] == ['net_epoch5.state', 'net_epoch1.state']


def test_states_of_a_training_before_the_last_are_not_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_epochs(make(tmp_path, BEGIN), 1)
    states = find_valid_states(tmp_path / 'net.ckpt', LOGGER)
    for began, step in ((100.0, 2), (200.0, 0)):  # the second was killed before it saved one
        (tmp_path / 'config.json').write_text(json.dumps({'start_time': began}))
        assert find_start(make_step(), states, 'auto', {'a': 1}, tmp_path, LOGGER).step == step
    assert 'net_epoch1.state is of a training before the last one, which saved no state' in caplog.text
    with pytest.raises(InputError, match='has no valid training state'):
        find_start(make_step(), states, 'yes', {'a': 1}, tmp_path, LOGGER)


def test_names_with_the_signs_of_patterns(tmp_path: Path) -> None:
    final = tmp_path / 'mice[2]_96x96.ckpt'
    (tmp_path / '.mice[2]_96x96_epoch9.123.part.ckpt').write_text('')
    plan = dict(interval=1, eval_interval=0, keep=1, states=[], logger=LOGGER)
    run_epochs(Checkpoints(make_step(), Progress(2, 100), final, BEGIN, **plan), 3)
    assert names(tmp_path, '*.ckpt') == {'mice[2]_96x96_epoch3.ckpt'}
    assert [path.name for path in find_valid_states(final, LOGGER)] == ['mice[2]_96x96_epoch2.state',
                                                                        'mice[2]_96x96_epoch3.state']


def test_a_damaged_newest_state_is_said_and_the_one_before_it_taken(tmp_path: Path,
                                                                    caplog: pytest.LogCaptureFixture) -> None:
    first = make(tmp_path, BEGIN)
    run_epochs(first, 3)
    (tmp_path / 'net_epoch3.state').write_bytes(b'')
    states = find_valid_states(tmp_path / 'net.ckpt', LOGGER)
    assert 'net_epoch3.state' in caplog.text and 'damaged' in caplog.text
    step = make_step()
    start = find_start(step, states, 'yes', {'a': 1}, tmp_path, LOGGER)
    assert (start.step, start.start_time) == (4, 100.0)
    assert all(np.array_equal(value, start.arrays[name]) for name, value in state_of(step).items())
    with pytest.raises(InputError, match='a was 1 and is now 2'):
        find_start(step, states, 'auto', {'a': 2}, tmp_path, LOGGER)
    assert find_start(step, states, 'no', {'a': 2}, tmp_path, LOGGER).step == 0
    assert 'starting a new run beside' in caplog.text


@pytest.mark.parametrize('fault', ['truncated', 'flipped'])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, fault: str) -> None:
    run_epochs(make(tmp_path, BEGIN), 1)
    path = tmp_path / 'net_epoch1.ckpt'
    content = bytearray(path.read_bytes())
    content[-2] ^= 1  # a weight a little off: only the checksum tells
    path.write_bytes(content if fault == 'flipped' else content[:-1])
    with pytest.raises(InputError, match=r'net_epoch1\.ckpt: damaged .*take another checkpoint'):
        read_weights(path)
    (tmp_path / 'net_epoch1.ckpt.sha256').unlink()
    if fault == 'flipped':
        read_weights(path)  # a file without its checksum is anybody's


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_save_that_fails_leaves_the_earlier_files_and_a_later_one_succeeds(tmp_path: Path,
                                                                             caplog: pytest.LogCaptureFixture) -> None:
    callback = make(tmp_path, BEGIN, keep=1)
    run_epochs(callback, 1)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with largest_file(1000):
        run_epochs(callback, 1)
        with pytest.raises(InputError, match=r'net\.ckpt: the final checkpoint could not be saved'):
            callback.on_train_end(None)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert caplog.text.count('not saved') == 4
    callback.on_train_end(None)
    assert names(tmp_path, '*.state') == {'net_epoch1.state', 'net_epoch2.state'} and (tmp_path / 'net.ckpt').exists()


def test_a_second_signal_ends_at_once() -> None:
    program = ('import os, signal, time\nfrom src.training.signals import StopSignals\ns = StopSignals()\ns.catch()\n'
               'os.kill(os.getpid(), 15)\ntime.sleep(0.1)\nassert s.number == 15\nos.kill(os.getpid(), 15)\n'
               'time.sleep(9)\n')
    assert subprocess.run([sys.executable, '-c', program], cwd=ROOT).returncode == -signal.SIGTERM


def test_a_signal_that_no_step_answers_ends_the_process() -> None:
    program = ('import os, signal, threading\nfrom src.training import signals\nsignals.GRACE = 1\n'
               's = signals.StopSignals()\ns.catch()\nthreading.Timer(0.3, os.kill, (os.getpid(), 15)).start()\n'
               'lock = threading.Lock()\nlock.acquire()\nlock.acquire()\n')
    began = time.time()
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 143 and time.time() - began < 30
    assert done.stderr.startswith('error: SIGTERM, and no step ended within 1 s')
