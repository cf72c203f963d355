"""What a keypoint data set means by its joints: names, mirror pairs, limbs, OKS sigmas."""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from src.common.errors import InputError

SIDES = {'left': 'left', 'l': 'left', 'right': 'right', 'r': 'right'}


def _parts(name: str) -> tuple[str, ...]:
    """The words of a joint's name, sides spelt out: L_Eye, l_eye, leftEye and 'left eye' are all ('left', 'eye')."""
    words = re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+', name)
    return tuple(SIDES.get(word.lower(), word.lower()) for word in words)


def side_of(name: str) -> str | None:
    """'left' or 'right' where a joint's name says so."""
    return next((part for part in _parts(name) if part in ('left', 'right')), None)


def mirror_pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """(left, right) numbers of the joints whose names differ in their side alone."""
    numbers = {_parts(name): number for number, name in enumerate(names)}
    pairs = []
    for parts, left in numbers.items():
        mirrored = tuple('right' if part == 'left' else part for part in parts)
        if mirrored != parts and mirrored in numbers:
            pairs.append((left, numbers[mirrored]))
    return pairs


@dataclass(frozen=True)
class DatasetInfo:
    """Joints of a data set. All joint numbers count from zero.

    Attributes:
        name: Short name, e.g. `coco`.
        joint_names: K names, in the order of the annotations and of the heatmaps.
        flip_pairs: (left, right) joints that change places in a mirrored image.
        skeleton: (joint, joint) limbs, for drawing.
        sigmas: K OKS falloffs, as fractions of the square root of the person's area.
        upper_body: Joints of the upper half of the body, for the half-body augmentation.
    """
    name: str
    joint_names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    skeleton: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[int, ...]

    @property
    def num_joints(self) -> int:
        """Number of joints K."""
        return len(self.joint_names)

    def __str__(self) -> str:
        """One line: joints, mirror pairs, and what the lack of an upper body means."""
        named = ', '.join(self.joint_names[:6]) + (', ...' if self.num_joints > 6 else '')
        upper = '' if self.upper_body else '; no upper body known: no half-body augmentation'
        return f'{self.name}: {self.num_joints} joints ({named}), {len(self.flip_pairs)} mirror pairs{upper}'

    @property
    def flip_index(self) -> np.ndarray:
        """Permutation int64 (K,) that exchanges left and right: `joints[flip_index]`."""
        index = np.arange(self.num_joints)
        for left, right in self.flip_pairs:
            index[[left, right]] = right, left
        return index

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DatasetInfo:
        """Makes the info from a config's `dataset_info` dict, whose keys are the attributes above.

        Raises:
            InputError: a key is missing, unknown or of the wrong type, or its numbers don't fit the joints.
        """
        names = [field.name for field in fields(cls)]
        for key in [*values, *names]:
            if key not in names or key not in values:
                raise InputError(f'dataset_info: key {key!r} is {"missing" if key in names else "unknown"}; '
                                 f'the keys are {", ".join(names)}')
        try:
            info = cls(str(values['name']), tuple(values['joint_names']),
                       *(tuple((int(a), int(b)) for a, b in values[key]) for key in ('flip_pairs', 'skeleton')),
                       tuple(map(float, values['sigmas'])), tuple(map(int, values['upper_body'])))
        except (TypeError, ValueError) as error:
            raise InputError(f'dataset_info {values["name"]!r}: {error}; '
                             'give lists of names, pairs or numbers') from error
        info._check()
        return info

    def _check(self) -> None:
        joints = set(range(self.num_joints))
        flipped = [joint for pair in self.flip_pairs for joint in pair]
        problems = {
            'joint_names': not joints or len(set(self.joint_names)) != self.num_joints,
            'flip_pairs': not joints.issuperset(flipped) or len(set(flipped)) != len(flipped),
            'skeleton': not joints.issuperset(joint for limb in self.skeleton for joint in limb),
            'sigmas': len(self.sigmas) != self.num_joints or not all(sigma > 0 for sigma in self.sigmas),
            'upper_body': not joints.issuperset(self.upper_body),
        }
        for key, wrong in problems.items():
            if wrong:
                raise InputError(f'dataset_info {self.name!r}: {key} {getattr(self, key)} does not fit '
                                 f'{self.num_joints} joints (distinct names, numbers below {self.num_joints}, '
                                 f'one positive sigma per joint, no joint in two pairs)')
