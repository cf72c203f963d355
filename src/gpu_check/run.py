"""The checks of a machine with GPUs, and the report of them: a line for each, whatever became of the others."""
from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np

from src.common.errors import InputError, first_line
from src.common.files import atomic_path
from src.gpu_check import versions
from src.gpu_check.versions import Missing, Wheel
from src.synthetic.coco import make_dataset

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 900  # that any one program may take
# Largest deviation of heatmaps from the CPU's, of the largest value; length of the difference of all gradients, of
# their own. Without TF32, which has 10 bits, float32 leaves a tenth of these and less.
HEATMAPS, GRADIENTS = 1e-4, 2e-2
SEED = 'the seed: 588 ms for Lite-HRNet-18, 953 ms for Lite-HRNet-30, of 64 images on each of eight V100'
# What tells a library's version.
FUNCTIONS = {'libcuda.so.1': 'cuDriverGetVersion', 'libcudart.so': 'cudaRuntimeGetVersion',
             'libcudnn.so': 'cudnnGetVersion', 'libnccl.so': 'ncclGetVersion'}


class NotChecked(Exception):
    """There is nothing to check; the message says why."""


@dataclass
class Report:
    """A text file with a line for each check, complete after every one of them."""

    path: Path
    failures: int = 0
    lines: list[str] = field(default_factory=list)

    def write(self, line: str) -> None:
        """Add a line, and show it."""
        print(line, flush=True)
        self.lines.append(line)
        with atomic_path(self.path) as temporary:
            temporary.write_text('\n'.join([*self.lines, '']))

    def check(self, name: str, question: Callable[[], str]) -> None:
        """Add the answer to a question, or why there is none."""
        try:
            self.write(f'ok: {name}: {question()}')
        except NotChecked as reason:
            self.write(f'not checked: {name}: {reason}')
        except Exception as error:  # whatever it is, the other checks follow
            self.failures += 1
            kind = '' if isinstance(error, (Missing, InputError)) else f'{type(error).__name__}: '
            self.write(f'FAIL: {name}: {kind}{first_line(error)}')


def call(command: list[str], log: Path, **environment: str) -> str:
    """Run a program in the checkout and return what it printed.

    Raises:
        Missing: it failed, or took longer than SECONDS; the message is its last line and names the log.
    """
    with log.open('w') as file:
        try:
            status = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, stdout=file,
                                    stderr=subprocess.STDOUT, timeout=SECONDS).returncode
        except subprocess.TimeoutExpired:
            status = f'none after {SECONDS} s'
    printed = log.read_text(errors='replace')
    if status:
        lines = [line for line in printed.splitlines() if line.strip()]
        told = next((line for line in lines if line.startswith('error:')), lines[-1] if lines else 'no output')
        raise Missing(f'exit status {status}: {told[:300]} (all of it: {log})')
    return printed


class Checks:
    """What is asked of a machine.

    Args:
        devices: number of devices to use, None for all.
    """

    def __init__(self, report: Report, devices: int | None, steps: int, options: list[str]) -> None:
        self.report, self.wanted, self.steps, self.options = report, devices, steps, options
        self.logs = report.path.with_suffix('.logs')
        self.logs.mkdir(parents=True, exist_ok=True)
        self.found: list[versions.Device] = []

    def run(self) -> None:
        """Ask everything, from what is known at once to what takes minutes."""
        report = self.report
        report.write(f'Python {platform.python_version()}, {platform.platform()}, options: {self.options or "none"}')
        try:
            wheel = Wheel()
        except Missing as error:
            report.failures += 1
            report.write(f'FAIL: MindSpore: {error}')
            return
        report.write(f'MindSpore in {wheel.lib.parent}, built with CUDA {wheel.cuda()}')
        for name in wheel.needed():
            report.check(name, lambda name=name: self.library(wheel, name))
        report.check('NCCL', lambda: self.library(wheel, str(wheel.file('libnccl.so*'))))
        report.check('devices', self.devices)
        for number, device in enumerate(self.found):
            report.write(f'device {number}: {device.name}, compute capability {versions.number(device.capability)}')
            for pattern in ('libcuda_ops.so*', 'libnccl.so*')[:len(self.found)]:  # one device does without NCCL
                report.check(f'device {number}, {pattern[:-1]}', lambda device=device, pattern=pattern:
                             versions.code_for(device.capability, wheel.code(pattern)))
        report.check('heatmaps and gradients beside those of the CPU', self.numbers)
        with tempfile.TemporaryDirectory() as folder:
            self.data = Path(folder) / 'coco'
            report.check(f'{self.steps} steps', lambda: self.train(1))
            report.check('two ranks', lambda: self.train(2))

    def library(self, wheel: Wheel, name: str) -> str:
        """Load a library that the wheel names, and return its version where it tells one."""
        if 'libmpi' in name and not shutil.which('mpirun'):
            raise NotChecked("no mpirun; Open MPI is needed for several devices only: docs/install.md")
        versions.load(name)
        function = next((value for key, value in FUNCTIONS.items() if key in name), None)
        if function is None:
            return 'found'
        found = versions.version(name, function)
        if not function.startswith('cu') or function == 'cudnnGetVersion':
            return f'found, version code {found}'
        built = wheel.cuda()
        if function == 'cuDriverGetVersion' and built != 'unknown' and [*map(int, built.split('.'))] > [
                found // 1000, found % 1000 // 10]:
            raise Missing(f'the driver is for CUDA {versions.release(found)}; install one for {built} or newer')
        return f'CUDA {versions.release(found)}'

    def devices(self) -> str:
        """Find the devices to use."""
        found = versions.devices()
        if not found or len(found) < (self.wanted or 1):
            raise Missing(f'{len(found)} found, {self.wanted or 1} wanted; look at nvidia-smi and CUDA_VISIBLE_DEVICES')
        self.found = found[:self.wanted]
        return f'{len(found)} found, {len(self.found)} used'

    def numbers(self) -> str:
        """Compare the first device with the CPU of the same MindSpore, each in a process of its own."""
        self.require_device()
        arrays = {}
        for device in ('CPU', 'GPU'):
            file = self.logs / f'{device}.npz'
            call([sys.executable, '-m', 'src.gpu_check.numbers', device, str(file), '--cpu_kernels', 'false',
                  *self.options], self.logs / f'numbers_{device}.log', NVIDIA_TF32_OVERRIDE='0')
            with np.load(file) as opened:
                arrays[device] = {key: opened[key].astype(np.float64) for key in opened}
            file.unlink()
        (cpu, gpu) = arrays['CPU'], arrays['GPU']
        heatmaps = np.abs(gpu['heatmaps'] - cpu['heatmaps']).max() / np.abs(cpu['heatmaps']).max()
        gradients = np.linalg.norm(gpu['gradients'] - cpu['gradients']) / np.linalg.norm(cpu['gradients'])
        text = (f'heatmaps differ by {heatmaps:.1e} of the largest, the gradient of '
                f'{len(cpu["gradients"])} weights by {gradients:.1e} of its length')
        if not (heatmaps <= HEATMAPS and gradients <= GRADIENTS):  # so that NaN fails, too
            raise Missing(f'{text}; allowed are {HEATMAPS:.0e} and {GRADIENTS:.0e}')
        return text

    def train(self, ranks: int) -> str:
        """Train on drawn images and return the speed."""
        self.require_device()
        if len(self.found) < ranks:
            raise NotChecked('one device')
        if ranks > 1 and not shutil.which('mpirun'):
            raise NotChecked('no mpirun; install Open MPI: docs/install.md')
        batch = self.batch_size()
        if not self.data.is_dir():  # an image holds two persons, on average; some more, so that one epoch is enough
            make_dataset(self.data, int(0.6 * self.steps * batch) + 8, 1, 0)
        tag, output = f'ranks_{ranks}', self.logs / 'output'
        steps = max(2, self.steps // ranks)
        start = [sys.executable, 'train.py'] if ranks == 1 else ['bash', 'scripts/run_distributed_train_gpu.sh', '2']
        call([*start, '--device', 'GPU', '--data_root', str(self.data), '--output_root', str(output),
              '--experiment_tag', tag, '--max_steps', str(steps), '--random_seed', '0', *self.options],
             self.logs / f'train_{ranks}.log', PYTHON=sys.executable)
        rows = [json.loads(line) for line in (output / 'checkpoints' / tag / 'epochs.jsonl').read_text().splitlines()]
        loss, rate = rows[-1]['loss'], rows[-1]['images_per_second']
        shutil.rmtree(output)
        if loss is None or not np.isfinite(loss):
            raise Missing(f'loss {loss} after {steps} steps; send the logs, too')
        if not rate:
            return f'{steps} steps, loss {loss:.6f}; too few to time'
        return (f'{steps} steps of {batch} images for each of {ranks}, loss {loss:.6f}: '
                f'{1000 * batch * ranks / rate:.0f} ms/step, {rate:.1f} images/s ({SEED})')

    def batch_size(self) -> int:
        """Return the images of a step on one device."""
        printed = call([sys.executable, 'train.py', '--print_config', *self.options], self.logs / 'settings.log')
        return json.loads(printed[printed.index('{'):])['config']['train']['batch_size']

    def require_device(self) -> None:
        """Make sure that there is a device to run on."""
        if not self.found:
            raise NotChecked('no device')
