"""Draw the results of an evaluation on its images, as one sheet.

    python tools/draw_predictions.py --results demo/results_gt.json --annotations .../person_keypoints_val2017.json \
        --images .../val2017 --output predictions.png
"""
from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, argument_parser, run
from src.config import load_model_config
from src.mmpose.annotations import read_annotations
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import read_results
from src.mmpose.image import write_image
from src.mmpose.own_data import resolve_info
from src.prediction.drawing import draw_results


def main(argv: list[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument('--results', type=Path, required=True, metavar='FILE', help='result JSON of eval.py')
    parser.add_argument('--annotations', type=Path, required=True, metavar='FILE',
                        help='COCO annotations: the file names')
    parser.add_argument('--images', type=Path, required=True, metavar='DIR')
    parser.add_argument('--output', type=Path, required=True, metavar='FILE', help='image to write (.png or .jpg)')
    parser.add_argument('--model_config', default='litehrnet_18_coco_256x192', metavar='NAME',
                        help='whose keypoints and skeleton (default: litehrnet_18_coco_256x192)')
    parser.add_argument('--data.info', dest='data_info', metavar='FILE',
                        help='JSON file about the keypoints, as for eval.py')
    parser.add_argument('--count', type=int, default=12, metavar='N', help='images on the sheet (default: 12)')
    parser.add_argument('--columns', type=int, default=4, metavar='N', help='(default: 4)')
    parser.add_argument('--min_score', type=float, default=0.3, metavar='S',
                        help='keypoints below it are not drawn (default: 0.3)')
    options = parser.parse_args(argv)
    if options.count < 1 or options.columns < 1:
        raise InputError('--count and --columns must be at least 1')
    if options.output.suffix.lower() not in ('.png', '.jpg'):
        raise InputError(f'--output {options.output}: the name must end in .png or .jpg')

    given = options.data_info or load_model_config(options.model_config)['data']['info']
    info = DatasetInfo.from_dict(resolve_info(given, [options.annotations]))
    annotations = read_annotations(options.annotations, info)
    results = read_results(options.results, annotations, info)
    if not results:
        raise InputError(f'{options.results}: holds no person')
    shown = list(dict.fromkeys(result['image_id'] for result in results))[:options.count]
    files = {image_id: options.images / annotations.images[image_id].file_name for image_id in shown}
    sheet = draw_results(results, files, info, options.columns, options.min_score)
    write_image(options.output, sheet)
    print(f'{options.output}: {len(shown)} images')
    return 0


if __name__ == '__main__':
    run(main)
