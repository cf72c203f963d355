"""Kill a training at random moments, resume it, and compare its result with that of an undisturbed one.

    python benchmarks/kill_resume.py --kills 20

Drives train.py on drawn images with a tiny network, on the CPU. Every fifth kill (SIGKILL) falls into the start, the
others between two random steps of the training or into saving there. Ends with a line of figures; the exit status
is 0 only if no kill cost more than `checkpoint_interval` epochs, no finished file is damaged, and the weights,
optimizer moments and losses at the end equal the undisturbed ones bit for bit.
"""
from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, run
from src.config import ROOT
from src.synthetic.coco import make_dataset
from src.training.saving import find_valid_states
from src.training.state import read_state
from src.weights.checkpoint import read_state as read_weights

NETWORK = ['--model.stage_modules', '1', '--model.stage_channels', '8,16', '--data.image_size', '64,64']
EPOCHS = 60
NAME = 'litehrnet_18_coco_256x192'


@dataclass
class Figures:
    """The effect of the kills; `lost_steps` is the largest number that one kill cost."""

    kills: int = 0
    kills_in_start: int = 0
    kills_in_saving: int = 0
    lost_steps: int = 0
    damaged_files: int = 0


def start_training(data: Path, output: Path, interval: int, *options: str) -> subprocess.Popen:
    """Return train.py in a session of its own, whose output goes to output/output.txt."""
    output.mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / 'train.py'), '--device', 'CPU', '--data_root', str(data), '--output_root',
               str(output), '--experiment_tag', 'kill', '--workers', '2', *NETWORK, '--random_seed', '0',
               '--train.epochs', str(EPOCHS), '--train.batch_size', '4', '--train.warmup_steps', '0',
               '--learning_rate', '1e-3', '--checkpoint_interval', str(interval), *options]
    with (output / 'output.txt').open('a') as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def steps_done(output: Path) -> int:
    """Return the number of complete rows of steps.csv."""
    try:
        return max(0, (output / 'checkpoints/kill/steps.csv').read_bytes().count(b'\n') - 1)
    except OSError:
        return 0


def saved_steps(output: Path, figures: Figures) -> int:
    """Return the steps of the newest state; count damaged files."""
    folder = output / 'checkpoints/kill'
    final = folder / f'{NAME}.ckpt'
    states = find_valid_states(final, logging.getLogger('quiet'))
    # A leading dot marks a file that was being written.
    finished = [path for path in folder.glob('*.*') if not path.name.startswith('.')]
    figures.damaged_files += sum(path.suffix == '.state' for path in finished) - len(states)
    for checkpoint in (path for path in finished if path.suffix == '.ckpt'):
        try:
            read_weights(checkpoint)
        except InputError:
            figures.damaged_files += 1
    return read_state(states[-1]).step if states else 0


def kill_at(process: subprocess.Popen, output: Path, step: int, delay: float) -> None:
    """Send SIGKILL to the training `delay` seconds after its step `step`."""
    while steps_done(output) < step and process.poll() is None:
        time.sleep(0.0005)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def equal_results(one: Path, other: Path) -> bool:
    """Return whether parameters, moments, checkpoint and rows of two trainings are equal bit for bit."""
    folders = [output / 'checkpoints/kill' for output in (one, other)]
    states = [read_state(folder / f'{NAME}_epoch{EPOCHS}.state') for folder in folders]
    arrays = [{name: value.tobytes() for name, value in state.arrays.items()} for state in states]
    files = [[(folder / name).read_bytes() for name in (f'{NAME}.ckpt', 'steps.csv')] for folder in folders]
    return states[0].step == states[1].step and arrays[0] == arrays[1] and files[0] == files[1]


def kill_and_resume(data: Path, output: Path, interval: int, kills: int, total: int, startup: float,
                    rng: np.random.Generator) -> Figures:
    """Run the disturbed training; return what the kills did."""
    figures = Figures()
    moments = np.sort(rng.choice(np.arange(1, total - 1), kills, replace=False))
    for number, moment in enumerate(tqdm(moments, unit='kill', disable=None)):
        before = saved_steps(output, figures)
        process = start_training(data, output, interval, '--resume', 'auto')
        if number % 5 == 4:
            time.sleep(rng.uniform(0, startup))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            figures.kills_in_start += 1
            reached = before
        else:
            kill_at(process, output, int(moment), rng.uniform(0, 0.05))
            reached = steps_done(output)
        figures.kills += process.returncode == -signal.SIGKILL
        figures.kills_in_saving += bool(list((output / 'checkpoints/kill').glob('.*.part*')))
        figures.lost_steps = max(figures.lost_steps, reached - saved_steps(output, figures))
    return figures


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20, help='number of kills (default: %(default)s)')
    parser.add_argument('--checkpoint_interval', type=int, default=2, help='epochs (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the moments (default: %(default)s)')
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as work:
        data, straight, disturbed = (Path(work) / name for name in ('coco', 'straight', 'disturbed'))
        make_dataset(data, 8, 1, 0, (128, 128), 2)
        began = time.time()
        process = start_training(data, straight, options.checkpoint_interval)
        while not steps_done(straight) and process.poll() is None:
            time.sleep(0.01)
        startup = time.time() - began
        if process.wait():
            raise InputError(f'train.py failed: {(straight / "output.txt").read_text()[-300:]}')
        total = steps_done(straight)
        figures = kill_and_resume(data, disturbed, options.checkpoint_interval, options.kills, total, startup,
                                  np.random.default_rng(options.seed))
        if start_training(data, disturbed, options.checkpoint_interval, '--resume', 'auto').wait():
            raise InputError(f'train.py failed: {(disturbed / "output.txt").read_text()[-300:]}')
        equal = equal_results(straight, disturbed)
    bound = options.checkpoint_interval * total // EPOCHS
    print(f'{figures.kills} kills ({figures.kills_in_start} while starting, {figures.kills_in_saving} while saving): '
          f'at most {figures.lost_steps} steps lost ({bound} allowed), {figures.damaged_files} damaged files, the '
          f'result {"equals" if equal else "differs from"} the undisturbed one')
    return int(not equal or figures.lost_steps > bound or figures.damaged_files > 0 or figures.kills < options.kills)


if __name__ == '__main__':
    run(main)
