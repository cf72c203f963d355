"""The keypoints of a user's own data set: those of its annotation file, and what the user gives beside it.

COCO's format names keypoints (`keypoints`) and limbs (`skeleton`, counted from 1) in the `categories` of an annotation
file. Mirror pairs follow from the names. OKS sigmas and the upper body stand in no annotation file.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.sides import mirror_pairs

# COCO's sigmas run from 0.025 (eyes) to 0.107 (hips). Those of a new kind of keypoint are unknown; one value between
# them makes scores comparable with each other, not with COCO's.
DEFAULT_SIGMA = 0.05


def read_category(file: Path) -> dict[str, Any]:
    """Return name, joint_names and skeleton (from zero) of an annotation file's category with keypoints.

    Several categories may share one set of keypoints.

    Raises:
        InputError: no category names its keypoints, two differ in them, or a limb's keypoint does not exist.
    """
    content = load_json(file)
    with as_input_error(file, 'categories'):
        named = [category for category in content['categories'] if category.get('keypoints')]
        if not named:
            raise InputError(f'{file}: no entry of categories names its keypoints; add them there, or give them as '
                             'joint_names in a JSON file by --data.info')
        names = [str(name) for name in named[0]['keypoints']]
        for category in named[1:]:
            if category['keypoints'] != named[0]['keypoints']:
                raise InputError(f'{file}: categories {named[0]["name"]!r} and {category["name"]!r} have different '
                                 'keypoints; make a file for each of them')
        limbs = [(int(a), int(b)) for a, b in named[0].get('skeleton') or ()]
        for limb in limbs:
            if not all(1 <= number <= len(names) for number in limb):
                raise InputError(f'{file}: skeleton of category {named[0]["name"]!r}: {list(limb)} is no pair of '
                                 f'keypoints counted from 1 to {len(names)}')
        return dict(name=str(named[0].get('name', file.stem)), joint_names=names,
                    skeleton=[(a - 1, b - 1) for a, b in limbs])


def resolve_info(info: dict[str, Any] | str | None, annotation_files: Sequence[Path]) -> dict[str, Any]:
    """Return a configuration's `data.info` with all keys of `DatasetInfo`.

    Args:
        info: A dict with all keys (returned as it is) or some of them, the path of a JSON file with some, or None.
            In a dict with some, keypoints may be named or numbered from zero, and `sigmas` may be one number.
        annotation_files: The first that exists gives the keypoints where `info` has no `joint_names`.

    Returns:
        What `info` has, and for the rest: flip_pairs by the names, the file's skeleton, sigmas `DEFAULT_SIGMA`, no
        upper body (then the half-body augmentation does nothing).

    Raises:
        InputError: a file is missing or malformed, gives no keypoints, or `info` does not fit them.
    """
    given = load_json(Path(info)) if isinstance(info, str) else info or {}
    if not isinstance(given, dict):
        raise InputError(f'data.info {info}: not a JSON object with keys such as joint_names and sigmas')
    if {field.name for field in fields(DatasetInfo)} <= given.keys():
        return given
    file = next((file for file in annotation_files if file.is_file()), annotation_files[0])
    category = read_category(file) if 'joint_names' not in given else dict(name='own', skeleton=())
    merged = {**category, 'sigmas': DEFAULT_SIGMA, 'upper_body': (), **given}
    with as_input_error(file, 'dataset_info'):
        names = merged['joint_names'] = [str(name) for name in merged['joint_names']]
        merged.setdefault('flip_pairs', mirror_pairs(names))
        numbers = {name: number for number, name in enumerate(names)}
        for key in ('flip_pairs', 'skeleton'):
            merged[key] = [[numbers.get(keypoint, keypoint) for keypoint in pair] for pair in merged[key]]
        merged['upper_body'] = [numbers.get(keypoint, keypoint) for keypoint in merged['upper_body']]
    if isinstance(merged['sigmas'], (int, float)):
        merged['sigmas'] = [merged['sigmas']] * len(names)
    DatasetInfo.from_dict(merged)
    return merged
