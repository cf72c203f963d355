"""What order the samples come in, which rank gets them, and what an unreadable picture does."""
from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Model
from mindspore.train.callback import Callback

from src.common.errors import InputError, behind
from src.mmpose.loader import steps_per_epoch, train_loader

EPOCHS = 3
ROOT = Path(__file__).resolve().parents[2]


class Numbered:
    """Samples that say which one of which epoch they are; those in `bad` can't be read."""

    def __init__(self, size: int, bad: tuple[int, ...] = ()) -> None:
        self.size, self.bad = size, bad
        self.shapes = {'img': (3, 2, 2), 'target': (1, 2, 2), 'target_weight': (1, 1)}

    def __len__(self) -> int:
        return self.size

    def sample(self, index: int, epoch: int) -> dict[str, np.ndarray]:
        if index in self.bad:
            raise InputError(f'picture{index}.jpg: truncated')
        return {'img': np.full((3, 2, 2), index, np.float32), 'target': np.full((1, 2, 2), epoch, np.float32),
                'target_weight': np.float32([[index]]), 'more': None}


def orders(samples: Numbered, batch_size: int = 2, epochs: int = EPOCHS, **options) -> list[list[int]]:
    """Indices in each epoch; checks on the way that a sample is of its epoch, whole, and in batches."""
    options = {'seed': 0, 'workers': 0, **options}
    first = options.get('start_epoch', 0)
    iterator = train_loader(samples, batch_size, **options).create_tuple_iterator(num_epochs=epochs, output_numpy=True)
    found = []
    for epoch in range(first, first + epochs):
        found.append([])
        for images, targets, weights in iterator:
            assert images.shape == (batch_size, 3, 2, 2) and targets.shape == (batch_size, 1, 2, 2)
            assert images.dtype == targets.dtype == weights.dtype == np.float32
            assert (targets == epoch).all() and (images[:, 0, 0, 0] == weights[:, 0, 0]).all()
            found[-1] += images[:, 0, 0, 0].astype(int).tolist()
    return found


def test_without_seed_the_order_is_the_files() -> None:
    assert orders(Numbered(7), seed=None) == [[0, 1, 2, 3, 4, 5]] * EPOCHS


def test_with_seed_every_epoch_has_an_order_of_its_own() -> None:
    found = orders(Numbered(20), seed=1)
    assert all(sorted(order) == list(range(20)) for order in found)
    assert len({tuple(order) for order in found} | {tuple(range(20))}) == EPOCHS + 1


def test_order_depends_on_the_seed_alone() -> None:
    assert orders(Numbered(20), seed=1) == orders(Numbered(20), seed=1)
    assert orders(Numbered(20), seed=1)[0] != orders(Numbered(20), seed=2)[0]


@pytest.mark.parametrize('seed', [None, 1])
def test_processes_give_what_threads_give(seed: int | None) -> None:
    assert orders(Numbered(20), seed=seed, workers=2) == orders(Numbered(20), seed=seed, workers=0)


def test_there_may_be_more_workers_than_cores_and_batches() -> None:
    assert orders(Numbered(4), workers=os.cpu_count() + 1) == orders(Numbered(4), workers=0)


def test_a_later_start_goes_on() -> None:
    assert orders(Numbered(20), start_epoch=1, epochs=2) == orders(Numbered(20))[1:]


@pytest.mark.parametrize('seed', [None, 1])
def test_ranks_share_every_epoch(seed: int | None) -> None:
    whole = orders(Numbered(26), seed=seed)
    parts = [orders(Numbered(26), seed=seed, rank=rank, ranks=3) for rank in range(3)]
    for epoch, order in enumerate(whole):
        shares = [part[epoch] for part in parts]
        assert [len(share) for share in shares] == [8, 8, 8]
        assert len(set(chain(*shares))) == 24 and set(chain(*shares)) <= set(order)


class Heard(nn.Cell):
    """In the place of a training step: passes its inputs on."""

    def construct(self, image, target, weight):
        return weight * 1, target * 1


class Listener(Callback):
    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []

    def on_train_step_end(self, run_context) -> None:
        index, epoch = (x.asnumpy().ravel()[0] for x in run_context.original_args().net_outputs)
        self.heard.append((int(epoch), int(index)))


def test_training_sees_the_same_order() -> None:
    """MindSpore's training loop asks the data set for its size and more, which must not cost an epoch."""
    loader, listener = train_loader(Numbered(6), 1, seed=1, workers=0), Listener()
    assert loader.get_dataset_size() == 6 and loader.output_shapes() == [[1, 3, 2, 2], [1, 1, 2, 2], [1, 1, 1]]
    Model(Heard()).train(EPOCHS, loader, [listener], dataset_sink_mode=False)
    expected = [(epoch, index) for epoch, order in enumerate(orders(Numbered(6), 1, seed=1)) for index in order]
    assert listener.heard == expected


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('start_step', [0, 2])
def test_what_asks_for_shapes_takes_nothing(workers: int, start_step: int) -> None:
    """MindSpore makes a pipeline of its own for that, which runs ahead: in sink mode twice."""
    loader = train_loader(Numbered(6), 2, seed=None, workers=workers, start_epoch=3, start_step=start_step)
    loader.output_shapes()
    time.sleep(0.3)
    loader.output_types()
    iterator = loader.create_tuple_iterator(num_epochs=2, output_numpy=True)
    found = [[(int(target[0, 0, 0, 0]), int(weight[0, 0, 0])) for _, target, weight in iterator] for _ in range(2)]
    assert found == [[(epoch, 2 * step) for step in range(start_step, 3)] for epoch in (3, 4)]


@pytest.mark.parametrize('workers', [0, 2])
def test_a_bad_picture_is_replaced_by_the_next_and_counted(workers: int) -> None:
    replaced = multiprocessing.Value('i', 0)
    found = orders(Numbered(8, bad=(2, 3, 7)), seed=None, workers=workers, replaced=replaced)
    assert found == [[0, 1, 4, 4, 4, 5, 6, 0]] * EPOCHS
    assert replaced.value == EPOCHS * 4  # pictures that failed: 2 and 3, 3, 7


class LeftOver:
    """Something in a cycle, so that the garbage collector alone removes it; then it writes down in which process."""

    def __init__(self, file: Path) -> None:
        self.file, self.itself = file, self

    def __del__(self) -> None:
        with self.file.open('a') as out:
            print(os.getpid(), file=out)


def test_workers_do_not_collect_what_is_left_over(tmp_path: Path) -> None:
    """There an iterator of MindSpore would crash (seen on Python 3.12)."""
    gc.collect()
    LeftOver(tmp_path / 'removed')
    worker = multiprocessing.get_context('fork').Process(target=gc.collect)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    gc.collect()
    assert (tmp_path / 'removed').read_text().split() == [str(os.getpid())]


THREADS = '''
import cv2, numpy as np
from src.mmpose.loader import train_loader
class Samples:
    shapes = dict(img=(3, 2, 2), target=(1, 2, 2), target_weight=(1, 1))
    def __len__(self): return 4
    def sample(self, index, epoch):
        cv2.warpAffine(np.zeros((500, 500, 3), np.uint8), np.eye(2, 3), (500, 500))
        return dict(img=np.zeros((3, 2, 2), np.float32), target=np.zeros((1, 2, 2), np.float32),
                    target_weight=np.zeros((1, 1), np.float32))
cv2.setNumThreads(4)
Samples().sample(0, 0)
print(sum(1 for _ in train_loader(Samples(), 2, seed=0, workers=2).create_tuple_iterator(num_epochs=1)))
'''


def test_workers_run_where_opencv_has_threads_already() -> None:
    """As in a training that has evaluated before it starts its workers."""
    done = subprocess.run([sys.executable, '-c', THREADS], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ['2'], done.stderr


def test_no_good_picture_at_all() -> None:
    with pytest.raises(RuntimeError) as caught:
        orders(Numbered(4, bad=(0, 1, 2, 3)), replaced=multiprocessing.Value('i', 0))
    assert str(behind(caught.value)) == 'no training image can be read; check the image directory'


@pytest.mark.parametrize('workers', [0, 2])
def test_a_bad_picture_is_an_error_that_names_it(workers: int) -> None:
    with pytest.raises(RuntimeError) as caught:
        orders(Numbered(8, bad=(5,)), workers=workers)
    error = behind(caught.value)
    assert isinstance(error, InputError) and str(error) == 'picture5.jpg: truncated', str(error)
    assert isinstance(behind(RuntimeError('another')), RuntimeError)


@pytest.mark.parametrize('workers', [0, 2])
def test_a_pipeline_for_another_network_is_refused(workers: int) -> None:
    samples = Numbered(8)
    samples.shapes = {**samples.shapes, 'img': (3, 2, 3)}
    with pytest.raises(RuntimeError) as caught:
        orders(samples, workers=workers)
    assert str(behind(caught.value)) == ('the pipeline makes img of shape (3, 2, 2), where the network takes (3, 2, 3);'
                                         ' correct train_pipeline')


@pytest.mark.parametrize(('size', 'ranks', 'advice'), [(3, 1, 3), (7, 2, 3), (1, 2, 1)])
def test_too_few_samples(size: int, ranks: int, advice: int) -> None:
    with pytest.raises(InputError, match=f'{size} training samples .*--train.batch_size {advice} or less'):
        steps_per_epoch(size, 4, ranks)
