"""Evaluation between the epochs of a training."""
from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from mindspore import nn
from mindspore.train.callback import Callback, RunContext

from src.callback import EpochTable, Progress
from src.common import epoch_log
from src.common.errors import InputError
from src.config import final_checkpoint
from src.settings.build import build_dataset
from src.test_utils import forward_of, predict, select_persons
from src.weights.checkpoint import save_network

SELECTION_METRICS = ('AP', 'Mean')  # by which the best network is chosen: of COCO's figures, of MPII's


def choose_boxes(experiment: dict[str, Any], config: dict[str, Any]) -> tuple[str, str]:
    """Return `eval.boxes`, or 'gt' with a message where the detector's file is absent."""
    data, boxes = config['data'], config['eval']['boxes']
    if boxes == 'det' and not (Path(experiment['data_root']) / data['detections']).is_file():
        return 'gt', f'evaluation during training uses annotated boxes: there is no {data["detections"]}'
    return boxes, ''


class Validation(Callback):
    """Every `eval_interval` epochs: scores into the log and epochs.jsonl, and the best network into <name>_best.ckpt.

    All ranks evaluate: left to wait for rank 0 at the next exchange of gradients, the others would take it for dead.

    Args:
        network: is evaluated as it stands (the trained one, or that of its moving averages).
        progress: of the training.
        experiment: the experiment's settings.
        config: the model configuration.
        logger: gets a line per evaluation.
        table: gets the scores; None on the ranks that write no files.

    Raises:
        InputError: the validation set or its ground truth is missing or not what it should be.
    """

    def __init__(self, network: nn.Cell, progress: Progress, experiment: dict[str, Any], config: dict[str, Any],
                 logger: logging.Logger, table: EpochTable | None) -> None:
        boxes, message = choose_boxes(experiment, config)
        if message:
            logger.info(message)
        self.network, self.progress, self.logger, self.table, self.boxes = network, progress, logger, table, boxes
        self.settings, self.workers, self.interval = config['eval'], experiment['workers'], experiment['eval_interval']
        self.dataset = build_dataset(experiment, config, 'val', boxes)
        if not self.dataset.annotated:
            raise InputError(f'{config["data"]["val_annotations"]}: no person with labelled keypoints to evaluate with '
                             'during training; give others as --data.val_annotations, or --eval_interval 0')
        if self.dataset.remarks:
            logger.info(self.dataset.remarks)
        final = final_checkpoint(experiment)
        self.best_file = final.with_name(f'{final.stem}_best.ckpt')
        self.best: float | None = None

    def on_train_begin(self, run_context: RunContext) -> None:
        """Take up the best score of the epochs before."""
        if self.table and self.best_file.is_file():
            rows = epoch_log.read(self.table.path)
            self.best = max((row[name] for row in rows for name in SELECTION_METRICS if name in row), default=None)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Evaluate if it is this epoch's turn."""
        epoch = self.progress.epoch
        if epoch % self.interval:
            return
        began = time.time()
        try:
            predictions = predict(forward_of(self.network), self.dataset, self.settings, self.workers)
        finally:
            self.network.set_train()
        results = select_persons(predictions, self.dataset, self.settings)
        scores = self.dataset.evaluate(predictions, results, self.settings['backend'])
        self.progress.figures.update(scores)
        name = next(name for name in SELECTION_METRICS if name in scores)
        is_best = self.best is None or scores[name] > self.best
        if is_best:
            self.best = scores[name]
        if self.table:
            self.table.add({'epoch': epoch, **scores})
            if is_best:
                self._save_best()
        self.logger.info(f'epoch {epoch}: {name} {scores[name]:.4f} with {self.boxes} boxes'
                         f'{", the best so far" if is_best else f" (best: {self.best:.4f})"}, '
                         f'{time.time() - began:.0f} s')

    def _save_best(self) -> None:
        try:
            save_network(self.network, self.best_file)
        except (OSError, RuntimeError, InputError) as error:
            self.logger.warning(f'{self.best_file}: not saved ({str(error).strip().splitlines()[-1]})')
