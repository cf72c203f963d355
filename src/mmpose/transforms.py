"""The steps from a record to a training sample: MMPose 0.29's top-down pipeline, names and arguments as there.

A pipeline is a list of dicts, `dict(type='TopDownAffine', use_udp=False)`; `src.mmpose.pipeline.Compose` builds and
runs it. Each step changes the dict it is given, but no array in it (records are shared between samples), and draws its
random numbers from `results['rng']`, so a sample depends on its seed alone and not on the worker that made it.

Images are uint8 (H, W, 3), BGR as OpenCV reads them until TopDownAffine makes the RGB crop (BGR for LoadImageFromFile's
`channel_order='bgr'`): swapping channels of the small crop costs a tenth of swapping those of the image.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from src.common.errors import InputError
from src.mmpose.geometry import (
    PIXEL_STD,
    affine_matrix,
    box_to_center_scale,
    grow_to_aspect,
    transform_points,
    udp_matrix,
    warp,
)
from src.mmpose.heatmap import encode, encode_megvii, encode_unbiased
from src.mmpose.image import read_image, to_planes
from src.mmpose.photometric import PhotometricDistortion

Results = dict[str, Any]
HALF_BODY_PADDING = 1.5
EVALUATION_KEYS = {'center', 'scale', 'bbox_score'}
ENCODINGS = ('MSRA', 'UDP', 'Megvii')


def half_body_box(keypoints: np.ndarray, upper_body: Sequence[int], image_size: Sequence[int], want_upper: bool,
                  visible: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return centre and scale of a window around the visible keypoints of the upper or the lower body.

    The wanted half is taken if it shows more than two keypoints, else the other one.

    Args:
        keypoints: float32 (K, 2) pixels.
        upper_body: Numbers of the upper keypoints; all others are lower.
        image_size: (width, height) of the network's input.
        want_upper: Which half to try first; with False the upper half is only taken where the lower one is too poor.
        visible: (K,), positive where the keypoint is labelled.

    Returns:
        centre (2,) and scale (2,) float32, or None where fewer than two keypoints or no extent would be left.
    """
    points, upper, lower = keypoints.tolist(), [], []  # lists: numpy calls cost more than seventeen points
    for number in np.flatnonzero(visible > 0).tolist():
        (upper if number in upper_body else lower).append(points[number])
    chosen = upper if (want_upper and len(upper) > 2) or len(lower) <= 2 else lower
    if len(chosen) < 2:
        return None
    xs, ys = zip(*chosen)
    w, h = max(xs) - min(xs), max(ys) - min(ys)
    if w <= 0 and h <= 0:
        return None
    center = np.array((sum(xs) / len(xs), sum(ys) / len(ys)), np.float32)
    scale = np.array(grow_to_aspect(w, h, image_size[0] / image_size[1]), np.float32) / PIXEL_STD
    return center, scale * HALF_BODY_PADDING


@dataclass
class LoadImageFromFile:
    """Read `image_file` into `img`, BGR uint8 (or float32).

    `channel_order` is that of TopDownAffine's crop.
    """
    to_float32: bool = False
    color_type: str = 'color'
    channel_order: str = 'rgb'
    file_client_args: dict = field(default_factory=lambda: {'backend': 'disk'})

    def __post_init__(self) -> None:
        flags = {'color': cv2.IMREAD_COLOR,
                 'color_ignore_orientation': cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION}
        if self.color_type not in flags:
            raise InputError(f'LoadImageFromFile: color_type {self.color_type!r} is unknown; use one of {list(flags)}')
        if self.channel_order not in ('rgb', 'bgr'):
            raise InputError(f'LoadImageFromFile: channel_order {self.channel_order!r} is unknown; use rgb or bgr')
        if self.file_client_args != {'backend': 'disk'}:
            raise InputError(f"LoadImageFromFile: file_client_args {self.file_client_args}: only {{'backend': 'disk'}} "
                             'is taken; put the images on a disk and leave this argument out')
        self._flags = flags[self.color_type]

    def __call__(self, results: Results) -> Results:
        image = read_image(results['image_file'], self._flags)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        return results


@dataclass
class TopDownGetBboxCenterScale:
    """Make `center` and `scale` from `bbox`; where the data set gives both (MPII) only pad the scale."""
    padding: float = 1.25

    def __call__(self, results: Results) -> Results:
        if 'center' in results and 'scale' in results:
            results['scale'] = results['scale'] * self.padding
        else:
            results['center'], results['scale'] = box_to_center_scale(
                results['bbox'], results['ann_info']['image_size'], self.padding)
        return results


@dataclass
class TopDownRandomShiftBboxCenter:
    """Shift the centre by up to `shift_factor` of the window."""
    shift_factor: float = 0.16
    prob: float = 0.3

    def __call__(self, results: Results) -> Results:
        rng = results['rng']
        if rng.random() < self.prob:
            shift = rng.uniform(-1, 1, 2) * self.shift_factor * results['scale'] * PIXEL_STD
            results['center'] = (results['center'] + shift).astype(np.float32)
        return results


@dataclass
class TopDownRandomTranslation:
    """Shift the centre by up to `trans_factor` of the window: an older name of TopDownRandomShiftBboxCenter."""
    trans_factor: float = 0.15
    trans_prob: float = 1.0

    def __post_init__(self) -> None:
        self._shift = TopDownRandomShiftBboxCenter(self.trans_factor, self.trans_prob)

    def __call__(self, results: Results) -> Results:
        return self._shift(results)


@dataclass
class TopDownRandomFlip:
    """Mirror image, keypoints and centre and exchange left and right; unlabelled keypoints become zero.

    Does nothing where the data set does not know which keypoints are each other's mirror image.
    """
    flip_prob: float = 0.5

    def __call__(self, results: Results) -> Results:
        index = results['ann_info']['flip_index']
        if results['rng'].random() >= self.flip_prob or index is None:
            return results
        results['img'] = image = cv2.flip(results['img'], 1)
        last = image.shape[1] - 1
        visible, joints = results['joints_3d_visible'][index], results['joints_3d'][index]
        joints[:, 0] = last - joints[:, 0]
        joints *= visible > 0
        center = results['center'].copy()
        center[0] = last - center[0]
        results.update(joints_3d=joints, joints_3d_visible=visible, center=center)
        return results


@dataclass
class TopDownHalfBodyTransform:
    """Zoom in on the upper or lower half of a person whose visibilities sum to more than `num_joints_half_body`.

    Does nothing where the data set names no upper body.
    """
    num_joints_half_body: int = 8
    prob_half_body: float = 0.3

    def __call__(self, results: Results) -> Results:
        rng, info, visible = results['rng'], results['ann_info'], results['joints_3d_visible'][:, 0]
        if not info['upper_body_ids']:
            return results
        if visible.sum() > self.num_joints_half_body and rng.random() < self.prob_half_body:
            # The reference's coin is a normal deviate: the upper body is tried first in 69 % of the cases.
            window = half_body_box(results['joints_3d'][:, :2], info['upper_body_ids'], info['image_size'],
                                   rng.standard_normal() < 0.5, visible)
            if window:
                results['center'], results['scale'] = window
        return results


@dataclass
class TopDownGetRandomScaleRotation:
    """Draw a zoom from normal(1, scale_factor) and, with `rot_prob`, an angle from normal(0, rot_factor) degrees.

    Zooms are cut at one, angles at two standard deviations.
    """
    rot_factor: float = 40
    scale_factor: float = 0.5
    rot_prob: float = 0.6

    def __call__(self, results: Results) -> Results:
        rng, zoom, turn = results['rng'], self.scale_factor, 2 * self.rot_factor
        results['scale'] = results['scale'] * min(max(rng.standard_normal() * zoom + 1, 1 - zoom), 1 + zoom)
        angle = min(max(rng.standard_normal() * self.rot_factor, -turn), turn)
        results['rotation'] = angle if rng.random() < self.rot_prob else 0.0
        return results


@dataclass
class TopDownAffine:
    """Cut the RGB crop `img` (height, width, 3) out of the image and map the labelled keypoints into it."""
    use_udp: bool = False

    def __post_init__(self) -> None:
        self.reverse = True

    def __call__(self, results: Results) -> Results:
        width, height = size = results['ann_info']['image_size'].tolist()
        matrix = (udp_matrix if self.use_udp else affine_matrix)(
            results['center'], results['scale'], results['rotation'], size)
        crop = warp(results['img'], matrix, (width, height))
        results['img'] = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB) if self.reverse else crop
        joints, shown = results['joints_3d'].copy(), results['joints_3d_visible'][:, :1] > 0
        np.copyto(joints[:, :2], transform_points(joints[:, :2], matrix), 'same_kind', where=shown | self.use_udp)
        results['joints_3d'] = joints
        return results


@dataclass
class ToTensor:
    """Turn `img` (H, W, 3) of 0..255 into float32 (3, H, W) of 0..1, in memory whatever the `device`."""
    device: str = 'cpu'

    def __call__(self, results: Results) -> Results:
        results['img'] = to_planes(results['img'], np.float32(1 / 255), np.float32(0))
        return results


@dataclass
class NormalizeTensor:
    """Subtract `mean` from each plane of `img` and divide by `std`, both for values of 0..1.

    Straight after ToTensor, `Compose` lets it do both in one pass over the crop.
    """
    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        mean, std = (np.array(value, np.float64).reshape(3, 1, 1) for value in (self.mean, self.std))
        if not (std > 0).all():
            raise InputError(f'NormalizeTensor: std {self.std} is to divide by; give positive numbers')
        self._factor, self._offset = (1 / std).astype(np.float32), (-mean / std).astype(np.float32)
        self._byte_factor = (1 / std / 255).astype(np.float32)
        self.from_bytes = False

    def __call__(self, results: Results) -> Results:
        if self.from_bytes:
            results['img'] = to_planes(results['img'], self._byte_factor, self._offset)
        else:
            results['img'] = results['img'] * self._factor + self._offset
        return results


@dataclass
class TopDownGenerateTarget:
    """Make the heatmaps `target` (K, H, W) and their `target_weight` (K, 1), float32.

    As in MMPose, `unbiased_encoding` counts for MSRA alone, `target_type` for UDP, `kernel` in place of `sigma`
    for Megvii.
    """
    sigma: float = 2
    kernel: Sequence[int] = (11, 11)
    valid_radius_factor: float = 0.0546875
    target_type: str = 'GaussianHeatmap'
    encoding: str = 'MSRA'
    unbiased_encoding: bool = False

    def __post_init__(self) -> None:
        target_type = f'TopDownGenerateTarget: target_type {self.target_type!r}'
        if self.encoding not in ENCODINGS:
            raise InputError(f'TopDownGenerateTarget: encoding {self.encoding!r} is unknown; use '
                             f'{", ".join(ENCODINGS)}')
        if self.target_type.lower() not in ('gaussianheatmap', 'combinedtarget'):
            raise InputError(f"{target_type} is unknown; use 'GaussianHeatmap'")
        if self.target_type.lower() == 'combinedtarget' and self.encoding == 'UDP':
            raise InputError(f"{target_type} needs a network with three maps for each keypoint; a "
                             "Lite-HRNet has one: use 'GaussianHeatmap'")
        if len(self.kernel) != 2 or not all(isinstance(n, int) and 0 < n < 1000 and n % 2 for n in self.kernel):
            raise InputError(f'TopDownGenerateTarget: kernel {self.kernel} is no (width, height) of odd numbers '
                             'below 1000')
        if not 0.1 <= self.sigma <= 1000:
            raise InputError(f'TopDownGenerateTarget: sigma {self.sigma} is no size in pixels; give 0.1 to 1000')

    def __call__(self, results: Results) -> Results:
        info = results['ann_info']
        place = results['joints_3d'], results['joints_3d_visible'], info['image_size'], info['heatmap_size']
        if self.encoding == 'Megvii':
            made = encode_megvii(*place, self.kernel)
        elif self.unbiased_encoding and self.encoding == 'MSRA':
            made = encode_unbiased(*place, self.sigma)
        else:
            made = encode(*place, self.sigma, self.encoding == 'UDP')
        results['target'], results['target_weight'] = made
        return results


@dataclass
class Collect:
    """Keep `keys`, and `meta_keys` in a dict `meta_name`; keys are looked up in the sample, then in its `ann_info`.

    A pair is a key and its new name. The dict has what the evaluation reads too (not every MMPose pipeline names it),
    and it is `img_metas` as well, where the evaluation finds it.
    """
    keys: Sequence[str]
    meta_keys: Sequence[str]
    meta_name: str = 'img_metas'

    def __post_init__(self) -> None:
        for key in (*self.keys, *self.meta_keys):
            if [*map(type, _pair(key))] != [str, str]:
                raise InputError(f'Collect: {key!r} is no key; give texts, or pairs of a key and its new name')

    def __call__(self, results: Results) -> Results:
        known = {**results['ann_info'], **results}
        meta_keys = (*self.meta_keys, *(EVALUATION_KEYS & known.keys()))
        try:
            sample, meta = ({new: known[key] for key, new in map(_pair, keys)} for keys in (self.keys, meta_keys))
            return {**sample, self.meta_name: meta, 'img_metas': meta}
        except KeyError as error:
            raise InputError(f'Collect: the pipeline makes no {error}; choose from {", ".join(known)}') from error


def _pair(key: Any) -> Sequence[Any]:
    return key if isinstance(key, (list, tuple)) else (key, key)


TRANSFORMS = {cls.__name__: cls for cls in (
    LoadImageFromFile, TopDownGetBboxCenterScale, TopDownRandomShiftBboxCenter, TopDownRandomTranslation,
    TopDownRandomFlip, TopDownHalfBodyTransform, TopDownGetRandomScaleRotation, TopDownAffine, PhotometricDistortion,
    ToTensor, NormalizeTensor, TopDownGenerateTarget, Collect)}
