"""Network to deployment file, described, reloaded and compared before the file gets its name."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore.train.mind_ir_pb2 import ModelProto

from src.common.compat import FREE_BATCH
from src.common.errors import InputError
from src.common.files import atomic_path
from src.config import model_name
from src.cpu.cells import decelerate
from src.deployment.runtime import Run, import_onnxruntime, open_file
from src.deployment.wrappers import ArgMax, Deployed, Normalise
from src.mmpose.coco import TopDownDataset
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.geometry import PIXEL_STD
from src.mmpose.heatmap import decode
from src.mmpose.image import IMAGE_SUFFIXES, read_image
from src.mmpose.transforms import NormalizeTensor
from src.model import STRIDE

FORMATS = {'MINDIR': '.mindir', 'ONNX': '.onnx', 'AIR': '.air'}
COLOURS = ('rgb', 'bgr')
MAX_SAMPLES = 32
TOLERANCE = 1e-3  # of the largest heatmap value; float32 rounding in another order stays far below
TOLERANCE_FLOAT16 = 0.03  # likewise
MAX_MOVED = 0.05  # share of keypoints that may move: of two pixels equal but for rounding either may be the peak


def describe(config: dict[str, Any], model_config: str, batch_size: int, preprocess: str | None,
             decoded: bool) -> dict[str, Any]:
    """Return what a user of an exported file must know, and `src.prediction.load_model` reads; fit for JSON.

    Args:
        config: a resolved configuration.
        model_config: its name.
        batch_size: images per call; 0: any number.
        preprocess: see `export_network`.
        decoded: likewise.
    """
    data, pipeline = config['data'], {step['type']: step for step in config['val_pipeline']}
    order = pipeline.get('LoadImageFromFile', {}).get('channel_order', 'rgb')
    normalise, info = pipeline.get('NormalizeTensor', dict(mean=(0., 0., 0.), std=(1., 1., 1.))), data['info']
    return dict(
        model_config=model_name(model_config), image_size=data['image_size'], batch_size=batch_size,
        input='uint8 NHWC' if preprocess else 'float32 NCHW, (value / 255 - mean) / std',
        colour_order=preprocess or order, network_order=order, preprocess=bool(preprocess),
        mean=normalise['mean'], std=normalise['std'], decode=decoded,
        output='joints: x, y in pixels of the input, score' if decoded else 'heatmaps',
        **{key: info[key] for key in ('joint_names', 'flip_pairs', 'skeleton', 'sigmas')},
        config={key: config[key] for key in ('data', 'val_pipeline', 'eval')})


def export_network(network: nn.Cell, output: Path, file_format: str, config: dict[str, Any], model_config: str, *,
                   batch_size: int = 0, preprocess: str | None = None, decoded: bool = False,
                   float16: bool = False, int8_crops: np.ndarray | None = None) -> dict[str, float]:
    """Write `output`, and return how far it is from the network on random images.

    Args:
        network: in inference mode, BN folded or not. Kernels of `src.cpu`, which no file can hold, are taken out of it.
        output: file to write, whole or not at all.
        file_format: 'MINDIR', 'ONNX', or 'AIR' (Ascend alone can write and run it: not compared).
        config: the network's resolved configuration.
        model_config: its name.
        batch_size: images per call; 0 for any number (not AIR).
        preprocess: 'rgb' or 'bgr': take uint8 crops (N, H, W, 3) with these channels, and normalise them inside.
        float16: hold weights and compute in float16 (ONNX alone); input and output stay as they are.
        int8_crops: compute in INT8 (ONNX alone), by the values on these normalised crops (see `src.deployment.int8`).
        decoded: give keypoints (N, K, 3): x, y in input pixels by the `default` decoding, and score; not heatmaps.

    Returns:
        The largest differences: of 'heatmaps', or of 'scores' and 'pixels'; in INT8 the root mean square of the
        heatmaps' on the crops, of the heatmaps' own; {} for AIR.

    Raises:
        InputError: the format is not available here, or the reloaded file computes something else.
    """
    decelerate(network)
    description = describe(config, model_config, batch_size, preprocess, decoded)
    swapped = preprocess not in (None, description['network_order'])
    normalise = Normalise(description['mean'], description['std'], swapped) if preprocess else None
    arg_max = ArgMax(config['model']['num_joints'], config['data']['heatmap_size']) if decoded else None
    crops = np.random.default_rng(0).integers(0, 256, (max(3, batch_size), *config['data']['image_size'][::-1], 3),
                                              np.uint8)
    images = normalised(crops[..., ::-1] if swapped else crops, description)
    inputs = crops if preprocess else images
    deployed = Deployed(network, normalise, arg_max).set_train(False)
    with atomic_path(output) as temporary:
        if int8_crops is not None:
            _write_onnx(deployed, temporary, description, int8_crops=int8_crops)
            found, expected = (np.concatenate([run(crop[None]) for crop in int8_crops]) for run in (
                open_file(temporary)[0], lambda crop: network(Tensor(crop)).asnumpy()))
            return {'root mean square': float(np.sqrt(((found - expected) ** 2).mean() / (expected ** 2).mean()))}
        _write(deployed, temporary, file_format, inputs, description, float16)
        if file_format == 'AIR':
            return {}
        heatmaps = network(Tensor(images)).asnumpy()
        return compare(open_file(temporary)[0], inputs, heatmaps, batch_size, decoded, output,
                       TOLERANCE_FLOAT16 if float16 else TOLERANCE)


def normalised(crops: np.ndarray, description: dict[str, Any]) -> np.ndarray:
    """Return uint8 crops (N, H, W, 3) with the network's channels as it takes them, float32 (N, 3, H, W)."""
    normalise = NormalizeTensor(description['mean'], description['std'])
    normalise.from_bytes = True
    return np.stack([normalise({'img': np.ascontiguousarray(crop)})['img'] for crop in crops])


def _write(network: Deployed, path: Path, file_format: str, inputs: np.ndarray, description: dict[str, Any],
           float16: bool) -> None:
    if file_format == 'ONNX':
        _write_onnx(network, path, description, float16)
        return
    batch = description['batch_size']
    if not batch and file_format not in FREE_BATCH:
        raise InputError(f'{file_format} for any number of images: not from MindSpore {ms.__version__}; '
                         'give a number with --batch_size')
    if batch:
        example = Tensor(inputs[:batch])
    else:
        example = Tensor(shape=[None, *inputs.shape[1:]], dtype=Tensor(inputs).dtype)
    try:
        with TemporaryDirectory() as folder:  # MindSpore takes few signs in a path, and leaves the file read-only
            plain = Path(folder) / f'network{path.suffix}'
            ms.export(network, example, file_name=str(plain), file_format=file_format)
            shutil.copyfile(plain, path)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f'{file_format} export is not possible on this device: {reason}; '
                         'choose another --file_format') from error
    if file_format == 'MINDIR' and 'user_info' in ModelProto.DESCRIPTOR.fields_by_name:
        model = ModelProto.FromString(path.read_bytes())
        for key, value in description.items():
            model.user_info.add(key=key, value=json.dumps(value))
        path.write_bytes(model.SerializeToString())


def _write_onnx(network: Deployed, path: Path, description: dict[str, Any], float16: bool = False,
                int8_crops: np.ndarray | None = None) -> None:
    try:
        import onnx

        from src.deployment.int8 import quantised
        from src.deployment.onnx_network import onnx_model
    except ImportError as error:
        raise InputError(f'ONNX export needs the package onnx ({error}): '
                         'pip install -r requirements-onnx.txt') from error
    model = onnx_model(network, description['image_size'], description['batch_size'])
    if int8_crops is not None:
        model = quantised(model, int8_crops)
    if float16:
        import_onnxruntime(path)
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        model = convert_float_to_float16(model, keep_io_types=True)
        OnnxModel.graph_topological_sort(model.graph)  # casts of the input stand at the end
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in description.items()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def samples(folder: Path) -> list[Path]:
    """Return up to `MAX_SAMPLES` images of a folder, evenly chosen in the order of their names.

    Raises:
        InputError: there are none.
    """
    files = sorted(path for path in folder.glob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f'--int8 {folder}: no images ({", ".join(sorted(IMAGE_SUFFIXES))}); name a folder of some '
                         'dozens')
    return files[::-(-len(files) // MAX_SAMPLES)]


def sample_crops(images: list[Path], config: dict[str, Any]) -> np.ndarray:
    """Return normalised crops (N, 3, H, W) of the whole images.

    Raises:
        InputError: one can't be read.
    """
    data, crops = config['data'], []
    dataset = TopDownDataset(DatasetInfo.from_dict(data['info']), data['image_size'], data['heatmap_size'],
                             config['val_pipeline'])
    for path in images:
        image = read_image(str(path))
        crops.append(dataset.crop(image, [0, 0, image.shape[1], image.shape[0]])['img'])
    return np.stack(crops)


def compare(run: Run, inputs: np.ndarray, heatmaps: np.ndarray, batch_size: int, decoded: bool,
            output: Path, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Return the largest differences between a file and the network on the same images, in batches of two sizes.

    Args:
        run: the opened file.
        inputs: the file's.
        heatmaps: the network's.
        batch_size: of the file; 0: any.
        decoded: it gives keypoints.
        output: its name to be.
        tolerance: of scores, as a fraction of the largest heatmap value, or of 1 where that is less.

    Raises:
        InputError: they differ by more than rounding.
    """
    sizes = (batch_size,) if batch_size else (1, len(inputs))
    outputs = [run(inputs[:size]) for size in sizes]
    if not decoded:
        differences = {'heatmaps': max(float(np.abs(part - heatmaps[:len(part)]).max()) for part in outputs)}
        worst = differences['heatmaps']
    else:
        extent = np.tile(np.array(heatmaps.shape[:1:-1]) * float(STRIDE), (len(heatmaps), 1))
        points, scores = decode(heatmaps, extent / 2, extent / PIXEL_STD)
        distance = np.concatenate([np.abs(part[..., :2] - points[:len(part)]).max(-1).ravel() for part in outputs])
        worst = max(float(np.abs(part[..., 2:] - scores[:len(part)]).max()) for part in outputs)
        differences = {'scores': worst, 'pixels': float(distance.max())}
        if not (distance > 0.01).mean() <= MAX_MOVED:
            worst = float('nan')
    if not worst <= tolerance * max(1.0, float(np.abs(heatmaps).max())):
        raise InputError(f'{output}: the reloaded file differs from the network by {differences}; not written')
    return differences
