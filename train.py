"""Trains a Lite-HRNet.

    python train.py --device CPU --data_root data/coco --random_seed 0

Settings stand in src/config.py and configs/; every one of them is also an option. Writes to
<output_root>/checkpoints/<experiment_tag>/: <model_config>.ckpt at the end, <model_config>_epoch<n>.ckpt on the way,
<model_config>_best.ckpt with --eval_interval, <model_config>_epoch<n>.state (all that --resume needs; the newest two
are kept), steps.csv, epochs.jsonl, train.log and config.json.
"""
from __future__ import annotations

from src.common.errors import argument_parser
from src.common.errors import run as run_program
from src.config import parse
from src.training.loop import fit
from src.training.setup import Run


def main(argv: list[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    _, experiment, config = parse(parser, argv)
    run = Run(experiment, config)
    run.begin()
    loader, remainder = run.make_loaders()
    with run.heartbeat():
        fit(run.step, run.progress, loader, run.callbacks, remainder, run.sink)
    return 0


if __name__ == '__main__':
    run_program(main)
