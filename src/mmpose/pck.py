"""PCKh, the score of the MPII Human Pose data set (Andriluka et al., CVPR 2014), by the rules of MMPose 0.29."""
from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from src.common.errors import InputError

# Keypoint numbers are MPII's: right leg upwards, left leg downwards, pelvis, thorax, neck, head top, right arm, left
# arm.
GROUPS = {'Head': (9,), 'Shoulder': (12, 13), 'Elbow': (11, 14), 'Wrist': (10, 15), 'Hip': (2, 3), 'Knee': (1, 4),
          'Ankle': (0, 5)}
PELVIS_THORAX = (6, 7)
HEAD_SIZE_PER_DIAGONAL = 0.6


def pckh(pred: np.ndarray, target: np.ndarray, visible: np.ndarray, head_sizes: np.ndarray,
         threshold: float = 0.5) -> dict[str, float]:
    """Return the percentages of keypoints found within `threshold` head sizes.

    Args:
        pred: (N, 16, 2) predicted keypoints in image pixels.
        target: (N, 16, 2) annotated keypoints, counted from the same origin.
        visible: (N, 16), 0 for keypoints that don't count.
        head_sizes: (N,) in pixels.
        threshold: Fraction of the head size.

    Returns:
        Head, Shoulder, Elbow, Wrist, Hip, Knee, Ankle (each the mean of left and right) and Mean, which is the mean of
        all keypoints except pelvis and thorax, weighted by how often they are visible; -1 where none is visible.
    """
    counted = np.asarray(visible) > 0
    close = np.linalg.norm(pred - target, axis=-1) / head_sizes[:, None] <= threshold
    found, count = (close & counted).sum(axis=0), counted.sum(axis=0)

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if values.size else -1.0

    rate = 100.0 * found / np.maximum(count, 1)
    groups = {name: np.array(members) for name, members in GROUPS.items()}
    scores = {name: mean(rate[members[count[members] > 0]]) for name, members in groups.items()}
    limbs = np.delete(np.arange(len(rate)), PELVIS_THORAX)
    total = count[limbs].sum()
    return {**scores, 'Mean': 100.0 * float(found[limbs].sum() / total) if total else -1.0}


def load_ground_truth(mat_file: Path | str, persons: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the content of `mpii_gt_val.mat`, which comes with the annotation files that MMPose's MPII guide links to.

    Args:
        persons: Their number in the annotation file that belongs to it (`mpii_val.json`).

    Returns:
        keypoints float64 (N, 16, 2) in image pixels counted from one, visible bool (N, 16), and head sizes (N,) in
        pixels: 0.6 of the diagonals of the head boxes.

    Raises:
        InputError: the file is missing, of another kind, or about other persons.
    """
    try:
        content = loadmat(mat_file)
        keypoints = content['pos_gt_src'].transpose(2, 0, 1).astype(np.float64)
        corners = content['headboxes_src'].transpose(2, 0, 1).astype(np.float64)
        visible = content['jnt_missing'].T == 0
        count = len(keypoints)
        if (keypoints.shape, visible.shape, corners.shape) != ((count, 16, 2), (count, 16), (count, 2, 2)):
            raise ValueError('its arrays do not fit together')
    except OSError as error:
        raise InputError(f'{mat_file}: cannot be read; PCKh takes the head sizes from it: put mpii_gt_val.mat beside '
                         'the annotation JSON') from error
    except Exception as error:  # loadmat raises many kinds on damaged files
        raise InputError(f'{mat_file}: not an MPII ground-truth file ({error}); get mpii_gt_val.mat anew') from error
    if count != persons:
        raise InputError(f'{mat_file}: holds {count} persons, the annotations {persons}; evaluate all of the '
                         'annotation file that belongs to it (mpii_val.json)')
    return keypoints, visible, HEAD_SIZE_PER_DIAGONAL * np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)


def evaluate(preds: np.ndarray, bbox_ids: np.ndarray,
             ground_truth: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[str, float]:
    """Return the PCKh of all persons of the MPII validation set, at 0.5 and at 0.1 head sizes.

    Args:
        preds: (M, 16, 2 or more) x, y in image pixels counted from zero.
        bbox_ids: (M,) places of the persons in `mpii_val.json`, each at least once; of equals the first stays.
        ground_truth: N persons' keypoints, visibility and head sizes from `load_ground_truth`.

    Returns:
        Head, Shoulder, Elbow, Wrist, Hip, Knee, Ankle, Mean, then the same names with `@0.1`; per cent.
    """
    keypoints, visible, head_sizes = ground_truth
    rows = np.unique(bbox_ids, return_index=True)[1]
    found = np.asarray(preds, np.float64)[rows, :, :2] + 1  # the file counts pixels from one
    scores = {suffix: pckh(found, keypoints, visible, head_sizes, threshold)
              for suffix, threshold in (('', 0.5), ('@0.1', 0.1))}
    return {name + suffix: value for suffix, group in scores.items() for name, value in group.items()}
