"""Exports a checkpoint for deployment, and proves the file before it says success.

    python export.py --device CPU --output litehrnet.mindir

Input: float32 (N, 3, H, W), RGB, /255, minus ImageNet's mean, divided by its std; with --preprocess uint8 (N, H, W, 3).
Output: float32 heatmaps (N, keypoints, H/4, W/4); with --decode (N, keypoints, 3): x, y in pixels of the input, score.
BN is folded into the convolutions. Keypoint names and all else a caller must know stand in the file's metadata (ONNX)
or user_info (MINDIR). Reads the checkpoint that training wrote unless --checkpoint names another.
"""
from __future__ import annotations

from pathlib import Path

from src.common.compat import describe
from src.common.errors import InputError, argument_parser, run
from src.common.interrupts import deferred_interrupts
from src.config import crops_remark, model_name, parse, require_checkpoint, results_folder
from src.deployment.export import COLOURS, FORMATS, export_network, sample_crops, samples
from src.deployment.fold import fold_batch_norm
from src.settings.build import build_network
from src.utils import get_logger, set_device
from src.weights.checkpoint import load_network


def main(argv: list[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument('--checkpoint', metavar='FILE', help='.ckpt, .pth or .pdparams, or the name of published '
                        'weights (tools/weights.py); default: the one training wrote')
    parser.add_argument('--output', metavar='FILE', help='default: <model_config>.<format> beside the checkpoint')
    parser.add_argument('--batch_size', type=int, metavar='N',
                        help='images per call; 0: any number (default: 0; AIR: 1)')
    parser.add_argument('--file_format', choices=sorted(FORMATS), default='MINDIR', help='default: MINDIR')
    parser.add_argument('--preprocess', choices=COLOURS,
                        help='take uint8 crops (N, H, W, 3) with these channels; normalisation goes into the file')
    parser.add_argument('--decode', action='store_true',
                        help='give keypoints, found by arg-max and quarter-pixel shift, instead of heatmaps')
    parser.add_argument('--int8', metavar='FOLDER', help='ONNX: compute in 8-bit integers, by the '
                        'values on the images in this folder, each of one person who fills it')
    parser.add_argument('--float16', action='store_true', help='ONNX: weights and arithmetic in float16, half the size')
    options, experiment, config = parse(parser, argv)
    if options.float16 and (options.file_format != 'ONNX' or options.decode or options.int8):
        raise InputError('--float16: for --file_format ONNX without --decode and --int8; leave it out')
    if options.int8 and (options.file_format != 'ONNX' or options.preprocess or options.decode
                         or options.batch_size):
        raise InputError('--int8: for --file_format ONNX without --preprocess, --decode and --batch_size; leave it out')
    decoding = config['eval']['decoding']
    if options.decode and decoding in ('udp', 'megvii'):
        raise InputError('--decode: finds keypoints by arg-max and quarter-pixel shift, which is wrong for heatmaps of '
                         f'eval.decoding {decoding}; leave it out')
    images = samples(Path(options.int8)) if options.int8 else []
    least = 1 if options.file_format == 'AIR' else 0
    batch_size = least if options.batch_size is None else options.batch_size
    if batch_size < least:
        raise InputError(f'--batch_size {batch_size}: {options.file_format} needs at least {least}')

    checkpoint = require_checkpoint(options.checkpoint, experiment)
    suffix = FORMATS[options.file_format]
    default = results_folder(checkpoint, experiment) / f'{model_name(experiment["model_config"])}{suffix}'
    output = Path(options.output or default)
    if output.suffix != suffix:
        raise InputError(f'--output {output}: a {options.file_format} file ends in {suffix}')
    set_device(experiment['device'], experiment['device_id'], cpu_threads=experiment['cpu_threads'])
    logger = get_logger()
    logger.info(describe(experiment['device']))
    if remark := crops_remark(checkpoint, config):
        logger.info(remark)
    if options.decode and decoding != 'default':
        logger.info(f'the file finds keypoints by arg-max and quarter-pixel shift, not by eval.decoding {decoding}')
    network = build_network(config)
    load_network(network, checkpoint)
    fold_batch_norm(network)
    crops = sample_crops(images, config) if images else None
    with deferred_interrupts():
        differences = export_network(network, output, options.file_format, config, experiment['model_config'],
                                     batch_size=batch_size, preprocess=options.preprocess, decoded=options.decode,
                                     float16=options.float16, int8_crops=crops)
    summary = ', '.join(f'{name} {value:.2g}' for name, value in differences.items()) or 'not compared'
    logger.info(f'{output}: {output.stat().st_size / 1e6:.1f} MB, reloaded; largest difference from the network: '
                f'{summary}')
    return 0


if __name__ == '__main__':
    run(main)
