"""Measure this project and MMPose's Lite-HRNet on PyTorch side by side, on the CPU.

    python benchmarks/run.py [--part train] [--json FILE]

The sides run in processes of their own and take turns; the one that waits is stopped. Both use all cores, as by
default. Medians, their ratio (above 1: ours is better) and quartiles are printed and written as JSON:
row -> {ours, peer, ratio, unit, spread: {ours: [q1, q3], peer: [q1, q3]}, note}.

Throughput (more is better): train, forward, onnx.*, evaluation*, input.workers.
Time or memory (less is better; the ratio is peer / ours): latency, input.* (against decoding + warping alone, so 0.87
is the cost of 1.15 times these), compile*, memory.
The first run sets up the peer's environment (peer_environment.py); --peer_python takes one of yours.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peer_environment import peer_python
from benchmarks.worker import Worker
from src.common.errors import InputError, run
from src.common.files import atomic_path
from src.config import ROOT, load_model_config
from src.synthetic.coco import make_dataset

VAL2017_BOXES = 104125  # in the detector file that the published scores use
HIGHER, LOWER = 1, -1
Row = dict[str, Any]


class Bench:
    """The options of all parts, and the workers of the two sides."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.model_config, self.batch, self.rounds = options.model_config, options.batch_size, options.rounds
        config = load_model_config(self.model_config)
        self._peer_python = options.peer_python
        self.model = {'model': config['model'], 'image_size': config['data']['image_size']}
        self.roots = [Path(root) for root in options.data_root]

    def ours(self) -> Worker:
        """Return a new process of this project."""
        return Worker(sys.executable, ROOT / 'benchmarks' / 'ours.py')

    def peer(self) -> Worker:
        """Return a new process of the peer."""
        self._peer_python = self._peer_python or peer_python()
        return Worker(self._peer_python, ROOT / 'benchmarks' / 'peer.py')

    def turns(self, ours: tuple[Worker, str], peer: tuple[Worker, str], runs: int) -> tuple[list[float], list[float]]:
        """Return the seconds of each run; the sides take turns, and the first run of a turn warms up."""
        seconds: tuple[list[float], list[float]] = [], []
        for _ in range(self.rounds):
            for (worker, name), side in zip((ours, peer), seconds):
                side.extend(worker.time(name, runs + 1)['seconds'][1:])
        return seconds


def row(ours: list[float], peer: list[float], unit: str, better: int, note: str = '') -> Row:
    """Return medians, ratio and quartiles of two lists of measurements in `unit`."""
    medians = [float(np.median(values)) for values in (ours, peer)]
    ratio = medians[0] / medians[1] if better == HIGHER else medians[1] / medians[0]
    spread = {side: np.percentile(values, [25, 75]).tolist() for side, values in (('ours', ours), ('peer', peer))}
    return dict(ours=medians[0], peer=medians[1], ratio=ratio, unit=unit, spread=spread, note=note)


def rates(seconds: list[float], count: int) -> list[float]:
    """Return the rate per second of runs that process `count` images or boxes each."""
    return [count / value for value in seconds]


def train(bench: Bench) -> dict[str, Row]:
    """Measure a whole step: forward, loss, backward, Adam."""
    with bench.ours() as ours, bench.peer() as peer:
        ours.prepare('train', model_config=bench.model_config, batch=bench.batch)
        peer.prepare('train', **bench.model, batch=bench.batch)
        times = bench.turns((ours, 'train'), (peer, 'train'), 2)
    return {'train': row(*(rates(side, bench.batch) for side in times), 'img/s', HIGHER, f'batch {bench.batch}')}


def forward(bench: Bench) -> dict[str, Row]:
    """Measure inference in batches; ours with BN folded, as in eval.py, and not."""
    rows = {}
    with bench.ours() as ours, bench.peer() as peer:
        peer.prepare('forward', **bench.model, batch=bench.batch)
        for name, folded in (('forward', True), ('forward.unfolded', False)):
            ours.prepare('forward', name, model_config=bench.model_config, batch=bench.batch, folded=folded)
            times = bench.turns((ours, name), (peer, 'forward'), 4)
            rows[name] = row(*(rates(side, bench.batch) for side in times), 'img/s', HIGHER, f'batch {bench.batch}')
    return rows


def latency(bench: Bench) -> dict[str, Row]:
    """Measure inference of one image, BN folded."""
    with bench.ours() as ours, bench.peer() as peer:
        ours.prepare('forward', model_config=bench.model_config, batch=1, folded=True)
        peer.prepare('forward', **bench.model, batch=1)
        times = bench.turns((ours, 'forward'), (peer, 'forward'), 20)
    return {'latency': row(*([1000 * s for s in side] for side in times), 'ms', LOWER, 'batch 1')}


def onnx(bench: Bench) -> dict[str, Row]:
    """Measure both exported networks in the same onnxruntime."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder, bench.peer() as exporter:
        for batch in (1, bench.batch):
            files = [f'{folder}/{side}_{batch}.onnx' for side in ('ours', 'peer')]
            with bench.ours() as worker:
                worker.prepare('export', model_config=bench.model_config, batch=batch, file=files[0])
            exporter.prepare('export', **bench.model, batch=batch, file=files[1])
            with bench.peer() as ours, bench.peer() as peer:
                ours.prepare('session', file=files[0])
                peer.prepare('session', file=files[1])
                times = bench.turns((ours, 'session'), (peer, 'session'), 20 if batch == 1 else 4)
            rows[f'onnx.{batch}'] = row(*(rates(side, batch) for side in times), 'img/s', HIGHER, f'batch {batch}')
    return rows


def inputs(bench: Bench) -> dict[str, Row]:
    """Measure CPU time of a sample against decoding + warping alone, and samples/s of all workers against one."""
    rows, cores = {}, os.cpu_count()
    for root in bench.roots:
        with bench.ours() as ours:
            reply = ours.prepare('samples', model_config=bench.model_config, data_root=str(root), count=100,
                                 repetitions=2 + bench.rounds)
            # The fastest repetition of each image: the others include other work of the machine.
            best = {side: 1000 * np.array(reply['result'][side]).min(0) for side in ('ours', 'peer')}
            means = [best[side].mean() for side in ('ours', 'peer')]
        means_row = row([means[0]], [means[1]], 'ms', LOWER, 'CPU time of a sample; peer: decode + warp')
        means_row['spread'] = {side: np.percentile(best[side], [25, 75]).tolist() for side in best}
        rows[f'input.{root.name}'] = means_row
    speeds = {}
    for workers in (1, cores):
        with bench.ours() as ours:
            ours.prepare('loader', model_config=bench.model_config, data_root=str(bench.roots[-1]), workers=workers,
                         batch=8, count=100 * bench.rounds)
            speeds[workers] = [ours.time('loader', 1)['result'] for _ in range(bench.rounds)]
    rows['input.workers'] = row(speeds[cores], speeds[1], 'img/s', HIGHER, f'{cores} workers; peer: one')
    return rows


def evaluation(bench: Bench) -> dict[str, Row]:
    """Measure boxes/s with flip test, against the model zoo's way and half of the images/s of the forward alone."""
    config, root = load_model_config(bench.model_config), str(bench.roots[0])
    batch = 2 * config['eval']['batch_size']
    with bench.ours() as ours, bench.ours() as zoo:
        count = ours.prepare('evaluation', model_config=bench.model_config, data_root=root)['result']
        ours.prepare('forward', model_config=bench.model_config, batch=batch, folded=True)
        zoo.prepare('one_by_one', model_config=bench.model_config, data_root=root, count=8)
        forward_rates, our_rates, zoo_rates = [], [], []
        for _ in range(bench.rounds):
            our_rates += rates(ours.time('evaluation', 1)['seconds'], count)
            forward_rates += rates(ours.time('forward', 2)['seconds'], batch // 2)
            reply = zoo.time('one_by_one', 1)
            zoo_rates += rates(reply['seconds'], reply['result'])
    hours = VAL2017_BOXES / float(np.median(our_rates)) / 3600
    note = f'peer: box by box; the {VAL2017_BOXES} boxes of val2017 would take {hours:.1f} h'
    return {'evaluation': row(our_rates, zoo_rates, 'boxes/s', HIGHER, note),
            'evaluation.forward': row(our_rates, forward_rates, 'boxes/s', HIGHER,
                                      'peer: half the images/s of the forward alone')}


def compilation(bench: Bench) -> dict[str, Row]:
    """Measure from the start of the process to the end of the first training step.

    Compiled, then from the cache, against the peer, which compiles nothing; and against the direct port.
    """
    def first_step(worker: Worker, **options: Any) -> float:
        start = time.perf_counter()
        with worker:
            worker.prepare('train', **options, batch=bench.batch)
            return time.perf_counter() - start

    peer = [first_step(bench.peer(), **bench.model)]
    with tempfile.TemporaryDirectory() as folder:
        ours = [[first_step(bench.ours(), model_config=bench.model_config, cache=f'{folder}/graph')] for _ in range(2)]
    port = [first_step(bench.ours(), model_config=bench.model_config, port=True)]
    return {'compile': row(ours[0], peer, 's', LOWER, 'start to first training step'),
            'compile.second': row(ours[1], peer, 's', LOWER, 'once more, from the cache'),
            'compile.port': row(ours[0], port, 's', LOWER, 'peer: the direct port')}


def memory(bench: Bench) -> dict[str, Row]:
    """Measure the peak resident memory of a process that trains a step at batch 64."""
    def peak(worker: Worker, **options: Any) -> list[float]:
        with worker:
            return [worker.prepare('train', **options, batch=64)['peak']]

    ours = peak(bench.ours(), model_config=bench.model_config)
    port = peak(bench.ours(), model_config=bench.model_config, port=True)
    return {'memory': row(ours, peak(bench.peer(), **bench.model), 'MB', LOWER, 'peak of training, batch 64'),
            'memory.port': row(ours, port, 'MB', LOWER, 'peer: the direct port')}


PARTS: dict[str, Callable[[Bench], dict[str, Row]]] = dict(
    train=train, forward=forward, latency=latency, onnx=onnx, input=inputs, evaluation=evaluation, compile=compilation,
    memory=memory)


def machine() -> str:
    """Return processor and number of cores."""
    lines = Path('/proc/cpuinfo').read_text().splitlines() if platform.system() == 'Linux' else []
    name = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.processor())
    return f'{name}, {os.cpu_count()} cores'


def data_roots(options: list[str] | None, stack: ExitStack) -> list[str]:
    """Return the COCO roots to read: those of the option, the reference data beside the checkout, or a drawn one."""
    beside = [ROOT.parent / 'shared' / name for name in ('goldens/coco_tiny', 'lspet')]
    roots = options or [str(path) for path in beside if path.is_dir()]
    if not roots:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory())) / 'synthetic'
        make_dataset(root, 40, 20, 0, (640, 480), 3)
        roots = [str(root)]
    return roots


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--part', choices=list(PARTS), help='one part (default: all)')
    parser.add_argument('--json', metavar='FILE', help='write the rows there')
    parser.add_argument('--peer_python', metavar='FILE', help='a Python with PyTorch and MMPose (default: set up)')
    parser.add_argument('--model_config', metavar='NAME', default='litehrnet_18_coco_256x192',
                        help='default: litehrnet_18_coco_256x192')
    parser.add_argument('--batch_size', metavar='N', type=int, default=16, help='default: 16')
    parser.add_argument('--rounds', metavar='N', type=int, default=4, help='turns of each side (default: 4)')
    parser.add_argument('--data_root', metavar='DIR', nargs='+', help='COCO roots for input and evaluation (default: '
                        'the reference data beside the checkout, else drawn images)')
    options = parser.parse_args(argv)
    for name in ('batch_size', 'rounds'):
        if getattr(options, name) < 1:
            raise InputError(f'--{name} {getattr(options, name)}: must be at least 1')
    rows: dict[str, Row] = {}
    with ExitStack() as stack:
        options.data_root = data_roots(options.data_root, stack)
        bench = Bench(options)
        print(machine())
        print(f'{"":20} {"ours":>9} {"peer":>9} {"unit":8} {"ratio":>6}  quartiles ours, peer')
        for part in [options.part] if options.part else PARTS:
            try:
                part_rows = PARTS[part](bench)
            except RuntimeError as error:
                raise InputError(f'{part}: {error}') from error
            for name, values in part_rows.items():
                quartiles = ', '.join(f'{low:.4g}-{high:.4g}' for low, high in values['spread'].values())
                print(f'{name:20} {values["ours"]:9.4g} {values["peer"]:9.4g} {values["unit"]:8} '
                      f'{values["ratio"]:6.2f}  {quartiles}  {values["note"]}', flush=True)
            rows.update(part_rows)
    if options.json:
        with atomic_path(options.json) as path:
            path.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == '__main__':
    run(main)
