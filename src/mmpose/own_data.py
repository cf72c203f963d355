"""The joints of a user's own data set: read from its annotation file, with what the user says in addition.

COCO's format names joints (`keypoints`) and limbs (`skeleton`, counted from 1) in the `categories` of an annotation
file. Mirror pairs follow from the names. OKS sigmas and the upper body stand in no annotation file.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json
from src.mmpose.dataset_info import DatasetInfo, mirror_pairs

# COCO's sigmas run from 0.025 (eyes) to 0.107 (hips). Those of a new kind of joint are unknown; one value between them
# makes scores comparable with each other, not with COCO's.
DEFAULT_SIGMA = 0.05


def read_category(file: Path) -> dict[str, Any]:
    """Name, joint names and limbs (from zero) of an annotation file's category with keypoints.

    Several categories may share one set of joints.

    Raises:
        InputError: no category names its joints, two differ in them, or a limb's joint does not exist.
    """
    content = load_json(file)
    with as_input_error(file, 'categories'):
        named = [category for category in content['categories'] if category.get('keypoints')]
        if not named:
            raise InputError(f'{file}: no entry of categories names its keypoints; add them there, or give them as '
                             'joint_names in a JSON file by --data.info')
        joints = [str(name) for name in named[0]['keypoints']]
        for category in named[1:]:
            if category['keypoints'] != named[0]['keypoints']:
                raise InputError(f'{file}: categories {named[0]["name"]!r} and {category["name"]!r} have different '
                                 'keypoints; make a file for each of them')
        limbs = [(int(a), int(b)) for a, b in named[0].get('skeleton') or ()]
        for limb in limbs:
            if not all(1 <= joint <= len(joints) for joint in limb):
                raise InputError(f'{file}: skeleton of category {named[0]["name"]!r}: {list(limb)} is no pair of '
                                 f'joints counted from 1 to {len(joints)}')
        return dict(name=str(named[0].get('name', file.stem)), joint_names=joints,
                    skeleton=[(a - 1, b - 1) for a, b in limbs])


def complete_info(given: dict[str, Any], annotation_file: Path) -> dict[str, Any]:
    """A whole `dataset_info` dict from some of its keys, or none.

    Args:
        given: any keys of `DatasetInfo`. Joints may be named or numbered from zero; `sigmas` may be one number.
        annotation_file: tells the joints where `given` has no `joint_names`.

    Returns:
        What was given, and for the rest: flip_pairs by the names, the file's skeleton, sigmas `DEFAULT_SIGMA`, no
        upper body (then the half-body augmentation does nothing).

    Raises:
        InputError: the file tells no joints, or `given` does not fit them.
    """
    base = read_category(annotation_file) if 'joint_names' not in given else dict(name='own', skeleton=())
    info = {**base, 'sigmas': DEFAULT_SIGMA, 'upper_body': (), **given}
    with as_input_error(annotation_file, 'dataset_info'):
        names = info['joint_names'] = [str(name) for name in info['joint_names']]
        info.setdefault('flip_pairs', mirror_pairs(names))
        numbers = {name: number for number, name in enumerate(names)}
        for key in ('flip_pairs', 'skeleton'):
            info[key] = [[numbers.get(joint, joint) for joint in pair] for pair in info[key]]
        info['upper_body'] = [numbers.get(joint, joint) for joint in info['upper_body']]
    if isinstance(info['sigmas'], (int, float)):
        info['sigmas'] = [info['sigmas']] * len(names)
    DatasetInfo.from_dict(info)
    return info


def whole_info(info: dict[str, Any] | str | None, annotation_files: Sequence[Path]) -> dict[str, Any]:
    """A configuration's `data.info` with all its keys.

    Args:
        info: a whole dict (returned as it is), some keys of one, the path of a JSON file with some, or None.
        annotation_files: the first that exists tells what is missing, see `complete_info`.

    Raises:
        InputError: a file is missing or not what it should be.
    """
    given = load_json(Path(info)) if isinstance(info, str) else info or {}
    if not isinstance(given, dict):
        raise InputError(f'data.info {info}: not a JSON object with keys such as joint_names and sigmas')
    if {field.name for field in fields(DatasetInfo)} <= given.keys():
        return given
    return complete_info(given, next((file for file in annotation_files if file.is_file()), annotation_files[0]))
