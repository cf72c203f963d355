"""Draw a COCO keypoint data set: figures with exact keypoints, in the layout of a COCO root.

    python tools/make_synthetic_coco.py --output data/synthetic_coco

Training and evaluation can be tried on it without a download. The same arguments give the same files.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, run
from src.synthetic.coco import make_dataset

BOUNDS = dict(train=(1, 99_999), val=(1, 99_999), seed=(0, 2 ** 63 - 1), image_size=(64, 2048), max_persons=(1, 8))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0], allow_abbrev=False,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--output', type=Path, required=True, help='folder to make: a COCO root')
    parser.add_argument('--train', type=int, default=400, help='number of training images')
    parser.add_argument('--val', type=int, default=50, help='number of validation images')
    parser.add_argument('--seed', type=int, default=0, help='another seed gives other images')
    parser.add_argument('--image_size', type=int, nargs=2, default=(256, 256), metavar=('WIDTH', 'HEIGHT'),
                        help='size of the images in pixels')
    parser.add_argument('--max_persons', type=int, default=3, help='most persons in an image')
    parser.add_argument('--overwrite', action='store_true', help='replace a data set that this tool made before')
    options = vars(parser.parse_args(argv))
    for name, (low, high) in BOUNDS.items():
        for value in options[name] if name == 'image_size' else [options[name]]:
            if not low <= value <= high:
                raise InputError(f'--{name} {value}: choose a number from {low} to {high}')
    make_dataset(**{**options, 'image_size': tuple(options['image_size'])})
    print(f'{options["output"]}: {options["train"]} training and {options["val"]} validation images')
    return 0


if __name__ == '__main__':
    run(main)
