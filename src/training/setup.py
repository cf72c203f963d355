"""From settings to a training that is ready to run."""
from __future__ import annotations

import json
import multiprocessing
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from mindspore.dataset import Dataset
from mindspore.train.callback import Callback

from src.callback import BadStepGuard, Console, EpochTable, Progress, StepTable
from src.common import epoch_log
from src.common.compat import describe
from src.common.errors import InputError
from src.common.files import atomic_path
from src.config import checkpoint_folder, final_checkpoint, uses_kernels
from src.cpu.cells import accelerate
from src.cpu.update import accelerate_update
from src.loss import JointsMSELoss, NetWithLoss
from src.lr_scheduler import learning_rates
from src.mmpose.loader import steps_per_epoch, train_loader
from src.model import LiteHRNet
from src.settings.build import build_dataset, build_network
from src.training.compile_cache import compile_step, graph_folder
from src.training.heartbeat import signs_of_life
from src.training.saving import Checkpoints, LeaveAfterSignal, find_start, find_valid_states
from src.training.signals import DeferSignals, StopSignals
from src.training.state import TrainingState, settings_affecting_results
from src.training.tensorboard import TensorBoard
from src.training.train_step import TrainStep
from src.training.unfold import unfold_batch_norm
from src.training.validation import Validation
from src.utils import freeze, get_logger, make_optimizer, set_device, set_precision, set_seed
from src.weights.checkpoint import fill_network, load_network, network_state
from src.weights.download import locate


def update_rates(experiment: dict[str, Any], settings: dict[str, Any], steps: int, ranks: int) -> np.ndarray:
    """Return the learning rate of every update from `start_epoch` on, float32 (updates,).

    Args:
        settings: the `train` section of the model configuration.
        ranks: devices; the learning rate is multiplied by their number.
    """
    keys = ('schedule', 'lr_steps', 'lr_gamma', 'warmup_steps', 'warmup_ratio')
    rates = learning_rates(experiment['learning_rate'] * ranks, settings['epochs'], steps,
                           start_epoch=experiment['start_epoch'], **{key: settings[key] for key in keys})
    return rates[::experiment['accumulate_steps']]


def make_network(experiment: dict[str, Any], config: dict[str, Any]) -> tuple[LiteHRNet, str | None]:
    """Return the network with the weights to start from, and the message of `load_network`."""
    network = build_network(config)
    start = experiment['checkpoint_path'] if experiment['resume'] != 'yes' else None
    load_message = load_network(network, locate(start), new_head=True) if start else None
    if experiment['freeze']:
        freeze(network, experiment['freeze'])
    set_precision(network, experiment['amp_level'])
    if uses_kernels(experiment):
        accelerate(network, experiment['cpu_threads'])
    return network, load_message


def make_step(experiment: dict[str, Any], config: dict[str, Any], network: LiteHRNet, rates: np.ndarray,
              ranks: int) -> TrainStep:
    """Return network, loss and optimizer as one cell, with a second network where moving averages are wanted."""
    averages = None
    clip, accumulate_steps, ema_decay = (experiment[key] for key in ('clip_norm', 'accumulate_steps', 'ema_decay'))
    if ema_decay:
        averages = build_network(config)
        if uses_kernels(experiment):
            accelerate(averages, experiment['cpu_threads'])
        fill_network(averages, network_state(network))
    optimizer = make_optimizer(config['train']['optimizer'], network, rates, experiment['weight_decay'])
    # float32 holds every gradient as it is; not to scale them spares an operator for each.
    scale = experiment['loss_scale'] if experiment['amp_level'] != 'O0' else 1
    step = TrainStep(NetWithLoss(network, JointsMSELoss()), optimizer, scale, ranks, clip_norm=clip,
                     accumulate_steps=accumulate_steps, ema=averages, ema_decay=ema_decay)
    if uses_kernels(experiment):
        accelerate_update(step, experiment['weight_decay'])
    return step


class Run:
    """One training: its data, its step, where it begins, and what is written beside it.

    Attributes:
        step: network, loss and optimizer.
        progress: where the training begins; kept up to date by `fit`.
        callbacks: in the order in which they are called.
        sink: whether MindSpore's sink mode is used.

    Raises:
        InputError: a setting or file that the training can't use.
    """

    def __init__(self, experiment: dict[str, Any], config: dict[str, Any]) -> None:
        settings = config['train']
        if experiment['start_epoch'] >= settings['epochs']:
            raise InputError(f'start_epoch {experiment["start_epoch"]}: training ends at epoch {settings["epochs"]}; '
                             'pass a smaller --start_epoch or a larger --train.epochs')
        self.experiment, self.config = experiment, config
        self.rank, self.ranks = set_device(experiment['device'], experiment['device_id'], experiment['distributed'],
                                           experiment['cpu_threads'])
        # Ranks must begin with the same weights.
        set_seed(0 if self.ranks > 1 and experiment['random_seed'] is None else experiment['random_seed'])
        self.samples = build_dataset(experiment, config, 'train')
        per_epoch = steps_per_epoch(len(self.samples), settings['batch_size'], self.ranks)
        rates = update_rates(experiment, settings, per_epoch, self.ranks)
        total = (settings['epochs'] - experiment['start_epoch']) * per_epoch
        if experiment['accumulate_steps'] > total:
            raise InputError(f'accumulate_steps {experiment["accumulate_steps"]}: the training has {total} steps and '
                             'would not update the network once; pass fewer')
        network, load_message = make_network(experiment, config)
        self.folder = checkpoint_folder(experiment)
        self.logger = get_logger(self.folder / 'train.log' if self.rank == 0 else None, quiet=self.rank > 0)
        self.logger.info(describe(experiment['device']))
        unfold_batch_norm(network, config, self.samples, self.logger)
        self.step = make_step(experiment, config, network, rates, self.ranks)

        states = find_valid_states(final_checkpoint(experiment), self.logger)
        used = settings_affecting_results(experiment, config, len(self.samples), self.ranks)
        start = find_start(self.step, states, experiment['resume'], used, self.folder, self.logger)
        self.progress = Progress(per_epoch, min(total, experiment['max_steps'] or total),
                                 settings['batch_size'] * self.ranks, experiment['start_epoch'], start.step)
        self.replaced = multiprocessing.Value('i', 0) if experiment['skip_bad_images'] else None
        self.load_message, self.update_count = load_message, len(rates)
        self.sink = experiment['dataset_sink_mode'] and experiment['device'] != 'CPU'
        self.start_time = start.start_time
        self.callbacks = self._make_callbacks(start, states)

    def _make_callbacks(self, start: TrainingState, states: list[Path]) -> list[Callback]:
        """Return all callbacks of this rank; files come from rank 0 alone.

        What an epoch has cost is saved before it is evaluated, and a signal that came meanwhile is obeyed last.
        """
        progress, experiment, logger, signals = self.progress, self.experiment, self.logger, StopSignals()
        defer, guard = DeferSignals(signals), BadStepGuard(progress, experiment['max_bad_steps'], logger)
        table = EpochTable(self.folder / epoch_log.FILE, progress, logger) if self.rank == 0 else None
        # NCCL lets the other ranks wait while rank 0 evaluates; on the CPU they would take it for dead.
        evaluates = experiment['eval_interval'] and (self.rank == 0 or experiment['device'] == 'CPU')
        validation = [Validation(self.step.result, progress, experiment, self.config, logger, signals, table)
                      ] if evaluates else []
        if self.rank > 0:
            return [defer, guard, *validation]
        checkpoints = Checkpoints(self.step, progress, final_checkpoint(experiment), start,
                                  interval=experiment['checkpoint_interval'],
                                  eval_interval=experiment['eval_interval'], keep=experiment['keep_checkpoints'],
                                  states=states, logger=logger)
        tensorboard = [TensorBoard(self.folder, progress)] if experiment['tensorboard'] else []
        return [defer, StepTable(self.folder / 'steps.csv', progress, logger), table,
                Console(progress, logger, self.replaced), guard, checkpoints, *validation, *tensorboard,
                LeaveAfterSignal(signals, progress, checkpoints, logger)]

    def begin(self) -> None:
        """Write config.json, log what is trained on what and compile the step, unless no step is left."""
        if self.progress.step >= self.progress.total_steps:
            self.logger.info(f'nothing left to do after {self.progress.step} steps')
            return
        if self.rank == 0:
            with atomic_path(self.folder / 'config.json') as path:
                path.write_text(json.dumps({'experiment': {**self.experiment, 'resume': 'no'}, 'config': self.config,
                                            'start_time': self.start_time}, indent=1))
        self._log_summary()
        if not self.sink and self.ranks == 1:  # in sink mode it is a part of another cell; ranks can't share a cache
            self._compile()

    def _log_summary(self) -> None:
        settings, progress = self.config['train'], self.progress
        self.logger.info(f'{self.experiment["model_config"]}: {len(self.samples)} persons, '
                         f'{progress.steps_per_epoch} steps of {settings["batch_size"]} x {self.ranks}, epochs '
                         f'{progress.first_epoch + progress.step // progress.steps_per_epoch + 1} to '
                         f'{settings["epochs"]}')
        for message in (str(self.samples.info), self.samples.remarks, self.load_message):
            if message:
                self.logger.info(message)

    def _compile(self) -> None:
        data, batch, began = self.config['data'], self.config['train']['batch_size'], time.time()
        (width, height), (map_width, map_height) = data['image_size'], data['heatmap_size']
        joints = self.config['model']['num_joints']
        shapes = [(batch, 3, height, width), (batch, joints, map_height, map_width), (batch, joints, 1)]
        folder = (graph_folder(self.experiment, self.config, self.update_count) if self.experiment['compile_cache']
                  else None)
        self.logger.info('preparing the training step (half a minute for Lite-HRNet-18 the first time)')
        cached = compile_step(self.step.set_train(), shapes, folder)
        self.logger.info(f'{"taken from the cache" if cached else "compiled"} in {time.time() - began:.0f} s')

    def make_loaders(self) -> tuple[Dataset, Dataset | None]:
        """Return this rank's (full-epoch loader, remainder loader or None) from where the training begins."""
        step, epoch = self.progress.step_in_epoch, self.progress.epoch

        def loader(start_epoch: int, start_step: int = 0) -> Dataset:
            return train_loader(self.samples, self.config['train']['batch_size'], seed=self.experiment['random_seed'],
                                start_epoch=start_epoch, start_step=start_step, workers=self.experiment['workers'],
                                replaced=self.replaced, rank=self.rank, ranks=self.ranks)

        return loader(epoch), loader(epoch - 1, step) if step else None

    def heartbeat(self) -> AbstractContextManager:
        """Return a context in which this rank shows the others that it lives."""
        return signs_of_life(self.folder / 'ranks', self.rank, self.ranks) if self.ranks > 1 else nullcontext()
