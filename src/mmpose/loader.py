"""The MindSpore dataset over the samples; the only file of this package that imports MindSpore."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import mindspore.dataset as ds
import numpy as np

from src.common.errors import InputError, record_data_error
from src.mmpose.coco import TopDownDataset
from src.mmpose.workers import Arrays, Workers

COLUMNS = ('img', 'target', 'target_weight')
Job = tuple[int, list[int]]  # an epoch, and numbers of samples


def epoch_order(size: int, seed: int | None, epoch: int) -> np.ndarray:
    """Return the numbers of all samples in an epoch's order, which is the file's where there is no seed."""
    return np.arange(size) if seed is None else np.random.default_rng([seed, epoch]).permutation(size)


class StepOrder(ds.Sampler):
    """Yields the steps of each epoch as numbers epoch * steps + step.

    MindSpore copies a sampler for every pipeline that it makes, also for those that just ask for shapes, so that none
    takes an epoch from another.
    """

    def __init__(self, steps: int, start_epoch: int, start_step: int) -> None:
        super().__init__(steps - start_step)
        self.steps, self.epoch, self.start_step = steps, start_epoch, start_step

    def __iter__(self) -> Iterator[int]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return iter(range(epoch * self.steps + self.start_step, (epoch + 1) * self.steps))


class Batches:
    """Batches (img, target, target_weight) by the numbers of `StepOrder`, whose rest of the epoch is made ahead."""

    def __init__(self, samples: TopDownDataset, batch_size: int, seed: int | None, workers: int, replaced: Any,
                 rank: int, ranks: int) -> None:
        """Make the memory for batches; arguments as for `train_loader`."""
        self.samples, self.batch_size, self.seed, self.replaced = samples, batch_size, seed, replaced
        self.share, self.steps = slice(rank, None, ranks), steps_per_epoch(len(samples), batch_size, ranks)
        self._workers = Workers(workers, [(batch_size, *samples.shapes[name]) for name in COLUMNS], self._fill)
        self._next, self._made = -1, iter(())

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self.steps

    def __getitem__(self, number: int) -> Arrays:
        """Return a batch; one that does not follow that before ends what is made ahead."""
        if number != self._next or number % self.steps == 0:
            self._made = self._workers.run(self._jobs(*divmod(int(number), self.steps)))
        self._next = number + 1
        try:
            return next(self._made)
        except InputError as error:
            record_data_error(error)
            raise

    def _jobs(self, epoch: int, start: int) -> Iterator[Job]:
        """Yield the steps of an epoch from one on."""
        order = epoch_order(len(self.samples), self.seed, epoch)[self.share].tolist()
        for step in range(start, self.steps):
            yield epoch, order[step * self.batch_size:(step + 1) * self.batch_size]

    def _fill(self, arrays: Arrays, job: Job) -> None:
        """Put the samples of a job into a batch."""
        epoch, numbers = job
        for row, number in enumerate(numbers):
            sample = self._readable(number, epoch)
            for name, column in zip(COLUMNS, arrays):
                if sample[name].shape != column.shape[1:]:
                    raise InputError(f'the pipeline makes {name} of shape {sample[name].shape}, where the network '
                                     f'takes {column.shape[1:]}; correct train_pipeline')
                column[row] = sample[name]

    def _readable(self, number: int, epoch: int) -> dict[str, Any]:
        """Return a sample, or where unreadable ones are replaced the next that can be read."""
        for offset in range(len(self.samples)):
            try:
                return self.samples.sample((number + offset) % len(self.samples), epoch)
            except InputError:
                if self.replaced is None:
                    raise
                with self.replaced.get_lock():
                    self.replaced.value += 1
        raise InputError('no training image can be read; check the image directory')


def steps_per_epoch(samples: int, batch_size: int, ranks: int = 1) -> int:
    """Return the number of steps that use every sample at most once.

    Raises:
        InputError: fewer samples than one step needs.
    """
    if samples < batch_size * ranks:
        raise InputError(f'{samples} training samples are fewer than one step takes ({batch_size} x {ranks} '
                         f'devices): pass --train.batch_size {max(1, samples // ranks)} or less')
    return samples // (batch_size * ranks)


def train_loader(samples: TopDownDataset, batch_size: int, *, seed: int | None, start_epoch: int = 0,
                 start_step: int = 0, workers: int = 2, replaced: Any = None, rank: int = 0,
                 ranks: int = 1) -> ds.Dataset:
    """Return batches of (img, target, target_weight) without an incomplete last one.

    Args:
        batch_size: samples per device and step.
        seed: with it each epoch has an order of its own; None keeps the order of the file.
        start_epoch: epoch whose order comes first.
        start_step: steps omitted at the beginning of every epoch (for the rest of one that was interrupted).
        workers: processes; 0 reads in a thread of this process.
        replaced: a `multiprocessing.Value('i')`; with it an unreadable image is replaced by the next readable one
            and counted there, without it the image is an error.
        rank: number of this process among `ranks`.
        ranks: processes that share the set.
    """
    # Here, not in the workers: a fork that has OpenCV give up its threads waits for ever for the parent's.
    cv2.setNumThreads(1)
    ds.config.set_prefetch_size(2)  # 16 batches, the default, take 1 GB for batches of 64, and are no faster
    batches = Batches(samples, batch_size, seed, workers, replaced, rank, ranks)
    order = StepOrder(len(batches), start_epoch, start_step)
    dataset = ds.GeneratorDataset(batches, list(COLUMNS), sampler=order, num_parallel_workers=1,
                                  python_multiprocessing=False)
    order.epoch = start_epoch  # MindSpore 2.0 has gone through one epoch, to count the batches
    return dataset
