"""List published Lite-HRNet weights and people detectors, download them, and say where they are.

    python tools/weights.py list
    python tools/weights.py get mmpose_litehrnet_18_coco_256x192 --weights_mirror /media/usb/weights
    python tools/weights.py path mmpose_litehrnet_18_coco_256x192

Names of weights can be given wherever a checkpoint is read, those of detectors to tools/predict.py --detector, and are
downloaded then. Files are kept in $XDG_CACHE_HOME/litehrnet/weights (by default ~/.cache/litehrnet/weights).
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import argument_parser, run
from src.prediction.published_detectors import DETECTORS
from src.weights.download import MIRROR, fetch, require_name
from src.weights.published import PUBLISHED, Published, cached


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argument_parser(__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='list|get|path')
    commands.add_parser('list', allow_abbrev=False, help='names, model configurations, published scores, licences')
    get = commands.add_parser('get', allow_abbrev=False, help='download what is absent, and print the files')
    get.add_argument('names', nargs='+', metavar='NAME')
    get.add_argument('--weights_mirror', metavar='URL_OR_FOLDER',
                     help=f'take the files from there (default: what the variable {MIRROR} says, else their own URLs)')
    path = commands.add_parser('path', allow_abbrev=False,
                               help='print where the file is kept; exit status 1 where it is not there')
    path.add_argument('name', metavar='NAME')
    return parser.parse_args(argv)


def print_table(table: Mapping[str, Published]) -> None:
    """Print a table of published files, by source."""
    name_width, score_width = (max(len(getattr(weights, key)) for weights in table.values())
                               for key in ('name', 'score'))
    for source, licence in dict.fromkeys((weights.source, weights.licence) for weights in table.values()):
        print(f'{source} ({licence}); scores as published there, not measured here')
        for weights in table.values():
            if (weights.source, weights.licence) == (source, licence):
                here = 'downloaded' if cached(weights).is_file() else ''
                print(f'  {weights.name:<{name_width}}  {weights.score:<{score_width}}  {here}'.rstrip())


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    if options.command == 'list':
        print_table(PUBLISHED)
        print('a name is that of its source and of its model configuration: mmpose_X is for --model_config X')
        print('people detectors, for tools/predict.py --detector:')
        print_table(DETECTORS)
        return 0
    table = {**PUBLISHED, **DETECTORS}
    if options.command == 'get':
        for weights in [require_name(name, table) for name in options.names]:
            print(fetch(weights, options.weights_mirror))
        return 0
    weights = require_name(options.name, table)
    path = cached(weights)
    print(path)
    if not path.is_file():
        print(f'not there yet: `python tools/weights.py get {weights.name}`, or save {weights.url} under this name',
              file=sys.stderr)
    return int(not path.is_file())


if __name__ == '__main__':
    run(main)
