"""The keypoints of a user's own data set: those of its annotation file, and what the user gives beside it.

COCO's format names keypoints (`keypoints`) and limbs (`skeleton`) in the `categories` of an annotation file. Mirror
pairs follow from the names. OKS sigmas and the upper body stand in no annotation file.
"""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.common.errors import InputError, nearest
from src.common.inputs import as_input_error, load_json
from src.mmpose.dataset_info import DatasetInfo, from_mmpose
from src.mmpose.sides import mirror_pairs

# COCO's sigmas run from 0.025 (eyes) to 0.107 (hips). Those of a new kind of keypoint are unknown; one value between
# them makes scores comparable with each other, not with COCO's.
DEFAULT_SIGMA = 0.05


def read_category(file: Path, *, skeleton: bool = True) -> dict[str, Any]:
    """Return name, joint_names and skeleton (from zero) of an annotation file's category with keypoints.

    Several categories may share one set of keypoints.

    Args:
        file: COCO keypoint JSON.
        skeleton: Whether it is wanted; a malformed one does no harm otherwise.

    Raises:
        InputError: no category names its keypoints, two differ in them, or the skeleton does not fit them.
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
        limbs = named[0].get('skeleton') or ()
        return dict(name=str(named[0].get('name', file.stem)), joint_names=names,
                    **({'skeleton': _number_limbs(file, limbs, len(names))} if skeleton else {}))


def _number_limbs(file: Path, limbs: Any, keypoints: int) -> list[tuple[int, int]]:
    """Return limbs numbered from zero: as they are where one has a 0, else they count from 1, as COCO's."""
    try:
        pairs = [(int(a), int(b)) for a, b in limbs]
        first = 0 if any(0 in pair for pair in pairs) else 1
        for pair in pairs:
            if not all(first <= number < first + keypoints for number in pair):
                raise ValueError(f'{list(pair)} is no pair of numbers from {first} to {first + keypoints - 1}')
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f'{file}: the skeleton does not fit its {keypoints} keypoints ({error}); correct it, or give '
                         'skeleton in a JSON file by --data.info') from error
    return [(a - first, b - first) for a, b in pairs]


def resolve_info(info: dict[str, Any] | str | None, annotation_files: Sequence[Path]) -> dict[str, Any]:
    """Return a configuration's `data.info` with all keys of `DatasetInfo`.

    Args:
        info: A dict with keys of `DatasetInfo`, the path of a JSON file with some, or None. Keypoints may be named or
            numbered from zero, and `sigmas` may be one number; a dict that needs no change is returned as it is. A
            dict of MMPose 0.x (`from_mmpose`) will do as well.
        annotation_files: The first that exists gives the keypoints where `info` has no `joint_names`.

    Returns:
        What `info` has, and for the rest: flip_pairs by the names (and the names that lack a partner, which turns
        flipping off), the file's skeleton, sigmas `DEFAULT_SIGMA`, no upper body (then the half-body augmentation
        does nothing).

    Raises:
        InputError: a file is missing or malformed, gives no keypoints, or `info` does not fit them.
    """
    given = load_json(Path(info)) if isinstance(info, str) else info or {}
    if not isinstance(given, dict):
        raise InputError(f'data.info {info}: not a JSON object with keys such as joint_names and sigmas')
    if 'keypoint_info' in given:
        given = from_mmpose(given)
    with suppress(InputError):
        DatasetInfo.from_dict(given)
        return given
    file = next((file for file in annotation_files if file.is_file()), annotation_files[0])
    category = {} if 'joint_names' in given else read_category(file, skeleton='skeleton' not in given)
    merged = {'name': 'own', 'skeleton': (), 'sigmas': DEFAULT_SIGMA, 'upper_body': (), **category, **given}
    with as_input_error(info if isinstance(info, str) else 'data.info', 'an entry'):
        names = merged['joint_names'] = [str(name) for name in merged['joint_names']]
        if 'flip_pairs' not in given:
            merged['flip_pairs'], unpaired = mirror_pairs(names)
            if unpaired:  # settings saved before there was such a key stay equal
                merged['unpaired_sides'] = unpaired
        numbers = {name: number for number, name in enumerate(names)}

        def number(keypoint: Any) -> Any:
            if isinstance(keypoint, str) and keypoint not in numbers:
                raise InputError(f'data.info: no keypoint {keypoint!r}; {nearest(keypoint, names)}')
            return numbers.get(keypoint, keypoint)

        for key in ('flip_pairs', 'skeleton'):
            merged[key] = [[*map(number, pair)] for pair in merged[key]]
        merged['upper_body'] = [*map(number, merged['upper_body'])]
    if isinstance(merged['sigmas'], (int, float)):
        merged['sigmas'] = [merged['sigmas']] * len(names)
    DatasetInfo.from_dict(merged)
    return merged
