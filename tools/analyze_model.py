"""Prints parameters, multiply-adds and activations of networks, stage by stage.

    python tools/analyze_model.py                                    # the six COCO networks of the paper
    python tools/analyze_model.py litehrnet_30_mpii_256x256 my.py    # any configurations
"""
from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import argument_parser, run
from src.config import resolve
from src.deployment import complexity
from src.settings.build import build_network

DEFAULT = ('litehrnet_18_coco_256x192', 'litehrnet_30_coco_256x192', 'litehrnet_18_coco_384x288',
           'litehrnet_30_coco_384x288', 'naive_litehrnet_18_coco_256x192', 'wider_naive_litehrnet_18_coco_256x192')


def main(argv: list[str] | None = None) -> int:
    parser = argument_parser(__doc__, epilog=complexity.__doc__)
    parser.add_argument('model_config', nargs='*', default=DEFAULT, metavar='MODEL_CONFIG',
                        help='module in configs/, or the path of a .py file like those (default: the six)')
    for name in parser.parse_args(argv).model_config:
        _, config = resolve({'model_config': name}, {})
        size = config['data']['image_size']
        rows = complexity.analyze(build_network(config), size)
        print(f'{name}, input {size[1]}x{size[0]}: {rows["total"].paper / 2 ** 20:.1f} M in the paper\'s counting')
        print(complexity.table(rows), end='\n\n')
    return 0


if __name__ == '__main__':
    run(main)
