"""Network and data sets from a resolved configuration."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from src.common.errors import InputError
from src.mmpose.coco import CocoDataset
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.mpii import MpiiDataset
from src.model import LiteHRNet
from src.settings.checks import check_metrics


def build_network(config: dict[str, Any]) -> LiteHRNet:
    """Return the network of `config['model']` for images of `config['data']['image_size']`."""
    return LiteHRNet(config['data']['image_size'], **config['model'])


def build_dataset(experiment: dict[str, Any], config: dict[str, Any], split: str,
                  boxes: str = 'gt') -> CocoDataset | MpiiDataset:
    """Return the training or validation persons.

    Args:
        experiment: `data_root` and `random_seed` are read.
        config: the model configuration.
        split: 'train' or 'val'.
        boxes: 'gt' for annotated boxes, 'det' for the detector's.

    Raises:
        InputError: a file is missing or of another kind, or the metrics of validation are not for these data.
    """
    if split == 'val':
        check_metrics(config, boxes)
    root, data = Path(experiment['data_root']), config['data']
    if not root.is_dir():
        raise InputError(f'data_root {root}: no such folder; pass --data_root')
    arguments = (DatasetInfo.from_dict(data['info']), root / data[f'{split}_annotations'],
                 root / data[f'{split}_images'], data['image_size'], data['heatmap_size'], config[f'{split}_pipeline'])
    seed = experiment['random_seed'] or 0
    if data['type'] == 'mpii':
        if boxes == 'det':
            raise InputError("boxes 'det': MPII has annotated boxes only; pass --boxes gt")
        return MpiiDataset(*arguments, seed=seed, truth_file=root / data['val_truth'] if split == 'val' else None)
    detections = None
    if boxes == 'det':
        if not data.get('detections'):
            raise InputError("boxes 'det': the model configuration names no data.detections; pass --boxes gt")
        detections = root / data['detections']
        if not detections.is_file():
            raise InputError(f'{detections}: no such detection file; or pass --boxes gt')
    dataset = CocoDataset(*arguments, detection_file=detections, score_threshold=config['eval']['score_threshold'],
                          seed=seed)
    if split == 'val' and 'NME' in config['eval']['metrics']:
        pair = list(config['eval']['nme_keypoints'])
        if not any((record['joints_3d_visible'][pair, 0] > 0).all() for record in dataset.records):
            raise InputError(f'eval.nme_keypoints {tuple(pair)}: nobody in {data["val_annotations"]} has them '
                             'labelled; choose others, or omit NME')
    return dataset
