"""Evaluates a checkpoint: COCO's keypoint scores, PCK, AUC, EPE or NME (eval.metrics), or PCKh on MPII.

    python eval.py --device CPU --boxes gt

Reads the checkpoint that training wrote for the same --experiment_tag and --model_config, unless --checkpoint names
another (.ckpt, .pth or .pdparams). Writes the results beside it as JSON, and then the scores; the images of COCO's
test-dev, which nobody annotated, get results alone.
"""
from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from src.common.compat import describe
from src.common.errors import InputError, argument_parser, run
from src.common.files import atomic_path, require_writable
from src.common.interrupts import deferred_interrupts, raise_on_sigterm
from src.config import crops_remark, parse, require_checkpoint, results_folder, uses_kernels
from src.cpu.cells import accelerate
from src.deployment.fold import fold_batch_norm
from src.mmpose.evaluation import write_results
from src.settings.build import build_dataset, build_network
from src.test_utils import forward_of, predict, predict_heatmaps, select_persons
from src.utils import get_logger, set_device
from src.weights.checkpoint import load_network

# What the figures of a metric hold for, beside what all do.
CONDITIONS = (('AP', 'nms'), ('AP', 'backend'), ('PCK', 'pck_threshold'), ('NME', 'nme_keypoints'))


def main(argv: list[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument('--checkpoint', metavar='FILE', help='.ckpt, .pth or .pdparams, or the name of published '
                        'weights (tools/weights.py); default: the one training wrote')
    parser.add_argument('--boxes', choices=('det', 'gt'),
                        help="the detector's or annotated boxes (default: det; for MPII gt, there is no other)")
    parser.add_argument('--metrics_json', metavar='FILE', help='default: metrics_<boxes>.json beside the checkpoint')
    parser.add_argument('--results_json', metavar='FILE', help='default: results_<boxes>.json beside the checkpoint')
    options, experiment, config = parse(parser, argv)
    settings = config['eval']
    settings['boxes'] = boxes = options.boxes or settings['boxes']

    checkpoint = require_checkpoint(options.checkpoint, experiment)
    folder = results_folder(checkpoint, experiment)
    results_file, metrics_file = (Path(given or folder / f'{name}_{boxes}.json') for given, name in (
        (options.results_json, 'results'), (options.metrics_json, 'metrics')))
    dataset = build_dataset(experiment, config, 'val', boxes)
    if results_file.resolve() == metrics_file.resolve():
        raise InputError(f'{results_file}: named for the results and for the scores; give each a file of its own')
    for file in (results_file, metrics_file):
        require_writable(file)
    set_device(experiment['device'], experiment['device_id'], cpu_threads=experiment['cpu_threads'])
    network = build_network(config)
    load_network(network, checkpoint)
    fold_batch_norm(network)
    if uses_kernels(experiment):
        accelerate(network, experiment['cpu_threads'])

    logger = get_logger()
    logger.info(describe(experiment['device']))
    if not dataset.info.can_flip:
        logger.info(str(dataset.info))
    conditions = {'boxes': boxes, 'flip_test': settings['flip_test'] and dataset.info.can_flip,
                  'decoding': settings['decoding']}
    if config['data']['type'] == 'coco':
        conditions.update({key: settings[key] for metric, key in CONDITIONS if metric in settings['metrics']})
        conditions.update({} if dataset.info.use_area else {'use_area': False})
    logger.info(f'{checkpoint}: {len(dataset)} boxes, {", ".join(f"{k} {v}" for k, v in conditions.items())}')
    for remark in filter(None, (crops_remark(checkpoint, config), dataset.remarks)):
        logger.info(remark)
    settings['batch_size'] = min(settings['batch_size'], len(dataset))
    forward = forward_of(network)
    with deferred_interrupts():
        predict_heatmaps(forward, [np.zeros(dataset.shapes['img'], np.float32)], settings['batch_size'],
                         dataset.flip_index(settings), False)  # compiled now, so that the rate is true
    raise_on_sigterm()
    began = time.time()
    predictions = predict(forward, dataset, settings, experiment['workers'])
    rate = len(dataset) / (time.time() - began)
    results = select_persons(predictions, dataset, settings)
    write_results(results, results_file)
    logger.info(f'{results_file}: {len(results)} persons after NMS; {rate:.1f} boxes/s')

    scores = dataset.evaluate(predictions, results, settings)
    with atomic_path(metrics_file) as path:
        path.write_text(json.dumps({**scores, **conditions, 'model_config': experiment['model_config'],
                                    'checkpoint': str(checkpoint), 'boxes_evaluated': len(dataset)}, indent=1))
    logger.info('  '.join(f'{name} {value:.4f}' for name, value in scores.items())
                or 'no score: the annotations have no person with labelled keypoints')
    return 0


if __name__ == '__main__':
    run(main)
