"""Exports a checkpoint for deployment, and proves the file before it says success.

    python export.py --device CPU --output litehrnet.mindir

Input: float32 (N, 3, H, W), RGB, /255, minus ImageNet's mean, divided by its std. Output: float32 heatmaps
(N, joints, H/4, W/4). BN is folded into the convolutions. Reads the checkpoint that training wrote unless --checkpoint
names another.
"""
from __future__ import annotations

import argparse
from pathlib import Path

from src.build import build_network
from src.checkpoint import load_network
from src.config import parse, require_checkpoint
from src.errors import InputError, run
from src.exporting import FORMATS, export_network
from src.fold import fold_batch_norm
from src.utils import get_logger, set_device


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--checkpoint', metavar='FILE', help='default: the one training wrote')
    parser.add_argument('--output', metavar='FILE', help='default: <model_config>.<format> beside the checkpoint')
    parser.add_argument('--batch_size', type=int, default=1, metavar='N',
                        help='pictures per call; 0: any number, MINDIR only (default: 1)')
    parser.add_argument('--file_format', choices=sorted(FORMATS), default='MINDIR', help='default: MINDIR')
    options, experiment, config = parse(parser, argv)
    if options.batch_size < (0 if options.file_format == 'MINDIR' else 1):
        raise InputError(f'--batch_size {options.batch_size}: {options.file_format} needs at least 1')

    checkpoint = require_checkpoint(options.checkpoint, experiment)
    suffix = FORMATS[options.file_format]
    output = Path(options.output or checkpoint.with_name(Path(experiment['model_config']).stem + suffix))
    if output.suffix != suffix:
        raise InputError(f'--output {output}: a {options.file_format} file ends in {suffix}')
    set_device(experiment['device'], experiment['device_id'], cpu_threads=experiment['cpu_threads'])
    network = build_network(config)
    load_network(network, checkpoint)
    fold_batch_norm(network)
    difference = export_network(network, output, options.file_format, config['data']['image_size'], options.batch_size)
    get_logger().info(f'{output}: {output.stat().st_size / 1e6:.1f} MB, reloaded; largest difference from the network '
                      f'{difference:.2g}')
    return 0


if __name__ == '__main__':
    run(main)
