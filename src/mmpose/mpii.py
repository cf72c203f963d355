"""MPII annotations as records for the top-down pipeline, by the rules of MMPose 0.29's TopDownMpiiDataset.

The format is the JSON list (image, center, scale, joints, joints_vis) that HRNet and MMPose use. Its coordinates count
from one, scales are in units of 200 pixels, and the pipeline's TopDownGetBboxCenterScale adds the padding.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json, numbers, require_exists
from src.mmpose import pck
from src.mmpose.annotations import MAX_COORDINATE, PERSON
from src.mmpose.coco import TopDownDataset
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import Predictions

CENTER_SHIFT = 15.0  # pixels per scale unit downwards, so that the window doesn't cut the feet off


class MpiiDataset(TopDownDataset):
    """Annotated persons of an MPII file; `bbox_id` is their place in it."""

    def __init__(self, info: DatasetInfo, annotation_file: Path, image_dir: Path, image_size: tuple[int, int],
                 heatmap_size: tuple[int, int], pipeline: list[dict[str, Any]], *, seed: int = 0,
                 truth_file: Path | None = None) -> None:
        """Read and check the file; images are read by `sample` only. Arguments as for `CocoDataset`.

        `truth_file` is mpii_gt_val.mat, which `evaluate` needs; None for a training set.

        Raises:
            InputError: the file or the folder is missing, the file has another format or holds no person.
        """
        super().__init__(info, image_size, heatmap_size, pipeline, seed)
        file, folder = Path(annotation_file), Path(image_dir)
        persons = load_json(file)
        require_exists(folder)
        if not isinstance(persons, list) or not persons:
            raise InputError(f'{file}: not a list of persons; give an MPII annotation file such as mpii_train.json')
        for number, person in enumerate(persons):
            with as_input_error(file, f'person {number}'):
                self.records.append({**self._record(person, folder), 'bbox_id': number})
        # Read here, so that a missing file is told before the network runs.
        self._ground_truth = pck.load_ground_truth(truth_file, len(persons)) if truth_file else None

    def evaluate(self, predictions: Predictions, results: list[dict[str, Any]],
                 settings: dict[str, Any]) -> dict[str, float]:
        """Return PCKh of all predictions, whatever became results; see `pck.evaluate`."""
        return pck.evaluate(predictions.keypoints, predictions.bbox_ids, self._ground_truth)

    def _record(self, person: dict[str, Any], folder: Path) -> dict[str, Any]:
        count = self.info.num_joints
        center, scale = numbers(person['center'], 2), float(person['scale'])
        points = numbers(np.ravel(person['joints']), 2 * count).reshape(count, 2)
        labels = numbers(person['joints_vis'], count)
        if not ((np.abs([*points.flat, *center, *labels]) < MAX_COORDINATE).all() and 1e-9 < scale < MAX_COORDINATE):
            raise ValueError(f'center, scale, joints and joints_vis must be finite and below {MAX_COORDINATE:.0e}, and '
                             'the scale positive')
        if center[0] != -1:
            center[1] += CENTER_SHIFT * scale
        joints, visible = np.zeros((2, count, 3), np.float32)
        joints[:, :2], visible[:, :2] = points - 1, np.clip(labels, 0, 1)[:, None]
        return dict(image_file=str(folder / person['image']), image_id=person['image'], category_id=PERSON,
                    bbox_score=1.0, rotation=0.0, center=(center - 1).astype(np.float32),
                    scale=np.full(2, scale, np.float32), joints_3d=joints, joints_3d_visible=visible,
                    ann_info=self._ann_info)
