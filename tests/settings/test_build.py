"""Networks and data sets from settings."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import InputError
from src.config import resolve
from src.mmpose.loader import epoch_order
from src.settings.build import build_dataset
from tests.test_config import OWN, settings


def test_nme_needs_somebody_with_both_its_keypoints(synthetic: Path, tmp_path: Path) -> None:
    root = shutil.copytree(synthetic, tmp_path / 'coco')
    file = root / 'annotations/person_keypoints_val2017.json'
    content = json.loads(file.read_text())
    for person in content['annotations']:
        person['keypoints'][2] = 0  # the nose is not labelled
    file.write_text(json.dumps(content))
    dotted = {'eval.boxes': 'gt', 'eval.metrics': 'NME', 'eval.nme_keypoints': '1,2'}
    assert len(build_dataset(*resolve({'data_root': str(root)}, dotted), 'val'))
    with pytest.raises(InputError, match=r'eval.nme_keypoints \(0, 2\): nobody in .*val2017.json has them labelled'):
        build_dataset(*resolve({'data_root': str(root)}, {**dotted, 'eval.nme_keypoints': '0,2'}), 'val')


def test_seeds_of_64_bits_fix_augmentation_and_order(synthetic: Path) -> None:
    samples, orders = [], []
    for seed in (2 ** 64 - 1, 2 ** 64 - 1, 2 ** 32 - 1):
        experiment, config = settings('--data_root', str(synthetic), '--random_seed', str(seed))
        samples.append(build_dataset(experiment, config, 'train').sample(0)['img'])
        orders.append(epoch_order(100, experiment['random_seed'], 0).tolist())
    assert np.array_equal(samples[0], samples[1]) and not np.array_equal(samples[0], samples[2])
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(('change', 'words'), [
    ('config["data"]["type"] = "mpii"', "boxes 'det': MPII has annotated boxes only; pass --boxes gt"),
    ('del config["data"]["detections"]', "boxes 'det': the model configuration names no data.detections"),
    ('config["data"]["detections"] = "none.json"', r'none\.json: no such detection file; or pass --boxes gt')])
def test_boxes_of_a_detector_that_are_not_there(synthetic: Path, tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / 'own.py'
    path.write_text(f'{OWN}{change}\n')
    experiment, config = settings('--data_root', str(synthetic), '--model_config', str(path))
    with pytest.raises(InputError, match=words):
        build_dataset(experiment, config, 'val', 'det')
