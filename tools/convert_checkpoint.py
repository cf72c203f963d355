"""Converts checkpoints of any source to MindSpore's or PyTorch's official format, as the suffixes say.

    python tools/convert_checkpoint.py litehrnet_18_coco_256x192.pth litehrnet_18.ckpt
    python tools/convert_checkpoint.py lite_hrnet_18_256x192_coco.pdparams litehrnet_18.ckpt
    python tools/convert_checkpoint.py checkpoints/litehrnet_18.ckpt litehrnet_18.pth

Which network the file holds is read from its shapes. Every entry must belong to that network and none may be missing.
Neither PyTorch nor PaddlePaddle is needed and no code from the file is run (see src/weights/pickles.py).
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, run
from src.weights.checkpoint import CHECKPOINT_SUFFIXES, TORCH_SUFFIXES, listed
from src.weights.convert import convert
from src.weights.download import locate


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('source', type=Path, metavar='SRC',
                        help=f'{listed(CHECKPOINT_SUFFIXES)} file to read, or the name of published weights '
                             '(tools/weights.py)')
    parser.add_argument('target', type=Path, metavar='DST', help='.ckpt, .pth or .pt file to write')
    parser.add_argument('--ema', action='store_true',
                        help='take the entries that the .pth file holds under EMA names (mmengine swaps them with the '
                             'plain ones when it saves: there the plain ones are the averages)')
    parser.add_argument('--overwrite', action='store_true', help='replace DST if it exists')
    args = parser.parse_args(argv)
    args.source = locate(args.source)
    targets = ('.ckpt', *TORCH_SUFFIXES)
    if args.source.suffix not in CHECKPOINT_SUFFIXES or args.target.suffix not in targets:
        raise InputError(f'{args.source} to {args.target}: give a {listed(CHECKPOINT_SUFFIXES)} file to read and a '
                         f'{listed(targets)} file to write')
    if args.target.exists() and not args.overwrite:
        raise InputError(f'{args.target} exists; choose another name or add --overwrite')
    architecture, weights, entries = convert(args.source, args.target, args.ema)
    print(f'{args.source}: {architecture.name}, {architecture.num_joints} keypoints, {weights:,} parameters')
    print(f'{args.target}: {entries} entries written')
    return 0


if __name__ == '__main__':
    run(main)
