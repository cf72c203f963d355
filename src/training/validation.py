"""Evaluation between the epochs of a training."""
from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from mindspore import nn
from mindspore.train.callback import Callback, RunContext

from src.common import epoch_log
from src.common.errors import InputError
from src.config import final_checkpoint
from src.settings.build import build_dataset
from src.test_utils import forward_of, predict, select_persons
from src.weights.checkpoint import save_network

DECISIVE = ('AP', 'Mean')  # of COCO's figures, of MPII's


def choose_boxes(experiment: dict[str, Any], config: dict[str, Any]) -> tuple[str, str]:
    """`eval.boxes`, or annotated boxes where the detector's file is absent; and what is to be told of that."""
    data, boxes = config['data'], config['eval']['boxes']
    if boxes == 'det' and not (Path(experiment['data_root']) / data['detections']).is_file():
        return 'gt', f'evaluation during training takes annotated boxes: there is no {data["detections"]}'
    return boxes, ''


class Validation(Callback):
    """Every `eval_interval` epochs: figures into the log and epochs.jsonl, and the best network into <name>_best.ckpt.

    Args:
        network: is evaluated as it stands (the training's, or that of its moving averages).
        experiment: the experiment's settings.
        config: the model configuration.
        first_epoch: number of the first epoch to come, from 0.
        logger: gets a line per evaluation.
        writes: whether this process keeps the files. The other ranks evaluate too: left to wait for the first at the
            next exchange of gradients, they would take it for dead.

    Raises:
        InputError: the validation set or its truth is missing or not what it should be.
    """

    def __init__(self, network: nn.Cell, experiment: dict[str, Any], config: dict[str, Any],
                 first_epoch: int, logger: logging.Logger, writes: bool = True) -> None:
        boxes, told = choose_boxes(experiment, config)
        if told:
            logger.info(told)
        self.network, self.logger, self.boxes, self.writes = network, logger, boxes, writes
        self.settings, self.workers = config['eval'], experiment['workers']
        self.dataset = build_dataset(experiment, config, 'val', boxes)
        self.interval, self.epoch = experiment['eval_interval'], first_epoch
        final = final_checkpoint(experiment)
        self.file, self.best_file = final.with_name(epoch_log.FILE), final.with_name(f'{final.stem}_best.ckpt')
        self.best: float | None = None

    def on_train_begin(self, run_context: RunContext) -> None:
        """Takes up the best figure of the epochs before."""
        rows = epoch_log.read(self.file) if self.file.is_file() and self.best_file.is_file() else []
        self.best = max((row[name] for row in rows for name in DECISIVE if name in row), default=None)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Evaluates if it is this epoch's turn."""
        self.epoch += 1
        if self.epoch % self.interval:
            return
        began = time.time()
        try:
            predictions = predict(forward_of(self.network), self.dataset, self.settings, self.workers)
        finally:
            self.network.set_train()
        results = select_persons(predictions, self.dataset, self.settings)
        scores = self.dataset.evaluate(predictions, results, self.settings['backend'])
        name = next(name for name in DECISIVE if name in scores)
        better = self.best is None or scores[name] > self.best
        if better:
            self.best = scores[name]
        if self.writes:
            if better:
                self._save()
            try:
                epoch_log.append(self.file, dict(epoch=self.epoch, **scores))
            except OSError as error:
                self.logger.warning(f'{self.file}: cannot be written ({error.strerror}); the training goes on')
        self.logger.info(f'epoch {self.epoch}: {name} {scores[name]:.4f} with {self.boxes} boxes'
                         f'{", the best so far" if better else f" (best: {self.best:.4f})"}, '
                         f'{time.time() - began:.0f} s')

    def _save(self) -> None:
        try:
            save_network(self.network, self.best_file)
        except (OSError, RuntimeError, InputError) as error:
            self.logger.warning(f'{self.best_file}: not saved ({str(error).strip().splitlines()[-1]})')

    def close(self) -> None:
        """Nothing is open between epochs."""
