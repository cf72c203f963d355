"""Settings to objects: the network and the data sets of a resolved configuration."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from src.errors import InputError
from src.mmpose.coco import CocoDataset
from src.mmpose.dataset_info import DatasetInfo
from src.model import LiteHRNet


def build_network(config: dict[str, Any]) -> LiteHRNet:
    """The network of `config['model']` for pictures of `config['data']['image_size']`."""
    return LiteHRNet(config['data']['image_size'], **config['model'])


def build_dataset(experiment: dict[str, Any], config: dict[str, Any], split: str, boxes: str = 'gt') -> CocoDataset:
    """Training or validation persons.

    Args:
        experiment: `data_root` and `random_seed` are read.
        config: the model configuration.
        split: 'train' or 'val'.
        boxes: 'gt' for annotated boxes, 'det' for the detector's.

    Raises:
        InputError: a file is missing or not what it should be.
    """
    root, data = Path(experiment['data_root']), config['data']
    if not root.is_dir():
        raise InputError(f'data_root {root}: no such folder; pass --data_root')
    detections = None
    if boxes == 'det':
        detections = root / data['detections']
        if not detections.is_file():
            raise InputError(f'{detections}: no such detection file; or pass --boxes gt')
    return CocoDataset(
        DatasetInfo.from_dict(data['info']), root / data[f'{split}_annotations'], root / data[f'{split}_images'],
        data['image_size'], data['heatmap_size'], config[f'{split}_pipeline'], detection_file=detections,
        score_threshold=config['eval']['score_threshold'],
        seed=experiment['random_seed'] if experiment['random_seed'] is not None else 0)
