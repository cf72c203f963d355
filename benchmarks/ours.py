"""Our side of a comparison: every builder prepares what train.py, eval.py and export.py run."""
from __future__ import annotations

import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any, Callable

import cv2
import mindspore as ms
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.direct_port import direct_port
from benchmarks.worker import serve
from src.config import resolve
from src.cpu.cells import accelerate
from src.cpu.update import accelerate_update
from src.deployment.export import export_network
from src.deployment.fold import fold_batch_norm
from src.loss import JointsMSELoss, NetWithLoss
from src.mmpose.geometry import affine_matrix
from src.mmpose.heatmap import decode, flip_back
from src.mmpose.loader import train_loader
from src.mmpose.transforms import Collect, TopDownAffine
from src.settings.build import build_dataset, build_network
from src.test_utils import forward_of, predict
from src.training.compile_cache import compile_step
from src.training.train_step import TrainStep
from src.utils import make_optimizer, set_device


def settings(model_config: str, **overrides: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (experiment, configuration) by the paper's recipe on the CPU; `overrides` are keys of the experiment."""
    overrides = {'device': 'CPU', 'recipe': 'paper', 'random_seed': 0, 'model_config': model_config, **overrides}
    return resolve({key: str(value) for key, value in overrides.items()}, {})


def network_of(model_config: str, *, folded: bool = False, fast: bool = True,
               port: bool = False) -> tuple[ms.nn.Cell, dict, dict]:
    """Return the network as the programs make it, or as a direct port, with (experiment, configuration)."""
    experiment, config = settings(model_config)
    set_device('CPU', 0, cpu_threads=experiment['cpu_threads'])
    network = (direct_port if port else build_network)(config)
    network.set_train(False)
    set_weights(network)
    if folded:
        fold_batch_norm(network)
    if fast and experiment['cpu_kernels']:
        accelerate(network)
    return network, experiment, config


def set_weights(network: ms.nn.Cell) -> None:
    """Set weights and shifts of BN under which signals keep about their size, as in a trained network.

    The initial ones make them so small in inference that arithmetic takes many times as long.
    """
    rng = np.random.default_rng(0)
    for parameter in network.get_parameters():
        if parameter.ndim == 4 or parameter.name.endswith('beta'):
            deviation = np.sqrt(0.5 / np.prod(parameter.shape[1:])) if parameter.ndim == 4 else 0.1
            parameter.set_data(ms.Tensor((deviation * rng.standard_normal(parameter.shape)).astype(np.float32)))


def noise(config: dict[str, Any], batch: int) -> np.ndarray:
    """Return noise in place of images, float32 (batch, 3, H, W)."""
    width, height = config['data']['image_size']
    return np.random.default_rng(0).standard_normal((batch, 3, height, width), np.float32)


def train(model_config: str, batch: int, port: bool = False, cache: str | None = None) -> Callable[[], float]:
    """Return one training step, with the loss read as the log reads it; or that of the direct port."""
    network, *_ = network_of(model_config, fast=not port, port=port)
    return training_step(network, model_config, batch, cache and Path(cache), fast=not port)


def training_step(network: ms.nn.Cell, model_config: str, batch: int, cache: Path | None = None,
                  fast: bool = False) -> Callable[[], float]:
    """Return a training step of `network` on noise; compiled into or read from the folder `cache`."""
    experiment, config = settings(model_config)
    width, height = config['data']['heatmap_size']
    joints = config['model']['num_joints']
    optimizer = make_optimizer(config['train']['optimizer'], network,
                               np.full(10000, experiment['learning_rate'], np.float32), experiment['weight_decay'])
    step = TrainStep(NetWithLoss(network, JointsMSELoss()), optimizer)
    if fast:
        accelerate_update(step, experiment['weight_decay'])
    step.set_train()
    inputs = [ms.Tensor(a.astype(np.float32)) for a in (
        noise(config, batch), np.random.default_rng(1).random((batch, joints, height, width)),
        np.ones((batch, joints, 1)))]
    if cache:
        compile_step(step, [tensor.shape for tensor in inputs], cache)
    return lambda: float(step(*inputs)[0].asnumpy())


def forward(model_config: str, batch: int, folded: bool) -> Callable[[], None]:
    """Return the inference of `batch` images."""
    network, _, config = network_of(model_config, folded=folded)
    run, images = forward_of(network), noise(config, batch)
    return lambda: run(images) is None


def export(model_config: str, batch: int, file: str) -> Callable[[], float]:
    """Return the export of the ONNX file that export.py writes."""
    network, _, config = network_of(model_config, folded=True, fast=False)
    return lambda: export_network(network, Path(file), 'ONNX', config, model_config, batch_size=batch)['heatmaps']


def samples(model_config: str, data_root: str, count: int, repetitions: int) -> Callable[[], dict[str, Any]]:
    """Return a measurement of training samples, and of cv2.imread + cv2.warpAffine of the same windows: CPU seconds.

    The two take turns, image by image.
    """
    experiment, config = settings(model_config, data_root=data_root)
    dataset = build_dataset(experiment, config, 'train')
    size = config['data']['image_size']
    steps = [step for step in dataset.compose.steps if isinstance(step, (TopDownAffine, Collect))]
    head = dataset.compose.steps[:dataset.compose.steps.index(steps[0])]
    cv2.setNumThreads(1)

    def window(index: int, epoch: int) -> np.ndarray:
        results = {**dataset.records[index], 'rng': np.random.Generator(
            np.random.Philox(key=0, counter=[0, index, epoch, 0]))}
        for step in head:
            results = step(results)
        return affine_matrix(results['center'], results['scale'], results['rotation'], size)

    jobs = [(number % len(dataset), number // len(dataset)) for number in range(count)]
    windows = [window(*job) for job in jobs]

    def run() -> dict[str, Any]:
        clock, times = time.thread_time, np.empty((repetitions, 2, count))
        for repetition in range(repetitions):
            for number, (index, epoch) in enumerate(jobs):
                start = clock()
                cv2.warpAffine(cv2.imread(dataset.records[index]['image_file']), windows[number], size,
                               flags=cv2.INTER_LINEAR)
                middle = clock()
                dataset.sample(index, epoch)
                times[repetition, :, number] = middle - start, clock() - middle
        return {'peer': times[:, 0].tolist(), 'ours': times[:, 1].tolist()}

    return run


def loader(model_config: str, data_root: str, workers: int, batch: int, count: int) -> Callable[[], float]:
    """Return a measurement of samples per second through worker processes, after `count` that fill the queues."""
    experiment, config = settings(model_config, data_root=data_root)
    batches = train_loader(build_dataset(experiment, config, 'train'), batch, seed=0, workers=workers)
    iterator = batches.create_tuple_iterator(num_epochs=-1)

    def take() -> None:
        samples = 0
        while samples < count:  # the end of an epoch ends the loop, not the iterator
            samples += batch * sum(1 for _ in islice(iterator, -(-(count - samples) // batch)))

    def run() -> float:
        take()
        start = time.perf_counter()
        take()
        return count / (time.perf_counter() - start)

    return run


def evaluation(model_config: str, data_root: str) -> Callable[[], int]:
    """Return the prediction of eval.py with flip test, for detected boxes, or annotated ones where there are none."""
    experiment, config = settings(model_config, data_root=data_root)
    network, *_ = network_of(model_config, folded=True)
    dataset = build_dataset(experiment, config, 'val', boxes_of(experiment, config))
    run = forward_of(network)
    return lambda: len(predict(run, dataset, config['eval'], experiment['workers']).keypoints)


def boxes_of(experiment: dict[str, Any], config: dict[str, Any]) -> str:
    """Return 'det' where the data set has detections, else 'gt'."""
    return 'det' if (Path(experiment['data_root']) / config['data'].get('detections', '-')).is_file() else 'gt'


def one_by_one(model_config: str, data_root: str, count: int) -> Callable[[], int]:
    """Return the model zoo's evaluation: per box the image is read and the direct port runs on it and its mirror."""
    experiment, config = settings(model_config, data_root=data_root)
    network, *_ = network_of(model_config, fast=False, port=True)
    dataset = build_dataset(experiment, config, 'val', boxes_of(experiment, config))
    run, flip_index = forward_of(network), dataset.info.flip_index

    def evaluate() -> int:
        for index in range(min(count, len(dataset))):
            sample = dataset.sample(index)
            image, meta = sample['img'][None], sample['img_metas']
            mirrored = flip_back(run(np.ascontiguousarray(image[..., ::-1])), flip_index, True)
            decode((run(image) + mirrored) / 2, meta['center'][None], meta['scale'][None])
        return min(count, len(dataset))

    return evaluate


if __name__ == '__main__':
    serve(dict(train=train, forward=forward, export=export, samples=samples, loader=loader, evaluation=evaluation,
               one_by_one=one_by_one))
