"""Count what a training step and a forward pass ask of a GPU.

    .venv-gpu110/bin/python benchmarks/count_primitives.py [--model_config NAME]

Runs mindspore-gpu 1.10 in the double of CUDA (tests/gpu_double): a launch is a call of a kernel, of cuDNN or cuBLAS, a
copy one between host and device. Times mean nothing there. Minutes for Lite-HRNet-18.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, run
from src.config import load_model_config
from tests.gpu_double.build import build, read_trace

LIMIT = 1200  # seconds that a run may take; Lite-HRNet-18's need minutes


def call(model_config: str, what: str, times: int) -> None:
    """Run a training step ('train') or a forward pass ('forward') of one image some times."""
    from benchmarks.ours import noise, set_weights, settings, training_step
    from src.settings.build import build_network
    from src.test_utils import forward_of
    from src.utils import set_device

    set_device('GPU', 0)
    config = settings(model_config)[1]
    network = build_network(config)
    set_weights(network)
    if what == 'forward':
        predict, image = forward_of(network), noise(config, 1)
        def step() -> None:
            predict(image)
    else:
        step = training_step(network, model_config, 1)
    for _ in range(times):
        step()


def count(model_config: str, what: str) -> Counter[str]:
    """Return the calls of one run by name: what two more runs add to the first, halved.

    Raises:
        InputError: it did not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **build(Path(folder) / 'double')}
        counts = []
        for times in (1, 3):
            trace = Path(folder) / f'trace{times}'
            command = [sys.executable, __file__, '--model_config', model_config, '--call', what, '--times', str(times)]
            try:  # the scheduler of MindSpore 1.10 was seen to wait for itself for ever
                done = subprocess.run(command, env={**environment, 'GPU_DOUBLE_TRACE': str(trace)}, timeout=LIMIT)
            except subprocess.TimeoutExpired as error:
                raise InputError(f'{what}: not done after {LIMIT} s; run it again') from error
            if done.returncode:
                raise InputError('it did not run to its end; see its error above')
            counts.append(read_trace(trace))
    return Counter({name: round(number / 2) for name, number in (counts[1] - counts[0]).items()})


def print_table(counts: dict[str, Counter[str]]) -> None:
    """Print the most frequent launches, their sum, and the copies."""
    launches = {what: Counter() for what in counts}
    for what, calls in counts.items():
        for name, number in calls.items():
            kind, _, function = name.partition(' ')
            if kind == 'launch':
                launches[what][function.partition('(')[0].split()[-1]] += number

    def print_row(name: str, numbers: Iterable[int]) -> None:
        print(f'{name:34}', *(f'{number:7}' for number in numbers))

    print(f'{"":34}', *(f'{what:>7}' for what in counts))
    for name, _ in sum(launches.values(), Counter()).most_common(12):
        print_row(name, (of[name] for of in launches.values()))
    print_row('all launches', (sum(of.values()) for of in launches.values()))
    for copy in ('device to host', 'host to device', 'device to device'):
        print_row(f'copies, {copy}', (calls[f'call copy, {copy}'] for calls in counts.values()))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model_config', metavar='NAME', default='litehrnet_18_coco_256x192',
                        help='default: litehrnet_18_coco_256x192')
    parser.add_argument('--call', choices=('train', 'forward'), help=argparse.SUPPRESS)
    parser.add_argument('--times', type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    load_model_config(options.model_config)
    if options.call:
        call(options.model_config, options.call, options.times)
        return 0
    print_table({what: count(options.model_config, what) for what in ('train', 'forward')})
    return 0


if __name__ == '__main__':
    run(main)
