"""Measure this project and MMPose's Lite-HRNet on PyTorch side by side, on the CPU.

    python benchmarks/run.py [--part train] [--json FILE]

The sides run in processes of their own and take turns; the one that waits is stopped. All use all cores, as by
default. Medians, quartiles and the ratio to the best peer (above 1: ours is better) are printed and written as JSON:
{machine, rows: {row: {ours: {median, quartiles}, peers: {peer: the same}, best: peer, ratio, unit, note}}}.

Peers of train, forward and latency: PyTorch eager, channels_last and compiled (torch.compile; needs a C++ compiler).
Compilation does not count, but the note says what it took: minutes for train, until PyTorch has it in its cache.
Peers of onnx, our file in onnxruntime: PyTorch's export there, both files in OpenVINO.

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

INSTRUCTIONS = {'avx2': 'AVX2', 'avx_vnni': 'AVX-VNNI', 'avx512f': 'AVX-512', 'avx512_vnni': 'AVX512-VNNI',
                'amx_tile': 'AMX'}  # by their flags in /proc/cpuinfo
VAL2017_BOXES = 104125  # in the detector file that the published scores use
HIGHER, LOWER = 1, -1
MODES = ('eager', 'channels_last', 'compiled')  # of PyTorch
Row = dict[str, Any]
Side = tuple[Worker, str]  # and the name of what it has prepared


class Bench:
    """The options of all parts, and the workers of the two sides."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.model_config, self.batch, self.rounds = options.model_config, options.batch_size, options.rounds
        config = load_model_config(self.model_config)
        self._peer_python = options.peer_python
        self.model = {'model': config['model'], 'image_size': config['data']['image_size']}
        self.peer_modes = options.peer_modes
        self.roots = [Path(root) for root in options.data_root]

    def ours(self) -> Worker:
        """Return a new process of this project."""
        return Worker(sys.executable, ROOT / 'benchmarks' / 'ours.py')

    def peer(self) -> Worker:
        """Return a new process of the peer."""
        self._peer_python = self._peer_python or peer_python()
        return Worker(self._peer_python, ROOT / 'benchmarks' / 'peer.py')

    def turns(self, sides: dict[str, Side], runs: int) -> dict[str, list[float]]:
        """Return the seconds of each side's runs; they take turns, and the first run of a turn warms up."""
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(self.rounds):
            for side, (worker, name) in sides.items():
                seconds[side] += worker.time(name, runs + 1)['seconds'][1:]
        return seconds

    def prepare_modes(self, peer: Worker, builder: str, batch: int) -> tuple[dict[str, Side], str]:
        """Return what `prepare_peers` does of PyTorch's network, a side for each mode, all in one process."""
        return prepare_peers({mode: (peer, builder, {**self.model, 'batch': batch, 'mode': mode})
                              for mode in self.peer_modes})


def prepare_peers(peers: dict[str, tuple[Worker, str, dict[str, Any]]]) -> tuple[dict[str, Side], str]:
    """Return the sides that could be prepared by (worker, builder, options), and a remark on each.

    It says how long preparation and first run took (compilation, mostly), or why there was none.

    Raises:
        RuntimeError: the first one failed.
    """
    sides: dict[str, Side] = {}
    remarks = []
    for name, (worker, builder, options) in peers.items():
        try:
            seconds = worker.prepare(builder, name, **options)['seconds'][0]
        except RuntimeError as error:
            if not sides:
                raise
            remarks.append(f'{name} failed ({str(error).splitlines()[0]})')
        else:
            sides[name] = worker, name
            remarks.append(f'{name} ready after {seconds:.1f} s')
    return sides, ', '.join(remarks)


def figure(values: list[float]) -> dict[str, Any]:
    """Return median and quartiles."""
    return dict(median=float(np.median(values)), quartiles=np.percentile(values, [25, 75]).tolist())


def row(ours: list[float], peers: dict[str, list[float]], unit: str, better: int, note: str = '') -> Row:
    """Return the figures of measurements in `unit`, which peer is the best, and the ratio to it."""
    figures = {name: figure(values) for name, values in peers.items()}
    best = max((name for name in figures if not name.startswith('ours')),  # our file in another runtime is no peer
               key=lambda name: better * figures[name]['median'])
    our_figure = figure(ours)
    ratio = (our_figure['median'] / figures[best]['median']) ** better
    return dict(ours=our_figure, peers=figures, best=best, ratio=ratio, unit=unit, note=note)


def rates(seconds: list[float], count: int) -> list[float]:
    """Return the rate per second of runs that process `count` images or boxes each."""
    return [count / value for value in seconds]


def train(bench: Bench) -> dict[str, Row]:
    """Measure a whole step: forward, loss, backward, Adam."""
    with bench.ours() as ours, bench.peer() as peer:
        ours.prepare('train', model_config=bench.model_config, batch=bench.batch)
        peers, remark = bench.prepare_modes(peer, 'train', bench.batch)
        times = bench.turns({'ours': (ours, 'train'), **peers}, 2)
    speeds = {side: rates(seconds, bench.batch) for side, seconds in times.items()}
    return {'train': row(speeds.pop('ours'), speeds, 'img/s', HIGHER, f'batch {bench.batch}; {remark}')}


def forward(bench: Bench) -> dict[str, Row]:
    """Measure inference in batches; ours with BN folded, as in eval.py, and not."""
    with bench.ours() as ours, bench.peer() as peer:
        peers, remark = bench.prepare_modes(peer, 'forward', bench.batch)
        sides = dict(peers)
        for name, folded in (('forward', True), ('forward.unfolded', False)):
            ours.prepare('forward', name, model_config=bench.model_config, batch=bench.batch, folded=folded)
            sides[name] = ours, name
        times = bench.turns(sides, 4)
    speeds = {side: rates(seconds, bench.batch) for side, seconds in times.items()}
    return {name: row(speeds[name], {mode: speeds[mode] for mode in peers}, 'img/s', HIGHER,
                      f'batch {bench.batch}; {remark}') for name in speeds if name not in peers}


def latency(bench: Bench) -> dict[str, Row]:
    """Measure inference of one image, BN folded."""
    with bench.ours() as ours, bench.peer() as peer:
        ours.prepare('forward', model_config=bench.model_config, batch=1, folded=True)
        peers, remark = bench.prepare_modes(peer, 'forward', 1)
        times = bench.turns({'ours': (ours, 'forward'), **peers}, 20)
    milliseconds = {side: [1000 * value for value in seconds] for side, seconds in times.items()}
    return {'latency': row(milliseconds.pop('ours'), milliseconds, 'ms', LOWER, f'batch 1; {remark}')}


def onnx(bench: Bench) -> dict[str, Row]:
    """Measure our exported file in onnxruntime; beside it PyTorch's export there, and both files in OpenVINO."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder, bench.peer() as exporter:
        for batch in (1, bench.batch):
            files = [f'{folder}/{side}_{batch}.onnx' for side in ('ours', 'peer')]
            with bench.ours() as worker:
                worker.prepare('export', model_config=bench.model_config, batch=batch, file=files[0])
            exporter.prepare('export', **bench.model, batch=batch, file=files[1])
            runs = {'ours': ('onnxruntime', files[0]), 'onnxruntime': ('onnxruntime', files[1]),
                    'openvino': ('openvino', files[1]), 'ours in openvino': ('openvino', files[0])}
            with ExitStack() as stack:
                sides, remark = prepare_peers({
                    name: (stack.enter_context(bench.peer()), runtime, {'file': file})
                    for name, (runtime, file) in runs.items()})
                times = bench.turns(sides, 20 if batch == 1 else 4)
            speeds = {side: rates(seconds, batch) for side, seconds in times.items()}
            rows[f'onnx.{batch}'] = row(speeds.pop('ours'), speeds, 'img/s', HIGHER, f'batch {batch}; {remark}')
    return rows


def inputs(bench: Bench) -> dict[str, Row]:
    """Measure CPU time of a sample against decoding + warping alone, and samples/s of all workers against one."""
    rows, cores = {}, os.cpu_count()
    for root in bench.roots:
        with bench.ours() as worker:
            reply = worker.prepare('samples', model_config=bench.model_config, data_root=str(root), count=100,
                                   repetitions=2 + bench.rounds)
        # The fastest repetition of each image: the others include other work of the machine.
        ours, peer = (1000 * np.array(reply['result'][side]).min(0) for side in ('ours', 'peer'))
        means = row([ours.mean()], {'decode + warp': [peer.mean()]}, 'ms', LOWER, 'mean CPU time of a sample')
        means['ours']['quartiles'], means['peers']['decode + warp']['quartiles'] = (
            figure(values)['quartiles'] for values in (ours, peer))
        rows[f'input.{root.name}'] = means
    speeds = {}
    for workers in (1, cores):
        with bench.ours() as ours:
            ours.prepare('loader', model_config=bench.model_config, data_root=str(bench.roots[-1]), workers=workers,
                         batch=8, count=100 * bench.rounds)
            speeds[workers] = [ours.time('loader', 1)['result'] for _ in range(bench.rounds)]
    rows['input.workers'] = row(speeds[cores], {'one worker': speeds[1]}, 'img/s', HIGHER, f'{cores} workers')
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
    note = f'the {VAL2017_BOXES} boxes of val2017 would take {hours:.1f} h'
    return {'evaluation': row(our_rates, {'box by box': zoo_rates}, 'boxes/s', HIGHER, note),
            'evaluation.forward': row(our_rates, {'half the forward': forward_rates}, 'boxes/s', HIGHER)}


def compilation(bench: Bench) -> dict[str, Row]:
    """Measure from the start of the process to the end of the first training step.

    Compiled, then from the cache, against eager PyTorch, which compiles nothing; and against the direct port.
    """
    def first_step(worker: Worker, **options: Any) -> float:
        start = time.perf_counter()
        with worker:
            worker.prepare('train', **options, batch=bench.batch)
            return time.perf_counter() - start

    peer = {'eager': [first_step(bench.peer(), **bench.model)]}
    with tempfile.TemporaryDirectory() as folder:
        ours = [[first_step(bench.ours(), model_config=bench.model_config, cache=f'{folder}/graph')] for _ in range(2)]
    port = {'direct port': [first_step(bench.ours(), model_config=bench.model_config, port=True)]}
    return {'compile': row(ours[0], peer, 's', LOWER, 'start to first training step'),
            'compile.second': row(ours[1], peer, 's', LOWER, 'once more, from the cache'),
            'compile.port': row(ours[0], port, 's', LOWER)}


def memory(bench: Bench) -> dict[str, Row]:
    """Measure the peak resident memory of a process that trains a step at batch 64."""
    def peak(worker: Worker, **options: Any) -> list[float]:
        with worker:
            return [worker.prepare('train', **options, batch=64)['peak']]

    ours = peak(bench.ours(), model_config=bench.model_config)
    port = {'direct port': peak(bench.ours(), model_config=bench.model_config, port=True)}
    return {'memory': row(ours, {'eager': peak(bench.peer(), **bench.model)}, 'MB', LOWER, 'batch 64'),
            'memory.port': row(ours, port, 'MB', LOWER, 'batch 64')}


PARTS: dict[str, Callable[[Bench], dict[str, Row]]] = dict(
    train=train, forward=forward, latency=latency, onnx=onnx, input=inputs, evaluation=evaluation, compile=compilation,
    memory=memory)


def machine(cpuinfo: str) -> str:
    """Return processor, number of cores and vector instructions, for a text in the form of /proc/cpuinfo."""
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(':') for line in cpuinfo.splitlines())}
    flags = fields.get('flags', '').split()
    names = [name for flag, name in INSTRUCTIONS.items() if flag in flags] or ['neither AVX2 nor AVX-512 seen']
    return f'{fields.get("model name", platform.processor())}, {os.cpu_count()} cores, {" ".join(names)}'


def line(name: str, values: Row) -> str:
    """Return a row as it is printed: the best peer's median, then all medians with their quartiles."""
    sides = {'ours': values['ours'], **values['peers']}
    medians = ', '.join(f'{side} {value["median"]:.4g} ({value["quartiles"][0]:.4g}-{value["quartiles"][1]:.4g})'
                        for side, value in sides.items())
    return (f'{name:20} {values["ours"]["median"]:9.4g} {values["peers"][values["best"]]["median"]:9.4g} '
            f'{values["unit"]:8} {values["ratio"]:6.2f}  {values["best"]}: {medians}; {values["note"]}').rstrip('; ')


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
    parser.add_argument('--peer_modes', choices=MODES, nargs='+', default=MODES,
                        help='how PyTorch runs in train, forward and latency; the best counts (default: all)')
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
        cpuinfo = Path('/proc/cpuinfo')
        processor = machine(cpuinfo.read_text() if cpuinfo.is_file() else '')
        print(processor)
        print(f'{"":20} {"ours":>9} {"best peer":>9} {"unit":8} {"ratio":>6}  best peer: medians (quartiles); notes')
        for part in [options.part] if options.part else PARTS:
            try:
                part_rows = PARTS[part](bench)
            except RuntimeError as error:
                raise InputError(f'{part}: {error}') from error
            for name, values in part_rows.items():
                print(line(name, values), flush=True)
            rows.update(part_rows)
    if options.json:
        with atomic_path(options.json) as path:
            path.write_text(json.dumps(dict(machine=processor, rows=rows), indent=1))
    return 0


if __name__ == '__main__':
    run(main)
