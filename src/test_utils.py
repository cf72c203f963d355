"""From pictures to scored keypoints: crops in batches, flip test, decoding, evaluation.

A picture is decoded once for all its boxes, in threads that run ahead of the network; boxes are batched across
pictures; the mirrored copies go through the network in the same batch.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Callable

import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from src.mmpose import pck
from src.mmpose.coco import TopDownDataset
from src.mmpose.evaluation import evaluate, select
from src.mmpose.geometry import PIXEL_STD
from src.mmpose.heatmap import decode, flip_back

Forward = Callable[[np.ndarray], np.ndarray]
Decoder = Callable[[np.ndarray, np.ndarray, np.ndarray, str, int], 'tuple[np.ndarray, np.ndarray]']


@dataclass
class Predictions:
    """What the network says of every record of a data set, in the records' order.

    Attributes:
        keypoints: float32 (M, K, 3) x, y in image pixels, score.
        boxes: float32 (M, 6) centre x, y, scale w, h in 200-pixel units, area in square pixels, score.
        image_ids: (M,).
        bbox_ids: (M,).
    """
    keypoints: np.ndarray
    boxes: np.ndarray
    image_ids: np.ndarray
    bbox_ids: np.ndarray


Scorer = Callable[[Predictions, list[dict[str, Any]]], dict[str, float]]


def forward_of(network: nn.Cell) -> Forward:
    """The network in inference mode as a function of float32 arrays (N, 3, H, W) -> (N, K, H/4, W/4)."""
    network.set_train(False)
    return lambda images: network(Tensor(images)).asnumpy().astype(np.float32, copy=False)


def crops(dataset: TopDownDataset, workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """(record number, pipeline output) of every record, picture by picture, read ahead in threads.

    Raises:
        InputError: a picture can't be read.
    """
    def cut(indices: list[int]) -> list[tuple[int, dict[str, Any]]]:
        image = dataset.compose.load(dict(dataset.records[indices[0]]))['img']
        return [(i, dataset.compose.rest({**dataset.records[i], 'img': image})) for i in indices]

    groups = iter(dataset.groups())
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: deque = deque()
        while True:
            while len(waiting) < 4 * max(1, workers) and (group := next(groups, None)) is not None:
                waiting.append(pool.submit(cut, group))
            if not waiting:
                return
            yield from waiting.popleft().result()


def predict_heatmaps(forward: Forward, images: np.ndarray, batch_size: int, flip_index: np.ndarray | None,
                     shift: bool) -> np.ndarray:
    """Heatmaps of up to `batch_size` pictures; with `flip_index`, the mean with those of the mirrored pictures.

    Args:
        forward: see `forward_of`; it always gets the same number of pictures, as the graph is compiled for it.
        images: float32 (n, 3, H, W), n <= batch_size.
        batch_size: the batch is filled up to it.
        flip_index: (K,) joint that takes each joint's place in the mirror, or None for no flip test.
        shift: move the mirrored heatmaps by one pixel, which aligns them.
    """
    n = len(images)
    copies = 1 if flip_index is None else 2
    batch = np.zeros((copies * batch_size, *images.shape[1:]), np.float32)
    batch[:n] = images
    if flip_index is not None:
        batch[batch_size:batch_size + n] = images[..., ::-1]
    heatmaps = forward(batch)
    if flip_index is None:
        return heatmaps[:n]
    return (heatmaps[:n] + flip_back(heatmaps[batch_size:batch_size + n], flip_index, shift)) * 0.5


def estimate(forward: Forward, samples: Iterable[tuple[int, dict[str, Any]]], settings: dict[str, Any],
             flip_index: np.ndarray | None,
             decoder: Decoder = decode) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Keypoints of crops, in batches.

    Args:
        forward: see `forward_of`.
        samples: (row, pipeline output with `img` and, in `img_metas`, `center`, `scale` and `bbox_score`).
        settings: the `eval` section of a configuration.
        flip_index: see `predict_heatmaps`.
        decoder: `decode`, or what takes its place.

    Yields:
        rows, keypoints float32 (n, K, 3) and boxes float32 (n, 6) as in `Predictions`, n <= `batch_size`.
    """
    samples = iter(samples)
    while batch := list(islice(samples, settings['batch_size'])):
        heatmaps = predict_heatmaps(forward, np.stack([crop['img'] for _, crop in batch]), settings['batch_size'],
                                    flip_index, settings['shift_heatmap'])
        center = np.stack([crop['img_metas']['center'] for _, crop in batch])
        scale = np.stack([crop['img_metas']['scale'] for _, crop in batch])
        xy, score = decoder(heatmaps, center, scale, settings['decoding'], settings['blur_kernel'])
        box_score = [[crop['img_metas']['bbox_score']] for _, crop in batch]
        boxes = np.concatenate([center, scale, np.prod(scale * PIXEL_STD, 1, keepdims=True), box_score], 1)
        yield [row for row, _ in batch], np.concatenate([xy, score], 2), boxes.astype(np.float32)


def predict(forward: Forward, dataset: TopDownDataset, settings: dict[str, Any], workers: int) -> Predictions:
    """Runs the network on all records of a data set.

    Args:
        forward: see `forward_of`.
        dataset: with `center`, `scale` and `img` in its pipeline's output.
        settings: the `eval` section of a configuration.
        workers: threads that read pictures.

    Raises:
        InputError: a picture can't be read.
    """
    count = len(dataset)
    keypoints = np.zeros((count, dataset.info.num_joints, 3), np.float32)
    boxes = np.zeros((count, 6), np.float32)
    flip_index = dataset.info.flip_index if settings['flip_test'] else None
    with tqdm(total=count, unit='box', disable=None) as bar:
        for rows, found, windows in estimate(forward, crops(dataset, workers), settings, flip_index):
            keypoints[rows], boxes[rows] = found, windows
            bar.update(len(rows))
    return Predictions(keypoints, boxes, np.array([r['image_id'] for r in dataset.records]),
                       np.array([r['bbox_id'] for r in dataset.records]))


def select_persons(predictions: Predictions, dataset: TopDownDataset, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Rescoring and OKS NMS by the `eval` section of a configuration: results in COCO's format."""
    return select(predictions.keypoints, predictions.boxes, predictions.image_ids, predictions.bbox_ids,
                  sigmas=np.array(dataset.info.sigmas), visibility_threshold=settings['visibility_threshold'],
                  oks_threshold=settings['oks_threshold'], nms=settings['nms'], category_id=dataset.categories[0])


def scorer(dataset: TopDownDataset, data_root: Path, config: dict[str, Any]) -> Scorer:
    """How the persons of a validation set are scored: (predictions, `select_persons` of them) -> figures.

    COCO: the ten figures of the results. MPII: PCKh of all predictions; its truth is read here, so that a missing file
    is told of before the network runs.

    Args:
        dataset: the validation set.
        data_root: where it stands.
        config: the model configuration.

    Raises:
        InputError: MPII's truth is missing or does not fit the annotations.
    """
    data, backend = config['data'], config['eval']['backend']
    if data['type'] == 'mpii':
        truth = pck.load_ground_truth(data_root / data['val_truth'], len(dataset))
        return lambda predictions, results: pck.evaluate(predictions.keypoints, predictions.bbox_ids, truth)
    return lambda predictions, results: evaluate(
        results, data_root / data['val_annotations'], sigmas=np.array(dataset.info.sigmas),
        backend=None if backend == 'auto' else backend)
