"""Evaluation between the epochs of a training."""
from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import nn
from mindspore.train.callback import Callback, RunContext

from src.callback import EpochTable, Progress
from src.common import epoch_log
from src.common.errors import InputError, first_line
from src.config import final_checkpoint
from src.mmpose.distance_metrics import ERRORS
from src.settings.build import build_dataset
from src.test_utils import Forward, forward_of, predict, select_persons
from src.training.signals import StopSignals
from src.weights.checkpoint import save_network


class StopEvaluation(Exception):
    """A signal came while an evaluation ran."""


def choose_boxes(experiment: dict[str, Any], config: dict[str, Any]) -> tuple[str, str]:
    """Return `eval.boxes`, or 'gt' with a message where there are no detected boxes: MPII, or a missing file."""
    boxes, detections = config['eval']['boxes'], config['data'].get('detections')
    if boxes == 'det' and not (detections and (Path(experiment['data_root']) / detections).is_file()):
        return 'gt', f'evaluation during training uses annotated boxes: there is no {detections or "detection file"}'
    return boxes, ''


class Validation(Callback):
    """Every `eval_interval` epochs: scores into the log and epochs.jsonl, and the best network into <name>_best.ckpt.

    It costs no training: an evaluation that fails (an image can't be read) is reported and left out; one that a signal
    stops is made up for when the training is resumed.

    Args:
        network: is evaluated as it stands (the trained one, or that of its moving averages).
        signals: gets a sign of life per batch; on rank 0 a signal stops the evaluation.
        table: gets the scores; None on the ranks that write no files.

    Raises:
        InputError: the validation set or its ground truth is missing or not what it should be.
    """

    def __init__(self, network: nn.Cell, progress: Progress, experiment: dict[str, Any], config: dict[str, Any],
                 logger: logging.Logger, signals: StopSignals, table: EpochTable | None) -> None:
        boxes, message = choose_boxes(experiment, config)
        if message:
            logger.info(message)
        self.network, self.progress, self.logger, self.table, self.boxes = network, progress, logger, table, boxes
        self.workers, self.interval, self.signals = experiment['workers'], experiment['eval_interval'], signals
        self.dataset = build_dataset(experiment, config, 'val', boxes)
        self.settings = {**config['eval'], 'batch_size': min(config['eval']['batch_size'], len(self.dataset))}
        if not self.dataset.annotated:
            raise InputError(f'{config["data"]["val_annotations"]}: no person with labelled keypoints to evaluate with '
                             'during training; give others as --data.val_annotations, or --eval_interval 0')
        if self.dataset.remarks:
            logger.info(self.dataset.remarks)
        final = final_checkpoint(experiment)
        self.best_file = final.with_name(f'{final.stem}_best.ckpt')
        # The figure by which the best network is chosen.
        self.metric = 'Mean' if config['data']['type'] == 'mpii' else self.settings['metrics'][0]
        # Read before the log loses the rows of what will be done again: the best network may be of these.
        log_file = final.with_name(epoch_log.FILE)
        rows = epoch_log.read(log_file, skip_damaged=True) if progress.step and log_file.is_file() else []
        self.scores = {row['epoch']: row[self.metric] for row in rows if row.get(self.metric) is not None}
        self.best: float | None = None
        self.measured = f'{self.metric} with {boxes} boxes of {config["data"]["val_annotations"]}'
        if self.best_file.is_file() and rows:
            kept = [row for row in rows if row.get('best') is not None]  # earlier versions didn't say
            if not kept and self.scores:
                self.best = (min if self.metric in ERRORS else max)(self.scores.values())
            elif kept and kept[-1]['best_of'] == self.measured:
                self.best = kept[-1]['best']
            elif kept:
                logger.info(f'{self.best_file.name} is the best by {kept[-1]["best_of"]}; the first evaluation by '
                            f'{self.measured} replaces it')

    def on_train_begin(self, run_context: RunContext) -> None:
        """Evaluate an epoch whose evaluation was stopped."""
        if self.progress.epoch not in self.scores and not self.progress.step_in_epoch:
            self.on_train_epoch_end(run_context)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Evaluate if it is this epoch's turn and no signal waits."""
        if not self.progress.is_due(self.interval) or self._must_stop():
            return
        epoch, began = self.progress.epoch, time.time()
        self.logger.info(f'epoch {epoch}: evaluating {len(self.dataset)} boxes')
        try:
            predictions = predict(self._watched_forward(), self.dataset, self.settings, self.workers)
            results = select_persons(predictions, self.dataset, self.settings)
            scores = self.dataset.evaluate(predictions, results, self.settings)
        except InputError as error:
            self.logger.warning(f'epoch {epoch}: not evaluated ({error}); training continues')
            return
        except StopEvaluation:
            self.logger.info(f'epoch {epoch}: evaluation stopped; --resume starts with it')
            return
        finally:
            self.network.set_train()
        self._record(scores, time.time() - began)

    def _must_stop(self) -> bool:
        return bool(self.signals.number) and self.table is not None

    def _watched_forward(self) -> Forward:
        forward = forward_of(self.network)

        def watched(images: np.ndarray) -> np.ndarray:
            self.signals.beat()
            if self._must_stop():
                raise StopEvaluation
            return forward(images)

        return watched

    def _record(self, scores: dict[str, float], seconds: float) -> None:
        self.progress.figures.update(scores)
        epoch, score = self.progress.epoch, scores[self.metric]
        is_best = self.best is None or (score < self.best if self.metric in ERRORS else score > self.best)
        if is_best and self.table:
            is_best = self._save_best()
        if is_best:
            self.best = score
        if self.table:
            self.table.add({'epoch': epoch, **scores, 'best': self.best, 'best_of': self.measured})
        told = ', the best so far' if is_best else '' if self.best is None else f' (best: {self.best:.4f})'
        self.logger.info(f'epoch {epoch}: {self.metric} {score:.4f} with {self.boxes} boxes'
                         f'{told}, {seconds:.0f} s')

    def _save_best(self) -> bool:
        try:
            save_network(self.network, self.best_file)
        except (OSError, RuntimeError, InputError) as error:
            self.logger.warning(f'{self.best_file}: not saved ({first_line(error)})')
            return False
        return True
