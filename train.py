"""Trains a Lite-HRNet.

    python train.py --device CPU --data_root data/coco --random_seed 0

Settings stand in src/config.py and configs/; every one of them is also an option. Writes to
<output_root>/checkpoints/<experiment_tag>/: <model_config>.ckpt at the end, <model_config>_epoch<n>.ckpt on the way,
steps.csv, train.log and config.json.
"""
from __future__ import annotations

import argparse
import json
import multiprocessing

from src.build import build_dataset, build_network
from src.callback import Checkpoints, Progress
from src.checkpoint import load_network
from src.config import checkpoint_folder, final_checkpoint, parse
from src.cpu.kernels import accelerate
from src.errors import InputError, run
from src.files import atomic_path
from src.loss import JointsMSELoss, NetWithLoss
from src.lr_scheduler import warmup_step_lr
from src.mmpose.loader import train_loader
from src.train_step import TrainStep, fit
from src.utils import get_logger, make_optimizer, mindspore_version, set_device, set_seed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    _, experiment, config = parse(parser, argv)
    settings = config['train']
    if experiment['start_epoch'] >= settings['epochs']:
        raise InputError(f'start_epoch {experiment["start_epoch"]}: training ends at epoch {settings["epochs"]}')

    # Device, data
    rank, ranks = set_device(experiment['device'], experiment['device_id'], experiment['distributed'],
                             experiment['cpu_threads'])
    set_seed(experiment['random_seed'])
    samples = build_dataset(experiment, config, 'train')
    replaced = multiprocessing.Value('i', 0) if experiment['skip_bad_images'] else None
    loader = train_loader(samples, settings['batch_size'], seed=experiment['random_seed'],
                          start_epoch=experiment['start_epoch'], workers=experiment['workers'],
                          replaced=replaced, rank=rank, ranks=ranks)

    # Network, optimizer, step
    network = build_network(config)
    if experiment['device'] == 'CPU' and experiment['cpu_kernels']:
        accelerate(network)
    if experiment['checkpoint_path']:
        load_network(network, experiment['checkpoint_path'])
    steps = len(samples) // (settings['batch_size'] * ranks)
    rates = warmup_step_lr(experiment['learning_rate'] * ranks, settings['epochs'], steps,
                           lr_steps=settings['lr_steps'], lr_gamma=settings['lr_gamma'],
                           warmup_steps=settings['warmup_steps'], warmup_ratio=settings['warmup_ratio'],
                           start_epoch=experiment['start_epoch'])
    optimizer = make_optimizer(settings['optimizer'], network, rates, experiment['weight_decay'])
    step = TrainStep(NetWithLoss(network, JointsMSELoss()), optimizer, experiment['loss_scale'], ranks)

    # Folder, log, callbacks: rank 0 alone writes
    folder = checkpoint_folder(experiment)
    logger = get_logger(folder / 'train.log' if rank == 0 else None, quiet=rank > 0)
    callbacks = [Progress(rates, steps, experiment['start_epoch'], settings['batch_size'] * ranks,
                          folder if rank == 0 else None, logger, experiment['max_steps'], experiment['max_bad_steps'],
                          replaced)]
    if rank == 0:
        with atomic_path(folder / 'config.json') as path:
            path.write_text(json.dumps({'experiment': experiment, 'config': config}, indent=1))
        callbacks.append(Checkpoints(network, final_checkpoint(experiment), experiment['checkpoint_interval'],
                                     experiment['start_epoch'], logger))
    logger.info(f'{experiment["model_config"]} on {experiment["device"]} x {ranks}, MindSpore {mindspore_version}: '
                f'{len(samples)} persons ({samples.skipped} left out), {steps} steps of '
                f'{settings["batch_size"]} x {ranks}, epochs {experiment["start_epoch"] + 1} to {settings["epochs"]}')

    # Training
    fit(step, loader, settings['epochs'] - experiment['start_epoch'], callbacks)
    return 0


if __name__ == '__main__':
    run(main)
