"""Programs run on the CPU of mindspore-gpu 1.10 and in the double of CUDA, and what they leave."""
from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from src.training.state import read_state
from tests.gpu_double.build import read_trace
from tests.networks import save_small

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {'model.stage_modules': '1,1', 'model.stage_channels': '8,16,32', 'data.image_size': '64,64'}
NAME = 'litehrnet_18_coco_256x192'


class Programs:
    """A data set, starting weights with gradients of a sound size, and a folder for outputs.

    Args:
        double: environment of the double of CUDA.
        data: root of a data set in COCO layout.
        folder: for weights, outputs and traces.
    """

    def __init__(self, double: dict[str, str], data: Path, folder: Path) -> None:
        self.double, self.data, self.folder = double, data, folder
        (folder / 'start').mkdir(parents=True)
        self.start = save_small(folder / 'start', SETTINGS)

    def options(self, device: str, tag: str, *more: str) -> list[str]:
        """Return the options that all programs take."""
        network = [word for key, value in SETTINGS.items() for word in (f'--{key}', value)]
        return ['--device', device, '--data_root', str(self.data), '--output_root', str(self.folder / device),
                '--experiment_tag', tag, '--workers', '0', *network, *more]

    def train_options(self, device: str, tag: str, *more: str) -> list[str]:
        """Return the options of a training of ten steps.

        With seed 0 differences by rounding grow tenfold a step from the third on (losses: 2e-6, 3e-5, 3e-4, 2e-3).
        """
        return self.options(device, tag, '--train.batch_size', '4', '--random_seed', '1', '--compile_cache', 'false',
                            '--cpu_kernels', 'false', '--learning_rate', '1e-3', '--train.warmup_steps', '1',
                            '--checkpoint_path', str(self.start), '--max_steps', '10', *more)

    def environment(self, device: str, tag: str) -> dict[str, str]:
        """Return the environment of a program."""
        trace = {'GPU_DOUBLE_TRACE': str(self.folder / f'{tag}.trace')}
        return {**os.environ, 'GLOG_v': '4', **(self.double | trace if device == 'GPU' else {})}

    def run(self, program: str, *calls: tuple[str, str, list[str]]) -> list[str]:
        """Run (device, tag, options) calls of a program side by side; return what they printed, once all succeeded."""
        running = [subprocess.Popen([sys.executable, str(ROOT / program), *options], cwd=self.folder, text=True,
                                    env=self.environment(device, tag), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                   for device, tag, options in calls]
        outputs = [process.communicate()[0] for process in running]
        for process, output in zip(running, outputs):
            assert process.returncode == 0, output[-3000:]
        return outputs

    def train(self, tag: str, *more: str) -> None:
        """Train on both devices side by side."""
        self.run('train.py', *((device, tag, self.train_options(device, tag, *more)) for device in ('CPU', 'GPU')))

    def checkpoint(self, device: str, tag: str) -> Path:
        """Return the final checkpoint of a training."""
        return self.folder / device / 'checkpoints' / tag / f'{NAME}.ckpt'

    def rows(self, device: str, tag: str) -> list[dict[str, str]]:
        """Return steps.csv."""
        with self.checkpoint(device, tag).with_name('steps.csv').open() as file:
            return list(csv.DictReader(file))

    def losses(self, device: str, tag: str) -> np.ndarray:
        """Return the loss of each step."""
        return np.array([float(row['loss']) for row in self.rows(device, tag)])

    def state(self, device: str, tag: str) -> dict[str, np.ndarray]:
        """Return all parameters after the last step: network, statistics, moments, averages."""
        path = max(self.checkpoint(device, tag).parent.glob('*.state'), key=lambda path: path.stat().st_mtime)
        return read_state(path).arrays

    def trace(self, tag: str) -> Counter[str]:
        """Return the calls of CUDA by name, of all processes of a run together."""
        return read_trace(self.folder / f'{tag}.trace')
