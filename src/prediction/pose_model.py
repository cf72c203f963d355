"""A trained network as a function of an image and the boxes of its persons.

    model = load_model('checkpoints/demo/litehrnet_tiny_coco_128x96.ckpt')
    keypoints = model.predict(cv2.imread('image.jpg'), [[x, y, width, height]])  # (1, 17, 3): x, y, score

Crops, flip test and decoding are those of the evaluation (`src.test_utils`): both give the same numbers.
"""
from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import InputError
from src.config import ROOT, resolve
from src.cpu.cells import accelerate
from src.deployment.fold import fold_batch_norm
from src.deployment.runtime import SUFFIXES, open_file
from src.mmpose.coco import TopDownDataset
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.heatmap import decode, to_image
from src.settings.build import build_network
from src.settings.overrides import restore
from src.test_utils import Decoder, Forward, estimate, forward_of
from src.utils import set_device
from src.weights.checkpoint import TORCH_SUFFIXES, load_network


class PoseModel:
    """A network with all that is needed to run it on images.

    Attributes:
        forward: normalised crops (N, 3, H, W) to heatmaps (N, K, H/4, W/4).
        config: the model configuration; `config['eval']` says how to decode.
        info: what the keypoints mean: names, skeleton, mirror pairs, OKS sigmas.
    """

    def __init__(self, forward: Forward, config: dict[str, Any], decoder: Decoder = decode) -> None:
        """Wrap a network's `forward`, its resolved configuration and its decoder, as `load_model` makes them."""
        data = config['data']
        self.forward, self.config, self._decoder = forward, config, decoder
        self.info = DatasetInfo.from_dict(data['info'])
        self._flip_index = self.info.flip_index if config['eval']['flip_test'] and self.info.can_flip else None
        self._samples = TopDownDataset(self.info, data['image_size'], data['heatmap_size'], config['val_pipeline'])

    def predict(self, image: np.ndarray, boxes: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
        """Return the keypoints of the persons in an image.

        Args:
            image: (H, W, 3) uint8, BGR as OpenCV reads it.
            boxes: (N, 4) x, y, width, height of each person in pixels; N may be 0.

        Returns:
            float32 (N, K, 3): x and y in pixels of the image, and a score, about 0 to 1.

        Raises:
            InputError: the image or a box is of another shape or type, or a box is empty or not finite.
        """
        return next(self.predict_many([(image, boxes)]))[0]

    def predict_many(self, images: Iterable[tuple[np.ndarray, Any]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the keypoints of many images; the boxes of a batch may come from several of them.

        Args:
            images: (image, boxes) as for `predict`; boxes may have a fifth column, the detector's score. They are
                taken as they are needed, up to a batch ahead.

        Yields:
            for each image, in order: keypoints float32 (N, K, 3), and windows float32 (N, 6): centre x, y, scale
            w, h in 200-pixel units, area in square pixels, score of the box (1 where none was given).
        """
        counts: deque[int] = deque()

        def crops() -> Iterator[tuple[int, dict[str, Any]]]:
            for number, (image, boxes) in enumerate(images):
                checked = check_boxes(image, boxes)
                counts.append(len(checked))
                for box in checked:
                    yield number, self._samples.crop(image, box[:4], box[4])

        settings = self.config['eval']
        keypoints, windows = np.zeros((0, self.info.num_joints, 3), np.float32), np.zeros((0, 6), np.float32)
        for _, points, found in estimate(self.forward, crops(), settings, self._flip_index, self._decoder):
            keypoints, windows = np.concatenate((keypoints, points)), np.concatenate((windows, found))
            while counts and counts[0] <= len(keypoints):
                count = counts.popleft()
                yield keypoints[:count], windows[:count]
                keypoints, windows = keypoints[count:], windows[count:]
        for _ in counts:  # images without a person, behind the last batch
            yield keypoints[:0], windows[:0]


def check_boxes(image: np.ndarray, boxes: Any) -> np.ndarray:
    """Return boxes as float64 (N, 5) x, y, width, height, score.

    Raises:
        InputError: the image or a box is not as `PoseModel.predict` takes it.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f'image: expected a uint8 array (H, W, 3) in BGR, got {getattr(image, "dtype", type(image))} '
                         f'{getattr(image, "shape", "")}')
    try:
        values = np.asarray(boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f'boxes: not numbers (N, 4): {error}') from error
    values = values.reshape(0, 4) if not values.size else values
    if values.ndim != 2 or values.shape[1] not in (4, 5):
        raise InputError(f'boxes: expected (N, 4) x, y, width, height, got {values.shape}')
    if not (np.isfinite(values).all() and (values[:, 2:4] > 0).all()):
        raise InputError('boxes: all numbers must be finite, widths and heights positive')
    return values if values.shape[1] == 5 else np.concatenate((values, np.ones((len(values), 1))), 1)


def load_model(path: Path | str, *, model_config: str | None = None, device: str = 'CPU', batch_size: int = 1,
               flip_test: bool | None = None) -> PoseModel:
    """Return the model of a checkpoint or an exported file, ready to predict.

    Args:
        path: `.ckpt`, official `.pth`, `.mindir` or `.onnx`.
        model_config: name or file of the model configuration. By default a checkpoint's is read from the config.json
            that training left beside it, else derived from the file's name, and an exported file brings its own.
        device: 'CPU', 'GPU' or 'Ascend'; onnxruntime chooses for itself.
        batch_size: boxes that go through the network together. A checkpoint's network is compiled for this number
            and computes as many, however few are asked for.
        flip_test: average with the mirrored image, at twice the time; None: as the configuration says (yes).

    Raises:
        InputError: the file is missing, damaged or of another network, its configuration unknown, the device absent,
            or onnxruntime not installed.
    """
    path = Path(path)
    if batch_size < 1:
        raise InputError(f'batch_size {batch_size}: must be at least 1')
    if path.suffix not in (*SUFFIXES, *TORCH_SUFFIXES, '.ckpt'):
        raise InputError(f'{path}: unknown suffix {path.suffix!r}; give a .ckpt, .pth, .mindir or .onnx file')
    if not path.is_file():
        raise InputError(f'{path}: no such file; check the path')
    if path.suffix != '.onnx':
        set_device(device, 0)
    decoder = decode
    if path.suffix in SUFFIXES:
        forward, config, decoder = _open_exported(path, model_config)
        if decoder is not decode and flip_test:
            raise InputError(f'{path}: gives keypoints, and the flip test needs heatmaps; export without '
                             '--decode, or omit the flip test')
        flip_test = flip_test if decoder is decode else False
    else:
        config = _checkpoint_config(path, model_config)
        network = build_network(config)
        load_network(network, path)
        fold_batch_norm(network)
        if device == 'CPU':
            accelerate(network)
        forward = forward_of(network)
    config['eval'].update(batch_size=batch_size, **({} if flip_test is None else {'flip_test': flip_test}))
    return PoseModel(forward, config, decoder)


def _checkpoint_config(path: Path, model_config: str | None) -> dict[str, Any]:
    saved = path.with_name('config.json')
    if model_config is None and saved.is_file():
        return resolve({}, {}, str(saved))[1]
    name = model_config or re.sub(r'_(epoch\d+|best)$', '', path.stem)
    if model_config is None and not (ROOT / 'configs' / f'{name}.py').is_file():
        raise InputError(f'{path}: no config.json beside it says what network it is; give its model_config')
    return resolve({'model_config': name}, {})[1]


def _open_exported(path: Path, model_config: str | None) -> tuple[Forward, dict[str, Any], Decoder]:
    run, description = open_file(path)
    if model_config is None and not description:
        raise InputError(f'{path}: does not say what network it is; give its model_config')
    config = resolve({'model_config': model_config}, {})[1] if model_config else restore(description['config'])
    size = np.array(config['data']['image_size'])

    def move_to_image(keypoints: np.ndarray, center: np.ndarray, scale: np.ndarray,
                      *_: Any) -> tuple[np.ndarray, np.ndarray]:
        return to_image(keypoints[..., :2], size, center, scale), keypoints[..., 2:]

    def run_on_bytes(images: np.ndarray) -> np.ndarray:
        crops = np.rint(images).astype(np.uint8).transpose(0, 2, 3, 1)
        return run(crops[..., ::-1] if description['colour_order'] == 'bgr' else crops)

    decoder = move_to_image if description.get('decode') else decode
    if not description.get('preprocess'):
        return run, config, decoder
    for step in config['val_pipeline']:
        if step['type'] == 'NormalizeTensor':  # the file does it: crops stay 0 to 255
            step.update(mean=(0., 0., 0.), std=(1 / 255,) * 3)
    return run_on_bytes, config, decoder
