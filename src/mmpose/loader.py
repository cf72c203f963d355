"""The MindSpore dataset over the samples; the only file of this package that imports MindSpore."""
from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import cv2
import mindspore.dataset as ds
import numpy as np

from src.common.errors import InputError, record_worker_error
from src.mmpose.coco import TopDownDataset

# A data worker is a fork. Were it to collect what this process has left over, among it an iterator of an earlier
# loader, MindSpore would wait there for threads that the fork doesn't have, or crash. So workers leave it alone.
os.register_at_fork(before=gc.freeze, after_in_parent=gc.unfreeze)

COLUMNS = ['img', 'target', 'target_weight']


class EpochOrder(ds.Sampler):
    """Yields this rank's share of each epoch's order, as numbers epoch * size + index.

    The epoch is part of the number because workers need it to draw the epoch's augmentations, and with prefetching no
    other way of passing it is safe.
    """

    def __init__(self, size: int, batch_size: int, seed: int | None, start_epoch: int, rank: int, ranks: int,
                 start_step: int = 0) -> None:
        self.part = slice(start_step * batch_size, size // (batch_size * ranks) * batch_size)
        super().__init__(self.part.stop - self.part.start)
        self.size, self.seed, self.epoch, self.rank, self.ranks = size, seed, start_epoch, rank, ranks

    def __iter__(self) -> Iterator[int]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        order = np.arange(self.size) if self.seed is None else np.random.default_rng(
            [self.seed, epoch]).permutation(self.size)
        return iter((order[self.rank::self.ranks][self.part] + epoch * self.size).tolist())


class _Numbers:
    """The numbers of `EpochOrder` as a source; one per column, as MindSpore 1.10 maps columns to as many."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        return (np.array(number, np.int64),) * len(COLUMNS)


class _SampleReader:
    """Maps a number of `EpochOrder` to (img, target, target_weight)."""

    def __init__(self, samples: TopDownDataset, replaced: Any) -> None:
        self.samples, self.replaced = samples, replaced

    def __call__(self, number: np.ndarray, *_: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        epoch, index = divmod(int(number), len(self.samples))
        for offset in range(len(self.samples)):
            try:
                sample = self.samples.sample((index + offset) % len(self.samples), epoch)
                return sample['img'], sample['target'], sample['target_weight']
            except InputError as error:
                if self.replaced is None:
                    record_worker_error(error)
                    raise
                with self.replaced.get_lock():
                    self.replaced.value += 1
        raise record_worker_error(InputError('no training image can be read; check the image directory'))


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
        workers: processes, at most one per core; 0 reads in a thread of this process.
        replaced: a `multiprocessing.Value('i')`; with it an unreadable image is replaced by the next readable one
            and counted there, without it the image is an error.
        rank: number of this process among `ranks`.
        ranks: processes that share the set.
    """
    # Here, not in the workers: a fork that has OpenCV give up its threads waits for ever for the parent's.
    cv2.setNumThreads(1)
    order = EpochOrder(len(samples), batch_size, seed, start_epoch, rank, ranks, start_step)
    # The work is done in a map: its workers are waited for, those of GeneratorDataset are looked at every 0.1 s.
    dataset = ds.GeneratorDataset(_Numbers(len(samples)), COLUMNS, sampler=order, num_parallel_workers=1,
                                  python_multiprocessing=False)
    order.epoch = start_epoch  # MindSpore 2.0 has gone through one epoch, to count the samples
    dataset = dataset.map(_SampleReader(samples, replaced), COLUMNS, python_multiprocessing=workers > 0,
                          max_rowsize=samples.sample_bytes // 2 ** 20 + 2,  # MB of shared memory; larger rows go slower
                          num_parallel_workers=min(max(1, workers), os.cpu_count()))  # MindSpore refuses more
    return dataset.batch(batch_size, drop_remainder=True)
