"""A trained network as a function of an image and the boxes of its persons.

    model = load_model('checkpoints/demo/litehrnet_tiny_coco_128x96.ckpt')
    keypoints = model.predict(cv2.imread('image.jpg'), [[x, y, width, height]])  # (1, 17, 3): x, y, score

Crops, flip test and decoding are those of the evaluation (`src.test_utils`): both give the same numbers.
"""
from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import InputError, first_line
from src.config import ROOT, resolve
from src.cpu.cells import accelerate
from src.deployment.fold import fold_batch_norm
from src.deployment.runtime import SUFFIXES, open_file
from src.mmpose.annotations import MAX_COORDINATE, PERSON, read_annotations
from src.mmpose.coco import TopDownDataset
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.heatmap import decode, to_image
from src.settings.build import build_network
from src.settings.overrides import restore
from src.test_utils import Decoder, Forward, estimate, forward_of
from src.utils import set_device
from src.weights.checkpoint import CHECKPOINT_SUFFIXES, listed, load_network
from src.weights.download import locate
from src.weights.published import find_published

IMAGES_AHEAD = 16  # 2.6 MB each at 1280 x 720


class PoseModel:
    """A network with all that is needed to run it on images.

    Attributes:
        forward: normalised crops (N, 3, H, W) to heatmaps (N, K, H/4, W/4).
        config: the model configuration; `config['eval']` says how to decode.
        info: what the keypoints mean: names, skeleton, mirror pairs, OKS sigmas.
        categories: ids of the categories it is for; None where they are not known.
    """

    def __init__(self, forward: Forward, config: dict[str, Any], decoder: Decoder = decode,
                 categories: list[Any] | None = None) -> None:
        """Wrap a network's `forward`, its resolved configuration and its decoder, as `load_model` makes them."""
        data = config['data']
        self.forward, self.config, self._decoder = forward, config, decoder
        self.info = DatasetInfo.from_dict(data['info'])
        self.categories = [PERSON] if self.info.name in ('coco', 'mpii') else categories
        self._samples = TopDownDataset(self.info, data['image_size'], data['heatmap_size'], config['val_pipeline'])
        self._flip_index = self._samples.flip_index(config['eval'])

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
        """Yield the keypoints of many images; see `predict_crops`.

        Args:
            images: (image, boxes) as for `predict`; boxes may have a fifth column, the detector's score.
        """
        return self.predict_crops(self.crop(image, boxes) for image, boxes in images)

    def crop(self, image: np.ndarray, boxes: Any) -> list[dict[str, Any]]:
        """Return the network's inputs for the persons in an image; arguments and errors as for `predict_many`."""
        return [self._samples.crop(image, box[:4], box[4]) for box in check_boxes(image, boxes)]

    def predict_crops(self, images: Iterable[list[dict[str, Any]]], *, one_by_one: bool = False
                      ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the keypoints of many images; the persons of a batch may come from several of them.

        Args:
            images: what `crop` returns of each. They are taken as they are needed: up to a batch ahead, and no more
                than `IMAGES_AHEAD` (or as many as a batch has persons) where few of them show somebody.
            one_by_one: yield each image's keypoints before the next one is taken.

        Yields:
            for each image, in order: keypoints float32 (N, K, 3), and windows float32 (N, 6): centre x, y, scale
            w, h in 200-pixel units, area in square pixels, score of the box (1 where none was given).
        """
        settings = self.config['eval']
        size, counts, crops = settings['batch_size'], deque(), []
        ahead = 1 if one_by_one else max(size, IMAGES_AHEAD)
        keypoints, windows = np.zeros((0, self.info.num_joints, 3), np.float32), np.zeros((0, 6), np.float32)

        def finish(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            """Run the network on the first crops, and yield the images that are complete then."""
            nonlocal keypoints, windows
            for _, points, found in estimate(self.forward, enumerate(crops[:count]), settings, self._flip_index,
                                             self._decoder):
                keypoints, windows = np.concatenate((keypoints, points)), np.concatenate((windows, found))
            del crops[:count]
            while counts and counts[0] <= len(keypoints):
                persons = counts.popleft()
                yield keypoints[:persons], windows[:persons]
                keypoints, windows = keypoints[persons:], windows[persons:]

        for image in images:
            counts.append(len(image))
            crops.extend(image)
            yield from finish(len(crops) if len(counts) >= ahead else len(crops) // size * size)
        yield from finish(len(crops))


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
    if not ((np.abs(values) <= MAX_COORDINATE).all() and (values[:, 2:4] > 0).all()):
        raise InputError(f'boxes: all numbers must be finite and at most {MAX_COORDINATE:.0e}, widths and heights '
                         'positive')
    return values if values.shape[1] == 5 else np.concatenate((values, np.ones((len(values), 1))), 1)


def load_model(path: Path | str, *, model_config: str | None = None, mmpose_config: str | None = None,
               device: str = 'CPU', batch_size: int = 1, flip_test: bool | None = None) -> PoseModel:
    """Return the model of a checkpoint or an exported file, ready to predict.

    Args:
        path: `.ckpt`, `.pth`, `.pdparams`, `.mindir` or `.onnx`; or the name of published weights (`tools/weights.py`).
        model_config: name or file of the model configuration. By default a checkpoint's is read from the config.json
            that training left beside it, else derived from the file's name, and an exported file brings its own.
        mmpose_config: config file of MMPose 0.x in place of a model configuration; with both, the network is that of
            `model_config`.
        device: 'CPU', 'GPU' or 'Ascend'; onnxruntime chooses for itself.
        batch_size: boxes that go through the network together. A checkpoint's network is compiled for this number
            and computes as many, however few are asked for.
        flip_test: average with the mirrored image, at twice the time; None: as the configuration says (yes).

    Raises:
        InputError: the file is missing, damaged or of another network, its configuration unknown, the device absent,
            or onnxruntime not installed.
    """
    if batch_size < 1:
        raise InputError(f'batch_size {batch_size}: must be at least 1')
    published, path = find_published(path), locate(path)
    if published:
        model_config = model_config or published.model_config
    given = {'model_config': model_config, 'mmpose_config': mmpose_config}
    given = {key: value for key, value in given.items() if value is not None}
    if path.suffix not in (*CHECKPOINT_SUFFIXES, *SUFFIXES):
        raise InputError(f'{path}: unknown suffix {path.suffix!r}; give a '
                         f'{listed((*CHECKPOINT_SUFFIXES, *SUFFIXES))} file')
    if not path.is_file():
        raise InputError(f'{path}: no such file; check the path')
    if path.suffix != '.onnx':
        set_device(device, 0)
    decoder, categories = decode, None
    if path.suffix in SUFFIXES:
        forward, config, decoder = _open_exported(path, given)
        if decoder is not decode and flip_test:
            raise InputError(f'{path}: gives keypoints, and the flip test needs heatmaps; export without '
                             '--decode, or omit the flip test')
        flip_test = flip_test if decoder is decode else False
    else:
        config, categories = _checkpoint_config(path, given)
        network = build_network(config)
        load_network(network, path)
        fold_batch_norm(network)
        if device == 'CPU':
            accelerate(network)
        forward = forward_of(network)
    config['eval'].update(batch_size=batch_size, **({} if flip_test is None else {'flip_test': flip_test}))
    return PoseModel(forward, config, decoder, categories)


def _checkpoint_config(path: Path, given: dict[str, str]) -> tuple[dict[str, Any], list[Any] | None]:
    """Return the model configuration, and the categories of the training's data, None where these are not known."""
    saved = path.with_name('config.json')
    if not given and saved.is_file():
        experiment, config = resolve({}, {}, str(saved))
        file = Path(experiment['data_root'], config['data']['val_annotations'])
        with suppress(InputError):  # the data may be elsewhere
            return config, read_annotations(file, DatasetInfo.from_dict(config['data']['info'])).categories
        return config, None
    name = re.sub(r'_(epoch\d+|best)$', '', path.stem)
    if not given and not (ROOT / 'configs' / f'{name}.py').is_file():
        raise InputError(f'{path}: no config.json beside it says what network it is; give its model_config')
    return resolve(given or {'model_config': name}, {})[1], None


def _checked(run: Forward, path: Path, keypoints: int) -> Forward:
    """Return `run`; where a file is not for the model configuration that was given with it, an InputError says so."""
    def run_or_tell(images: np.ndarray) -> np.ndarray:
        try:
            result = run(images)
        except Exception as error:  # of many kinds, the runtimes' own
            raise InputError(f'{path}: does not take {images.shape} ({first_line(error)}); give its own model_config'
                             ) from error
        if result.shape[1] != keypoints:
            raise InputError(f'{path}: finds {result.shape[1]} keypoints, and the model configuration has {keypoints}; '
                             'give its own model_config')
        return result

    return run_or_tell


def _open_exported(path: Path, given: dict[str, str]) -> tuple[Forward, dict[str, Any], Decoder]:
    run, description = open_file(path)
    if not given and not description:
        raise InputError(f'{path}: does not say what network it is; give its model_config')
    config = resolve(given, {})[1] if given else restore(description['config'])
    run = _checked(run, path, len(config['data']['info']['joint_names']))
    size = np.array(config['data']['image_size'])

    def move_to_image(keypoints: np.ndarray, center: np.ndarray, scale: np.ndarray,
                      *_: Any) -> tuple[np.ndarray, np.ndarray]:
        return to_image(keypoints[..., :2], size, center, scale), keypoints[..., 2:]

    # Files of before `network_order` are for RGB networks.
    swapped = description.get('colour_order') != description.get('network_order', 'rgb')

    def run_on_bytes(images: np.ndarray) -> np.ndarray:
        crops = np.rint(images * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return run(crops[..., ::-1] if swapped else crops)

    decoder = move_to_image if description.get('decode') else decode
    if not description.get('preprocess'):
        return run, config, decoder
    # The file normalises, so crops stay 0 to 1.
    config['val_pipeline'] = [step for step in config['val_pipeline'] if step['type'] != 'NormalizeTensor']
    return run_on_bytes, config, decoder
