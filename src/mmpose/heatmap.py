"""Keypoints to heatmaps (training targets) and heatmaps back to keypoints.

Encoding and decoding follow MMPose 0.29 to the pixel. `default` decoding is the quarter-pixel shift of Newell et al.
(ECCV 2016), `dark` is Zhang et al. (CVPR 2020, arXiv 1910.06278), `udp` is Huang et al. (CVPR 2020, arXiv 1911.07524),
`megvii` is that of MSPN and RSN. Heatmaps are (..., K, H, W) in [y, x] order; points are (x, y).
"""
from __future__ import annotations

import functools

import cv2
import numpy as np

from src.mmpose.geometry import PIXEL_STD

METHODS = ('none', 'default', 'dark', 'udp', 'megvii')
# Heatmap pixels, in x and in y, that a Newton step of `dark` and `udp` goes at most. With noise of 0.03 on peaks of 0.1
# to 1 the blurred peak lies up to 3 pixels beside the highest raw pixel; a Hessian near singular makes longer steps.
MAX_STEP = 3.0
MEGVII_PEAK = 255


def encode(keypoints: np.ndarray, visible: np.ndarray, image_size: tuple[int, int], heatmap_size: tuple[int, int],
           sigma: float = 2, udp: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return target heatmaps: a Gaussian of peak 1, cut off at 3 sigma, for every visible keypoint.

    Args:
        keypoints: (K, 2 or 3) in input pixels; only x and y are read.
        visible: (K, 1 or more); the first column is the weight, keypoints at or below 0.5 stay empty.
        image_size: (width, height) of the network's input.
        heatmap_size: (W, H) of the heatmaps.
        sigma: Standard deviation in heatmap pixels.
        udp: False centres the Gaussian on the nearest heatmap pixel and divides sizes (MMPose's `MSRA`); True centres
            it on the exact place and divides sizes less one (MMPose's `UDP`, `GaussianHeatMap`).

    Returns:
        target float32 (K, H, W) and target_weight float32 (K, 1), 0 where the Gaussian lies outside the map.
    """
    if not udp:
        return _paste(keypoints, visible, image_size, heatmap_size, sigma)
    size = np.asarray(heatmap_size, np.int64)
    exact = keypoints[:, :2] / ((np.asarray(image_size) - 1) / (size - 1))
    nearest = np.trunc(exact + 0.5)  # towards zero, also for negative coordinates, as the reference does
    radius = int(3 * sigma)
    outside = ((nearest - radius >= size) | (nearest + radius + 1 < 0)).any(axis=1)
    weight = np.where(outside, 0, visible[:, 0]).astype(np.float32)

    pixels = np.arange(size.max())
    offset = (pixels - exact[:, :, None]).astype(np.float32)
    inside = np.abs(pixels - nearest[:, :, None]) <= radius
    gaussian = np.exp(offset * offset * np.float32(-0.5 / sigma ** 2)) * inside
    gaussian[:, 0] *= (weight > 0.5)[:, None]
    target = np.einsum('ky,kx->kyx', gaussian[:, 1, :size[1]], gaussian[:, 0, :size[0]])
    return target, weight[:, None]


def _paste(keypoints: np.ndarray, visible: np.ndarray, image_size: tuple[int, int], heatmap_size: tuple[int, int],
           sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what `encode` does with Gaussians on whole pixels: they are all the same patch."""
    (width, height), (input_width, input_height) = map(int, heatmap_size), map(int, image_size)
    step_x, step_y = input_width / width, input_height / height
    radius, patch = _patch(sigma)
    size = len(patch)
    target = np.zeros((len(keypoints), height, width), np.float32)
    weight = visible[:, :1].astype(np.float32)
    for k, ((x, y), shown) in enumerate(zip(keypoints[:, :2].tolist(), visible[:, 0].tolist())):
        # Truncated towards zero, also for negative coordinates, as the reference does.
        left, top = int(x / step_x + 0.5) - radius, int(y / step_y + 0.5) - radius
        if left >= width or top >= height or left + size < 0 or top + size < 0:
            weight[k] = 0
        elif shown > 0.5:
            target[k, max(0, top):top + size, max(0, left):left + size] = patch[
                max(0, -top):height - top, max(0, -left):width - left]
    return target, weight


@functools.lru_cache(maxsize=8)
def _patch(sigma: float) -> tuple[int, np.ndarray]:
    """Return the radius at which a Gaussian is cut off, and its pixels, float32 (2 * radius + 1,) * 2."""
    radius = int(3 * sigma)
    line = np.arange(-radius, radius + 1, dtype=np.float32)
    line = np.exp(line * line * np.float32(-0.5 / sigma ** 2))
    return radius, np.outer(line, line)


def encode_unbiased(keypoints: np.ndarray, visible: np.ndarray, image_size: tuple[int, int],
                    heatmap_size: tuple[int, int], sigma: float = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return targets as DARK trains with: Gaussians on the exact place that fill the map (MMPose's unbiased_encoding).

    Args, keypoints that are left out, and result: as for `encode`.
    """
    size = np.asarray(heatmap_size, np.int64)
    exact = keypoints[:, :2] / (np.asarray(image_size) / size)
    outside = ((exact - 3 * sigma >= size) | (exact + 3 * sigma + 1 < 0)).any(axis=1)
    weight = np.where(outside, 0, visible[:, 0]).astype(np.float32)
    offset = np.arange(size.max()) - exact[:, :, None]
    gaussian = np.exp(offset * offset * (-0.5 / sigma ** 2)).astype(np.float32)
    gaussian[:, 0] *= (weight > 0.5)[:, None]
    return np.einsum('ky,kx->kyx', gaussian[:, 1, :size[1]], gaussian[:, 0, :size[0]]), weight[:, None]


def encode_megvii(keypoints: np.ndarray, visible: np.ndarray, image_size: tuple[int, int],
                  heatmap_size: tuple[int, int], kernel: tuple[int, int] = (11, 11)) -> tuple[np.ndarray, np.ndarray]:
    """Return targets as MSPN and RSN train with: one pixel blurred, its peak 255 (MMPose's `Megvii`).

    Args:
        keypoints, visible, image_size, heatmap_size: as for `encode`, but keypoints below 1 stay empty.
        kernel: Odd width and height of the blur, heatmap pixels.

    Returns:
        target float32 (K, H, W) and target_weight float32 (K, 1), 0 where the pixel lies outside the map.
    """
    size = np.asarray(heatmap_size, np.int64)
    place = np.trunc(keypoints[:, :2] * size / np.asarray(image_size)).astype(np.int64)
    shown, inside = visible[:, 0] >= 1, ((place >= 0) & (place < size)).all(axis=1)
    weight = np.where(shown & ~inside, 0, visible[:, 0]).astype(np.float32)
    target = np.zeros((len(keypoints), size[1], size[0]), np.float32)
    columns, rows = (_blur_matrix(int(n), int(k), cv2.BORDER_DEFAULT) for n, k in zip(size, kernel))
    for k in np.flatnonzero(shown & inside):
        x, y = place[k]
        target[k] = np.outer(rows[:, y] * (MEGVII_PEAK / rows[y, y]), columns[:, x] / columns[x, x])
    return target, weight[:, None]


def decode(heatmaps: np.ndarray, center: np.ndarray, scale: np.ndarray, method: str = 'default',
           kernel: int = 11) -> tuple[np.ndarray, np.ndarray]:
    """Return each map's peak, in the image.

    Args:
        heatmaps: float32 (N, K, H, W), left unchanged.
        center: (N, 2) centres of the crops in image pixels.
        scale: (N, 2) sizes of the crops in units of 200 image pixels.
        method: `none` (highest pixel), `default` (shifted a quarter pixel towards the higher neighbour), `dark` or
            `udp` (one Newton step on the logarithm of the blurred map, of `MAX_STEP` at most; `udp` also needs crops
            made with `use_udp`), or `megvii` (blurred, then shifted by half a pixel more than `default`).
        kernel: Odd width of the blur: 11 for sigma 2, 17 for sigma 3.

    Returns:
        keypoints float32 (N, K, 2) in image pixels and scores float32 (N, K, 1), the maxima of the raw maps (`megvii`:
        their 255th part and 0.5). A map without a positive value has its peak at heatmap point (-1, -1).
    """
    count, channels, height, width = heatmaps.shape
    maps = heatmaps.reshape(count * channels, height, width)
    if method == 'megvii':
        maps = _blur_keeping_peak(maps, kernel)
    flat = maps.reshape(len(maps), -1)
    peak = flat.argmax(axis=1)  # the first of equals, in row-major order
    scores = flat[np.arange(len(flat)), peak]
    y, x = np.divmod(peak, width)
    points = np.stack((x, y), axis=1).astype(np.float64)
    refine = {'none': None, 'default': _quarter_shift, 'dark': _dark_shift, 'udp': _udp_shift,
              'megvii': _megvii_shift}[method]
    if refine is not None:
        points += refine(maps, x, y, kernel)
    points[~(scores > 0)] = -1
    if method == 'megvii':
        scores = scores / MEGVII_PEAK + 0.5

    size = np.array([width, height]) - (method == 'udp')
    keypoints = to_image(points.reshape(count, channels, 2), size, center, scale)
    return keypoints, scores.reshape(count, channels, 1).astype(np.float32)


def to_image(points: np.ndarray, size: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return points of crops (or of their heatmaps) in the image.

    Args:
        points: (N, K, 2).
        size: (width, height) of the crops in the points' unit.
        center: (N, 2) centres of the crops in image pixels.
        scale: (N, 2) sizes of the crops in units of 200 image pixels.

    Returns:
        float32 (N, K, 2) in image pixels.
    """
    extent = scale[:, None] * PIXEL_STD
    return (points / size * extent + center[:, None] - extent / 2).astype(np.float32)


def flip_back(flipped: np.ndarray, flip_index: np.ndarray, shift: bool) -> np.ndarray:
    """Return the heatmaps of the images, given those of their mirror images.

    Args:
        flipped: (N, K, H, W) heatmaps of the mirrored images.
        flip_index: int (K,) permutation that exchanges left and right keypoints.
        shift: Move the result one column to the right, column 0 staying: mirroring a crop whose size is divided (not
            its size less one) misaligns it by that much.

    Returns:
        A new array (N, K, H, W).
    """
    restored = flipped[:, flip_index, :, ::-1]
    if shift:
        return np.concatenate((restored[..., :1], restored[..., :-1]), axis=-1)
    return np.ascontiguousarray(restored)


def _quarter_shift(maps: np.ndarray, x: np.ndarray, y: np.ndarray, kernel: int) -> np.ndarray:
    """Return a quarter pixel towards the higher neighbour, per axis; none near the border."""
    shift = np.zeros((len(maps), 2))
    inner = np.flatnonzero(_has_neighbours(maps, x, y))
    x, y = x[inner], y[inner]
    shift[inner, 0] = maps[inner, y, x + 1] - maps[inner, y, x - 1]
    shift[inner, 1] = maps[inner, y + 1, x] - maps[inner, y - 1, x]
    return np.sign(shift) / 4


def _has_neighbours(maps: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height, width = maps.shape[1:]
    return (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)


def _megvii_shift(maps: np.ndarray, x: np.ndarray, y: np.ndarray, kernel: int) -> np.ndarray:
    """Return `_quarter_shift`, and the half pixel that the encoding cuts off."""
    return _quarter_shift(maps, x, y, kernel) + 0.5 * _has_neighbours(maps, x, y)[:, None]


def _dark_shift(maps: np.ndarray, x: np.ndarray, y: np.ndarray, kernel: int) -> np.ndarray:
    """Return a Newton step with derivatives taken over two pixels; none near the border."""
    height, width = maps.shape[1:]
    shift = np.zeros((len(maps), 2))
    inner = np.flatnonzero((x > 1) & (x < width - 2) & (y > 1) & (y < height - 2))
    near = _neighbours(_blur_keeping_peak(maps[inner], kernel), x[inner], y[inner], 2)
    near = np.log(np.maximum(near, 1e-10)).astype(np.float64)
    gradient, hessian = _differences(near[:, 1:4, 1:4])
    hessian[:, 0, 0] = (near[:, 2, 4] - 2 * near[:, 2, 2] + near[:, 2, 0]) / 4
    hessian[:, 1, 1] = (near[:, 4, 2] - 2 * near[:, 2, 2] + near[:, 0, 2]) / 4
    hessian[:, 0, 1] = hessian[:, 1, 0] = (near[:, 3, 3] - near[:, 1, 3] - near[:, 3, 1] + near[:, 1, 1]) / 4
    shift[inner] = _newton_step(gradient, hessian)
    return shift


def _udp_shift(maps: np.ndarray, x: np.ndarray, y: np.ndarray, kernel: int) -> np.ndarray:
    """Return a Newton step with derivatives taken over one pixel, everywhere."""
    blurred = np.clip(_blur(maps, kernel, cv2.BORDER_DEFAULT), 0.001, 50)
    gradient, hessian = _differences(np.log(_neighbours(blurred, x, y, 1)).astype(np.float64))
    hessian += np.finfo(np.float32).eps * np.eye(2)
    return _newton_step(gradient, hessian)


def _newton_step(gradient: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Return the steps (M, 2) to the extrema of paraboloids, at most `MAX_STEP` in x and in y; none where singular."""
    step, regular = np.zeros(gradient.shape), np.linalg.det(hessian) != 0
    step[regular] = -np.linalg.solve(hessian[regular], gradient[regular, :, None])[..., 0]
    return np.clip(step, -MAX_STEP, MAX_STEP)


def _differences(near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient (M, 2) and Hessian (M, 2, 2) at the middle of 3x3 neighbourhoods (M, 3, 3)."""
    (_, up, _), (left, middle, right), (_, down, _) = near.transpose(1, 2, 0)
    gradient = np.stack((right - left, down - up), axis=-1) / 2
    cross = (near[:, 2, 2] - right - down + 2 * middle - left - up + near[:, 0, 0]) / 2
    hessian = np.stack((right - 2 * middle + left, cross, cross, down - 2 * middle + up), axis=-1)
    return gradient, hessian.reshape(-1, 2, 2)


def _neighbours(maps: np.ndarray, x: np.ndarray, y: np.ndarray, reach: int) -> np.ndarray:
    """Return the (M, 2*reach+1, 2*reach+1) pixels around one point of each map; the border pixels repeat outside."""
    steps = np.arange(-reach, reach + 1)
    rows = np.clip(y[:, None] + steps, 0, maps.shape[1] - 1)
    columns = np.clip(x[:, None] + steps, 0, maps.shape[2] - 1)
    return maps[np.arange(len(maps))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _blur_keeping_peak(maps: np.ndarray, kernel: int) -> np.ndarray:
    """Return maps (M, H, W) blurred, with zeros around, and scaled so that each has the maximum it had."""
    blurred = _blur(maps, kernel, cv2.BORDER_CONSTANT)
    highest = blurred.max(axis=(1, 2))
    factor = np.divide(maps.max(axis=(1, 2)), highest, out=np.ones_like(highest), where=highest != 0)
    return blurred * factor[:, None, None]


def _blur(maps: np.ndarray, kernel: int, border: int) -> np.ndarray:
    """Return cv2.GaussianBlur with its automatic sigma of all (M, H, W) maps: a separable blur is two products."""
    rows, columns = (_blur_matrix(size, kernel, border) for size in maps.shape[1:])
    return np.matmul(rows, np.matmul(maps, columns.T))


@functools.lru_cache(maxsize=16)
def _blur_matrix(size: int, kernel: int, border: int) -> np.ndarray:
    """Return the blur of each unit vector, float32 (size, size)."""
    padded = np.pad(np.eye(size, dtype=np.float64), ((kernel // 2,) * 2, (0, 0)),
                    'constant' if border == cv2.BORDER_CONSTANT else 'reflect')
    weights = cv2.getGaussianKernel(kernel, 0)[:, 0]
    return sum(weight * padded[i:i + size] for i, weight in enumerate(weights)).astype(np.float32)
