"""Checks a machine with GPUs: libraries, devices, numbers beside the CPU's, speed; writes a report to send back.

    python tools/check_gpu.py --devices 2 --output report.txt

Further options go to train.py, such as --model_config or --train.batch_size. Exit status 1: a check failed.
"""
from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, argument_parser, run
from src.common.files import require_writable
from src.gpu_check.run import ROOT, Checks, Report


def main(argv: list[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument('--devices', type=int, metavar='N',
                        help='number of devices to use (default: all that CUDA shows)')
    parser.add_argument('--steps', type=int, default=20, help='length of the training (default: 20)')
    parser.add_argument('--output', type=Path, metavar='FILE',
                        help='report to write; logs go beside it (default: logs/check_gpu_<time>.txt in the checkout)')
    options, rest = parser.parse_known_args(argv)
    for name, value in (('--devices', options.devices), ('--steps', options.steps)):
        if value is not None and value < 1:
            raise InputError(f'{name} {value}: give a positive integer')
    path = (options.output or ROOT / f'logs/check_gpu_{time.strftime("%Y%m%d_%H%M%S")}.txt').resolve()
    require_writable(path)
    report = Report(path)
    Checks(report, options.devices, options.steps, rest).run()
    report.write(f'{report.failures} checks failed')
    print(f'report: {path}; please send it, and where a check failed also {path.with_suffix(".logs").name}/ beside it')
    return 1 if report.failures else 0


if __name__ == '__main__':
    run(main)
