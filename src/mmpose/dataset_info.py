"""What the keypoints of a data set mean: names, mirror pairs, limbs, OKS sigmas."""
from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from src.common.errors import InputError

PARTS = ('lefthand', 'righthand', 'face', 'foot')  # of a person in COCO-WholeBody's files
# What follows from the names of MMPose's data sets: the parts they are of, and those scored without areas.
MMPOSE_PARTS = {'coco_wholebody_hand': ('lefthand', 'righthand'), 'coco_wholebody_face': ('face',)}
MMPOSE_WITHOUT_AREAS = ('aic', 'crowdpose', 'mhp')


@dataclass(frozen=True)
class DatasetInfo:
    """Keypoints of a data set, numbered from zero."""
    name: str  # short name, e.g. `coco`
    joint_names: tuple[str, ...]  # K names, in the order of the annotations and of the heatmaps
    flip_pairs: tuple[tuple[int, int], ...]  # (left, right) keypoints that change places in a mirrored image
    skeleton: tuple[tuple[int, int], ...]  # (keypoint, keypoint) limbs, for drawing
    sigmas: tuple[float, ...]  # K OKS falloffs, as fractions of the square root of the person's area
    upper_body: tuple[int, ...]  # keypoints of the upper half of the body, for the half-body augmentation
    # Names of a side whose mirror partner is unknown. While there are any nothing is mirrored.
    unpaired_sides: tuple[str, ...] = ()
    # Those of `PARTS` that these are the keypoints of: in files with COCO-WholeBody's keys each is a person.
    parts: tuple[str, ...] = ()
    use_area: bool = True  # whether OKS goes by the annotated areas; otherwise by 0.53 of the boxes

    @property
    def num_joints(self) -> int:
        """Return the number of keypoints K."""
        return len(self.joint_names)

    def __str__(self) -> str:
        """Return one line: keypoints, which of them are mirrored to which, and what augmentations are off and why."""
        paired = {self.joint_names[number] for pair in self.flip_pairs for number in pair}
        alone = tuple(name for name in self.joint_names if name not in paired.union(self.unpaired_sides))
        upper = '' if self.upper_body else '; no upper body known: no half-body augmentation'
        sides = '' if self.can_flip else (
            f'; flipping is off, in training and in the flip test: no mirror partner found for '
            f'{_listed(self.unpaired_sides)}; give flip_pairs by --data.info')
        return (f'{self.name}: {self.num_joints} keypoints ({_listed(self.joint_names)}), mirror pairs: '
                f'{len(self.flip_pairs)}, mirrored onto themselves: {_listed(alone) or "none"}{upper}{sides}')

    @property
    def can_flip(self) -> bool:
        """Return whether mirrored images have known labels."""
        return not self.unpaired_sides

    @property
    def flip_index(self) -> np.ndarray:
        """Return the permutation int64 (K,) that exchanges left and right: `keypoints[flip_index]`."""
        index = np.arange(self.num_joints)
        for left, right in self.flip_pairs:
            index[[left, right]] = right, left
        return index

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DatasetInfo:
        """Return the info of a configuration's `dataset_info`, whose keys are the attributes above.

        Raises:
            InputError: a key is missing, unknown or of the wrong type, or its numbers do not fit the keypoints.
        """
        names = [field.name for field in fields(cls)]
        for key in [*values, *REQUIRED_KEYS]:
            if key not in names or key not in values:
                raise InputError(f'dataset_info: key {key!r} is {"missing" if key in names else "unknown"}; '
                                 f'the keys are {", ".join(names)}')
        try:
            info = cls(str(values['name']), tuple(values['joint_names']),
                       *(tuple((int(a), int(b)) for a, b in values[key]) for key in ('flip_pairs', 'skeleton')),
                       tuple(map(float, values['sigmas'])), tuple(map(int, values['upper_body'])),
                       *(tuple(map(str, values.get(key, ()))) for key in ('unpaired_sides', 'parts')),
                       values.get('use_area', True))
        except (TypeError, ValueError) as error:
            raise InputError(f'dataset_info {values["name"]!r}: {error}; '
                             'give lists of names, pairs or numbers') from error
        info._check()
        return info

    def _check(self) -> None:
        if not set(self.parts) <= set(PARTS) or not isinstance(self.use_area, bool):
            raise InputError(f'dataset_info {self.name!r}: parts {list(self.parts)} and use_area {self.use_area!r} do '
                             f'not fit: parts takes some of {", ".join(PARTS)}, use_area true or false')
        numbers = set(range(self.num_joints))
        mirrored = [number for pair in self.flip_pairs for number in pair]
        faults = {
            'joint_names': not numbers or len(set(self.joint_names)) != self.num_joints,
            'flip_pairs': not numbers.issuperset(mirrored) or len(set(mirrored)) != len(mirrored),
            'skeleton': not numbers.issuperset(number for limb in self.skeleton for number in limb),
            'sigmas': len(self.sigmas) != self.num_joints or not all(sigma > 0 for sigma in self.sigmas),
            'upper_body': not numbers.issuperset(self.upper_body),
        }
        for key, faulty in faults.items():
            if faulty:
                raise InputError(f'dataset_info {self.name!r}: {key} {getattr(self, key)} does not fit '
                                 f'{self.num_joints} keypoints (distinct names, numbers below {self.num_joints}, '
                                 f'one positive sigma per keypoint, no keypoint in two pairs)')


REQUIRED_KEYS = tuple(field.name for field in fields(DatasetInfo) if field.default is MISSING)


def from_mmpose(values: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of `DatasetInfo` that an MMPose 0.x `dataset_info` gives.

    They stand in its keypoint_info, skeleton_info and, unless that is empty, sigmas; parts and use_area follow from
    its name. Its joint_weights and colours are left out: nothing here reads them.

    Raises:
        InputError: names the first entry that does not fit.
    """
    name = str(values.get('dataset_name', 'own'))
    try:
        points = sorted(values['keypoint_info'].items(), key=lambda item: int(item[0]))  # JSON has texts as keys
        numbers = {str(point['name']): number for number, (_, point) in enumerate(points)}
        if [int(key) for key, _ in points] != list(range(len(numbers))):
            raise ValueError(f'keypoint_info is not numbered 0 to {len(points) - 1} with distinct names')
        pairs = {tuple(sorted((number, numbers[point['swap']]))) for number, (_, point) in enumerate(points)
                 if point.get('swap') and point['swap'] != point['name']}
        found = dict(name=name, joint_names=list(numbers), flip_pairs=sorted(pairs),
                     skeleton=[tuple(numbers[end] for end in limb['link'])
                               for limb in (values.get('skeleton_info') or {}).values()],
                     upper_body=[number for number, (_, point) in enumerate(points) if point.get('type') == 'upper'])
    except KeyError as error:
        raise InputError(f'dataset_info {name!r}: no entry or keypoint {error}; correct it in keypoint_info or '
                         'skeleton_info') from error
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f'dataset_info {name!r}: {error}; keypoint_info and skeleton_info are dicts of numbered '
                         'dicts, as in MMPose') from error
    return {**found, **({'sigmas': values['sigmas']} if values.get('sigmas') else {}),
            **({'parts': MMPOSE_PARTS[name]} if name in MMPOSE_PARTS else {}),
            **({'use_area': False} if name in MMPOSE_WITHOUT_AREAS else {})}


def _listed(names: tuple[str, ...]) -> str:
    """Return the first six names, and dots for the rest."""
    return ', '.join(names[:6]) + (', ...' if len(names) > 6 else '')
