"""Trains a Lite-HRNet.

    python train.py --device CPU --data_root data/coco --random_seed 0

Settings stand in src/config.py and configs/; every one of them is also an option. Writes to
<output_root>/checkpoints/<experiment_tag>/: <model_config>.ckpt at the end, <model_config>_epoch<n>.ckpt on the way,
<model_config>_best.ckpt with --eval_interval, <model_config>_epoch<n>.state (all that --resume needs; the newest two
stay), steps.csv, epochs.jsonl, train.log and config.json.
"""
from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.callback import Progress
from src.common.compat import describe
from src.common.errors import InputError, run
from src.common.files import atomic_path
from src.config import checkpoint_folder, final_checkpoint, parse, uses_kernels
from src.cpu.cells import accelerate
from src.cpu.update import fuse_update
from src.loss import JointsMSELoss, NetWithLoss
from src.lr_scheduler import learning_rates
from src.mmpose.coco import TopDownDataset
from src.mmpose.loader import steps_per_epoch, train_loader
from src.model import LiteHRNet
from src.settings.build import build_dataset, build_network
from src.training.compile_cache import compile_step, graph_folder
from src.training.heartbeat import Heartbeat
from src.training.saving import Checkpoints, find_start, whole_states
from src.training.signals import Follow
from src.training.state import TrainingState, settings_that_count
from src.training.tensorboard import TensorBoard
from src.training.train_step import TrainStep, fit
from src.training.validation import Validation
from src.utils import freeze, get_logger, make_optimizer, set_device, set_precision, set_seed
from src.weights.checkpoint import fill_network, load_network, network_state

if TYPE_CHECKING:  # `src` comes before MindSpore and quiets its log
    from mindspore.dataset import Dataset
    from mindspore.train.callback import Callback


def make_loaders(experiment: dict[str, Any], config: dict[str, Any], samples: TopDownDataset, replaced: Any,
                 position: tuple[int, int], rank: int, ranks: int) -> tuple[Dataset, Dataset | None]:
    """Batches of whole epochs and, where `position` (epoch, step) lies within one, of its rest; this rank's share."""
    epoch, step = position
    loaders = [train_loader(samples, config['train']['batch_size'], seed=experiment['random_seed'], start_epoch=first,
                            start_step=skipped, workers=experiment['workers'], replaced=replaced, rank=rank,
                            ranks=ranks)
               for first, skipped in ([(epoch, 0)] if not step else [(epoch + 1, 0), (epoch, step)])]
    return loaders[0], loaders[1] if step else None


def make_rates(experiment: dict[str, Any], settings: dict[str, Any], steps: int, ranks: int) -> np.ndarray:
    """The learning rate of every step to come, one for all steps of an update; `steps` are those of one epoch."""
    keys = ('schedule', 'lr_steps', 'lr_gamma', 'warmup_steps', 'warmup_ratio')
    rates = learning_rates(experiment['learning_rate'] * ranks, settings['epochs'], steps,
                           start_epoch=experiment['start_epoch'], **{key: settings[key] for key in keys})
    together = experiment['accumulate_steps']
    return np.repeat(rates[::together], together)[:len(rates)]


def make_network(experiment: dict[str, Any], config: dict[str, Any]) -> tuple[LiteHRNet, str | None]:
    """The network with the weights to start from; and what is to be told of them, see `load_network`."""
    network = build_network(config)
    start = experiment['checkpoint_path'] if experiment['resume'] != 'yes' else None
    told = load_network(network, start, new_head=True) if start else None
    if experiment['freeze']:
        freeze(network, experiment['freeze'])
    set_precision(network, experiment['amp_level'])
    if uses_kernels(experiment):
        accelerate(network, experiment['cpu_threads'])
    return network, told


def make_step(experiment: dict[str, Any], config: dict[str, Any], network: LiteHRNet, rates: np.ndarray,
              ranks: int) -> TrainStep:
    """Network, loss and optimizer as one cell, and a second network where moving averages are wanted."""
    averages, together = None, experiment['accumulate_steps']
    if experiment['ema_decay']:
        averages = build_network(config)
        if uses_kernels(experiment):
            accelerate(averages, experiment['cpu_threads'])
        fill_network(averages, network_state(network))
    decay, scale, clip = (experiment[key] for key in ('weight_decay', 'loss_scale', 'clip_norm'))
    optimizer = make_optimizer(config['train']['optimizer'], network, rates[::together], decay)
    plain = not uses_kernels(experiment) or clip or together > 1 or averages is not None
    return TrainStep(NetWithLoss(network, JointsMSELoss()), optimizer, scale, ranks, clip_norm=clip,
                     accumulate=together, ema=averages, ema_decay=experiment['ema_decay'],
                     fused=None if plain else fuse_update(optimizer, decay, scale))


def compile_ahead(step: TrainStep, experiment: dict[str, Any], config: dict[str, Any], steps: int,
                  logger: logging.Logger) -> None:
    """Compiles the training step, which otherwise its first call would do, and says so."""
    batch, (width, height), (map_width, map_height) = config['train']['batch_size'], *(
        config['data'][key] for key in ('image_size', 'heatmap_size'))
    joints, began = config['model']['num_joints'], time.time()
    folder = graph_folder(experiment, config, steps) if experiment['compile_cache'] else None
    logger.info('preparing the training step (half a minute for Lite-HRNet-18 the first time)')
    cached = compile_step(step, [(batch, 3, height, width), (batch, joints, map_height, map_width),
                                 (batch, joints, 1)], folder)
    logger.info(f'{"taken from the cache" if cached else "compiled"} in {time.time() - began:.0f} s')


def make_callbacks(experiment: dict[str, Any], config: dict[str, Any], step: TrainStep, rates: np.ndarray, steps: int,
                   start: TrainingState, states: list[Path], replaced: Any, rank: int, ranks: int,
                   logger: logging.Logger) -> list[Callback]:
    """Progress on every rank; files from rank 0 alone, with `Checkpoints` last."""
    folder = checkpoint_folder(experiment)
    callbacks = [Progress(rates, steps, experiment['start_epoch'], config['train']['batch_size'] * ranks,
                          folder if rank == 0 else None, logger, experiment['max_steps'], experiment['max_bad_steps'],
                          replaced, start.done)]
    if experiment['eval_interval']:
        first_epoch = experiment['start_epoch'] + start.done // steps
        callbacks.append(Validation(step.result, experiment, config, first_epoch, logger, rank == 0))
    if rank == 0:
        if experiment['tensorboard']:
            callbacks.append(TensorBoard(folder, rates, start.done))
        callbacks.append(Checkpoints(
            step, final_checkpoint(experiment), start, interval=experiment['checkpoint_interval'],
            keep=experiment['keep_checkpoints'], steps_per_epoch=steps, first_epoch=experiment['start_epoch'],
            states=states, logger=logger))
    else:
        callbacks.append(Follow())
    return callbacks


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    _, experiment, config = parse(parser, argv)
    settings = config['train']
    if experiment['start_epoch'] >= settings['epochs']:
        raise InputError(f'start_epoch {experiment["start_epoch"]}: training ends at epoch {settings["epochs"]}')

    rank, ranks = set_device(experiment['device'], experiment['device_id'], experiment['distributed'],
                             experiment['cpu_threads'], experiment['enable_graph_kernel'])
    set_seed(experiment['random_seed'])
    samples = build_dataset(experiment, config, 'train')
    steps = steps_per_epoch(len(samples), settings['batch_size'], ranks)
    rates = make_rates(experiment, settings, steps, ranks)
    network, told = make_network(experiment, config)
    step = make_step(experiment, config, network, rates, ranks)

    folder = checkpoint_folder(experiment)
    logger = get_logger(folder / 'train.log' if rank == 0 else None, quiet=rank > 0)
    logger.info(describe(experiment['device']))
    states = whole_states(final_checkpoint(experiment), logger)
    start = find_start(step, states, experiment['resume'], settings_that_count(experiment, config, len(samples), ranks),
                       folder, logger)
    replaced = multiprocessing.Value('i', 0) if experiment['skip_bad_images'] else None
    callbacks = make_callbacks(experiment, config, step, rates, steps, start, states, replaced, rank, ranks, logger)
    if start.done >= callbacks[0].total:
        logger.info(f'nothing left to do after {start.done} steps')
        if rank == 0:
            callbacks[-1].finish()
        return 0
    if rank == 0:
        with atomic_path(folder / 'config.json') as path:
            path.write_text(json.dumps({'experiment': {**experiment, 'resume': 'no'}, 'config': config}, indent=1))
    done, further = divmod(start.done, steps)
    epoch = experiment['start_epoch'] + done
    loader, remainder = make_loaders(experiment, config, samples, replaced, (epoch, further), rank, ranks)
    logger.info(f'{experiment["model_config"]}: {len(samples)} persons ({samples.skipped} left out), {steps} steps of '
                f'{settings["batch_size"]} x {ranks}, epochs {epoch + 1} to {settings["epochs"]}')
    logger.info(str(samples.info))
    if told:
        logger.info(told)
    with ExitStack() as stack:
        if ranks > 1:
            stack.callback(Heartbeat(folder / 'ranks', rank, ranks).close)
        sink = experiment['dataset_sink_mode'] and experiment['device'] != 'CPU'
        if not sink and ranks == 1:  # MindSpore puts another cell around it; ranks would have to agree on a cache
            compile_ahead(step.set_train(), experiment, config, len(rates), logger)
        fit(step, loader, settings['epochs'] - epoch - bool(further), callbacks, remainder, sink)
    return 0


if __name__ == '__main__':
    run(main)
