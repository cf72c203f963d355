"""One rank of a small data-parallel training; started by test_distributed.py, leaves its parameters in a file.

    python distributed_worker.py FOLDER plain|bn STEPS BATCH_SIZE [CPU|GPU]
"""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mindspore import nn

from src.callback import Progress
from src.loss import JointsMSELoss, NetWithLoss
from src.mmpose.loader import train_loader
from src.training.loop import fit
from src.training.train_step import TrainStep
from src.utils import make_optimizer, set_device
from tests.networks import randomise, values


class Net(nn.Cell):
    """Two convolutions, with or without BN between them."""

    def __init__(self, bn: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 4, pad_mode='pad', padding=1)
        self.bn = nn.BatchNorm2d(4) if bn else nn.ReLU()
        self.last = nn.Conv2d(4, 2, 1, has_bias=True)

    def construct(self, x):
        return self.last(self.bn(self.first(x)))


class Samples:
    """Sixteen samples, each from its number and the epoch."""

    def __init__(self) -> None:
        self.shapes = {'img': (3, 16, 16), 'target': (2, 4, 4), 'target_weight': (2, 1)}

    def __len__(self) -> int:
        return 16

    def sample(self, index: int, epoch: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([index, epoch])
        return {'img': rng.standard_normal((3, 16, 16), np.float32), 'target': rng.random((2, 4, 4), np.float32),
                'target_weight': (rng.random((2, 1)) > 0.2).astype(np.float32)}


def main(folder: str, kind: str, steps: str, batch_size: str, *distributed: str) -> None:
    rank, ranks = set_device(*distributed or ('CPU',), 0, bool(distributed))
    network = Net(kind == 'bn')
    randomise(network)
    before = values(network)
    optimizer = make_optimizer('SGD', network, np.full(int(steps), 0.1, np.float32), 0.01)
    step = TrainStep(NetWithLoss(network, JointsMSELoss()), optimizer, 2.0 ** 16, ranks)
    loader = train_loader(Samples(), int(batch_size), seed=0, workers=0, rank=rank, ranks=ranks)
    fit(step, Progress(loader.get_dataset_size(), int(steps)), loader, [])
    np.savez(Path(folder) / f'rank{rank}_of_{ranks}.npz', **values(network))
    np.savez(Path(folder) / 'before.npz', **before)


if __name__ == '__main__':
    main(*sys.argv[1:])
