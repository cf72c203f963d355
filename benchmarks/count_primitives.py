"""Count the kernels of one training step as MindSpore compiles it, for our network and for a direct port of it.

    python benchmarks/count_primitives.py [--model_config NAME]

The kernels are those of the final schedule that MindSpore writes for a compiled graph, so what its own optimiser
removed is not counted. The compilation runs on the CPU without our own CPU kernels: the operators are those a GPU gets.
Reshape moves no data and is left out.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, run
from src.config import load_model_config

KERNEL = re.compile(r'^%\d+ = kernel_graph\d+:(\w+)-op\d+', re.MULTILINE)


def compile_step(model_config: str, port: bool) -> None:
    """Compile and run one training step of two images in this process."""
    from benchmarks.ours import network_of, training_step
    training_step(network_of(model_config, fast=False, port=port)[0], model_config, 2)()


def count(model_config: str, port: bool) -> tuple[Counter[str], float]:
    """Return (kernels by name, seconds) of a training step, compiled in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.run(
            [sys.executable, __file__, '--model_config', model_config, '--compile', 'port' if port else 'ours'],
            env={**os.environ, 'MS_DEV_SAVE_GRAPHS': '1', 'MS_DEV_SAVE_GRAPHS_PATH': folder,
                 'MS_DEV_DUMP_IR_PASSES': 'none but the schedule'}, check=False)
        seconds = time.perf_counter() - start
        schedules = list(Path(folder).rglob('final_actor_set_*.ir'))
        if process.returncode or not schedules:
            raise InputError('the training step was not compiled; see its error above, or install MindSpore 2.8, which '
                             'writes final_actor_set_*.ir')
        # The largest is the step; the others belong to single operators run beside it.
        text = max(schedules, key=lambda path: path.stat().st_size).read_text()
    kernels = Counter(KERNEL.findall(text))
    del kernels['Reshape']
    return kernels, seconds


def total(kernels: Counter[str]) -> int:
    """Return the number of all kernels."""
    return sum(kernels.values())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model_config', metavar='NAME', default='litehrnet_18_coco_256x192',
                        help='default: litehrnet_18_coco_256x192')
    parser.add_argument('--compile', choices=('ours', 'port'), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    load_model_config(options.model_config)
    if options.compile:
        compile_step(options.model_config, options.compile == 'port')
        return 0
    (ours, ours_seconds), (port, port_seconds) = (count(options.model_config, port) for port in (False, True))
    print(f'{"kernel":28} {"ours":>6} {"port":>6}')
    for name, _ in (ours + port).most_common(10):
        print(f'{name:28} {ours[name]:6} {port[name]:6}')
    print(f'{"all":28} {total(ours):6} {total(port):6}  ours / port {total(ours) / total(port):.2f}')
    print(f'{"seconds with start-up":28} {ours_seconds:6.0f} {port_seconds:6.0f}')
    return 0


if __name__ == '__main__':
    run(main)
