"""Draws the results of an evaluation on its pictures, as one sheet.

    python tools/draw_predictions.py --results demo/results_gt.json --annotations .../person_keypoints_val2017.json \
        --images .../val2017 --output predictions.png
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, run
from src.common.files import atomic_path
from src.common.inputs import load_json
from src.config import load_model_config
from src.mmpose.image import read_image
from src.mmpose.own_data import read_category
from src.prediction.drawing import contact_sheet, draw_poses


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--results', required=True, metavar='FILE', help='result JSON of eval.py')
    parser.add_argument('--annotations', required=True, metavar='FILE', help='COCO annotations: the file names')
    parser.add_argument('--images', required=True, metavar='DIR')
    parser.add_argument('--output', required=True, metavar='FILE', help='picture to write (.png or .jpg)')
    parser.add_argument('--model_config', default='litehrnet_18_coco_256x192', metavar='NAME',
                        help='whose joints and skeleton (default: litehrnet_18_coco_256x192)')
    parser.add_argument('--count', type=int, default=12, metavar='N', help='pictures on the sheet (default: 12)')
    parser.add_argument('--columns', type=int, default=4, metavar='N', help='(default: 4)')
    parser.add_argument('--min_score', type=float, default=0.3, metavar='S',
                        help='joints below it are not drawn (default: 0.3)')
    options = parser.parse_args(argv)
    if options.count < 1 or options.columns < 1:
        raise InputError('--count and --columns must be at least 1')
    if Path(options.output).suffix.lower() not in ('.png', '.jpg'):
        raise InputError(f'--output {options.output}: the name must end in .png or .jpg')

    info = load_model_config(options.model_config)['data']['info'] or read_category(Path(options.annotations))
    persons: dict[int, list[np.ndarray]] = {}
    try:
        for result in load_json(Path(options.results)):
            keypoints = np.array(result['keypoints'], np.float32).reshape(len(info['joint_names']), 3)
            persons.setdefault(result['image_id'], []).append(keypoints)
        names = {image['id']: image['file_name'] for image in load_json(Path(options.annotations))['images']}
        chosen = [(names[image_id], np.stack(found)) for image_id, found in list(persons.items())[:options.count]]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'{options.results} and {options.annotations} do not belong together, or are no COCO results '
                         f'and annotations ({type(error).__name__}: {error})') from error
    if not chosen:
        raise InputError(f'{options.results}: holds no person')

    pictures = [draw_poses(read_image(str(Path(options.images) / name)), keypoints, info['skeleton'],
                           info['joint_names'], options.min_score) for name, keypoints in chosen]
    with atomic_path(options.output) as path:
        cv2.imwrite(str(path), contact_sheet(pictures, min(options.columns, len(pictures)), (320, 320)))
    print(f'{options.output}: {len(pictures)} pictures')
    return 0


if __name__ == '__main__':
    run(main)
