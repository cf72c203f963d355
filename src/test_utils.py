"""From images to scored keypoints: crops in batches, flip test, decoding, selection of persons.

An image is decoded once for all its boxes, in threads that run ahead of the network; boxes are batched across images;
the mirrored copies go through the network in the same batch.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Callable

import cv2
import numpy as np
from mindspore import Tensor, nn

from src.common.errors import InputError
from src.common.look_ahead import look_ahead
from src.common.progress_bar import ProgressBar
from src.mmpose.coco import TopDownDataset
from src.mmpose.evaluation import Predictions, select
from src.mmpose.geometry import PIXEL_STD
from src.mmpose.heatmap import decode, flip_back

NOT_FINITE = 'the network gives numbers that are not finite; is its checkpoint sound?'
Forward = Callable[[np.ndarray], np.ndarray]  # images float32 (N, 3, H, W) to heatmaps (N, K, H/4, W/4)
# Heatmaps, centres, scales, method and blur kernel to x, y (n, K, 2) and scores (n, K, 1).
Decoder = Callable[[np.ndarray, np.ndarray, np.ndarray, str, int], 'tuple[np.ndarray, np.ndarray]']


def forward_of(network: nn.Cell) -> Forward:
    """Return the network in inference mode as a function of arrays."""
    network.set_train(False)
    return lambda images: network(Tensor.from_numpy(images)).asnumpy().astype(np.float32, copy=False)


def crops(dataset: TopDownDataset, workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (record number, pipeline output) of every record, image by image, read ahead in threads.

    Raises:
        InputError: an image can't be read.
    """
    def crops_of_image(indices: list[int]) -> list[tuple[int, dict[str, Any]]]:
        image = dataset.load(indices[0])['img']
        return [(i, dataset.compose.rest(dataset.load(i, image))) for i in indices]

    with ThreadPoolExecutor(max(1, workers)) as pool:
        images = (pool.submit(crops_of_image, group) for group in dataset.groups())
        for image in look_ahead(images, 4 * max(1, workers)):
            yield from image.result()


def predict_heatmaps(forward: Forward, images: Sequence[np.ndarray], batch_size: int, flip_index: np.ndarray | None,
                     shift: bool) -> np.ndarray:
    """Return the heatmaps of up to `batch_size` images; with `flip_index`, the mean with those of the mirrored images.

    Args:
        forward: compiled for one N, which it always gets.
        images: float32 (3, H, W), `batch_size` at most.
        batch_size: the batch is filled up to it.
        flip_index: (K,) keypoint that takes each keypoint's place in the mirror, or None for no flip test.
        shift: move the mirrored heatmaps by one pixel, which aligns them.
    """
    n = len(images)
    copies = 1 if flip_index is None else 2
    batch = np.empty((copies, batch_size, *images[0].shape), np.float32)
    np.stack(images, out=batch[0, :n])
    if flip_index is not None:
        width = batch.shape[-1]
        cv2.flip(batch[0, :n].reshape(-1, width), 1, batch[1, :n].reshape(-1, width))
    batch[:, n:] = 0
    heatmaps = forward(batch.reshape(-1, *images[0].shape))
    if flip_index is None:
        return heatmaps[:n]
    return (heatmaps[:n] + flip_back(heatmaps[batch_size:batch_size + n], flip_index, shift)) * 0.5


def estimate(forward: Forward, samples: Iterable[tuple[int, dict[str, Any]]], settings: dict[str, Any],
             flip_index: np.ndarray | None,
             decoder: Decoder = decode) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Yield the keypoints of crops, in batches.

    Args:
        samples: (row, pipeline output with `img` and, in `img_metas`, `center`, `scale` and `bbox_score`).
        settings: the `eval` section of a configuration.

    Yields:
        rows, keypoints float32 (n, K, 3) and boxes float32 (n, 6) as in `Predictions`, n <= `batch_size`.
    """
    samples = iter(samples)
    while batch := list(islice(samples, settings['batch_size'])):
        heatmaps = predict_heatmaps(forward, [crop['img'] for _, crop in batch], settings['batch_size'], flip_index,
                                    settings['shift_heatmap'])
        center = np.stack([crop['img_metas']['center'] for _, crop in batch])
        scale = np.stack([crop['img_metas']['scale'] for _, crop in batch])
        xy, score = decoder(heatmaps, center, scale, settings['decoding'], settings['blur_kernel'])
        box_score = [[crop['img_metas']['bbox_score']] for _, crop in batch]
        boxes = np.concatenate([center, scale, np.prod(scale * PIXEL_STD, 1, keepdims=True), box_score], 1)
        yield [row for row, _ in batch], np.concatenate([xy, score], 2), boxes.astype(np.float32)


def predict(forward: Forward, dataset: TopDownDataset, settings: dict[str, Any], workers: int) -> Predictions:
    """Run the network on all records of a data set and return what it says of them.

    Args:
        dataset: with `center`, `scale` and `img` in its pipeline's output.
        settings: the `eval` section of a configuration.

    Raises:
        InputError: an image can't be read, or what the network gives is not finite.
    """
    count, flip_index = len(dataset), dataset.flip_index(settings)
    keypoints = np.zeros((count, dataset.info.num_joints, 3), np.float32)
    boxes = np.zeros((count, 6), np.float32)
    with ProgressBar(count, 'box') as bar:
        for rows, batch_keypoints, batch_boxes in estimate(forward, crops(dataset, workers), settings, flip_index):
            if not np.isfinite(batch_keypoints).all():
                raise InputError(f'{dataset.records[rows[0]]["image_file"]} and those after it: {NOT_FINITE}')
            keypoints[rows], boxes[rows] = batch_keypoints, batch_boxes
            bar.update(len(rows))
    return Predictions(keypoints, boxes, [r['image_id'] for r in dataset.records],
                       [r['category_id'] for r in dataset.records],
                       np.array([r['bbox_id'] for r in dataset.records]))


def select_persons(predictions: Predictions, dataset: TopDownDataset, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return COCO results: the predictions after rescoring and OKS NMS by the `eval` section of a configuration."""
    return select(predictions, sigmas=np.array(dataset.info.sigmas),
                  visibility_threshold=settings['visibility_threshold'], oks_threshold=settings['oks_threshold'],
                  nms=settings['nms'])
