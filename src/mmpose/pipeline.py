"""Pipelines: lists of dicts, one for each step of `src.mmpose.transforms`, built, checked and run."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

import cv2

from src.common.errors import InputError, nearest
from src.mmpose import transforms
from src.mmpose.photometric import PhotometricDistortion, Results
from src.mmpose.transforms import TRANSFORMS

# Steps of MMPose that have no place before a Lite-HRNet, and why.
_OTHER_TASKS = {
    'Albumentation': 'its package is no longer maintained; use PhotometricDistortion, or leave it out',
    'TopDownGenerateTargetRegression': 'it makes the coordinates that a regression network learns, not heatmaps; use '
                                       'TopDownGenerateTarget',
    'MultitaskGatherTarget': 'it makes targets for a network with several heads; use the pipeline of one of them',
    'RenameKeys': 'the other steps need their keys; rename in Collect: keys=[(key, new name)]',
    'MultiItemProcess': 'it is for several views of a scene; use its pipeline alone',
    'DiscardDuplicatedItems': 'it is for several views of a scene; leave it out',
    'LoadVideoFromFile': 'it is for clips; use LoadImageFromFile, and tools/predict.py for videos',
}

# The annotations of the steps' fields, as they stand in the source, and what a config may write for them.
_ACCEPTED = {'bool': bool, 'int': int, 'float': (int, float), 'str': str,
             'dict': dict, **{f'Sequence[{item}]': (list, tuple) for item in ('int', 'float', 'str')}}


class Compose:
    """A pipeline: `compose(record)` runs it; `load` and `rest` run its two halves, for many boxes of one image."""

    def __init__(self, pipeline: Sequence[dict[str, Any]]) -> None:
        """Build the steps.

        Args:
            pipeline: Dicts with `type`, a key of `TRANSFORMS`, and that class's arguments.

        Raises:
            InputError: an unknown type or argument, or one of the wrong type; it names the nearest valid one.
        """
        self.steps = [*map(_build, pipeline)]
        _tell_channels(self.steps)
        for first, second in zip(self.steps[:-1], self.steps[1:]):
            if isinstance(first, transforms.ToTensor) and isinstance(second, transforms.NormalizeTensor):
                second.from_bytes = True
                self.steps.remove(first)
        self._first = int(bool(self.steps) and isinstance(self.steps[0], transforms.LoadImageFromFile))

    def __call__(self, results: Results) -> Results:
        """Return the sample that all steps make of a record, which is changed in place."""
        return self.rest(self.load(results))

    def load(self, results: Results) -> Results:
        """Run the leading LoadImageFromFile, if there is one."""
        return self._run(self.steps[:self._first], results)

    def rest(self, results: Results) -> Results:
        """Run the steps after it; `img` may be shared between the boxes of an image."""
        return self._run(self.steps[self._first:], results)

    @staticmethod
    def _run(steps: Sequence[Any], results: Results) -> Results:
        file = results.get('image_file')
        for step in steps:
            try:
                results = step(results)
            except cv2.error as error:
                reason = f'{type(step).__name__} fails ({" ".join(error.err.split())})'
                raise InputError(f'{file or "image"}: {reason}; replace the file or leave it out') from error
        return results


def _tell_channels(steps: Sequence[Any]) -> None:
    """Tell the steps that see colours whether channels are in the reverse of the order that MMPose has them in."""
    reverse = not any(isinstance(step, transforms.LoadImageFromFile) and step.channel_order == 'bgr' for step in steps)
    for step in steps:
        if isinstance(step, (PhotometricDistortion, transforms.TopDownAffine)):
            step.reverse = reverse
        reverse = reverse and not isinstance(step, transforms.TopDownAffine)


def _build(spec: dict[str, Any]) -> Any:
    if not isinstance(spec, dict) or not isinstance(spec.get('type'), str):
        raise InputError(f'pipeline: {spec!r} is no step; write dict(type=..., ...)')
    kind = spec['type']
    if kind in _OTHER_TASKS:
        raise InputError(f'pipeline: {kind} is not taken: {_OTHER_TASKS[kind]}')
    if kind not in TRANSFORMS:
        raise InputError(f'pipeline: type {kind!r} is unknown; {nearest(kind, TRANSFORMS)}')
    known = {item.name: item for item in fields(TRANSFORMS[kind]) if item.init}
    arguments = {key: value for key, value in spec.items() if key != 'type'}
    for key, value in arguments.items():
        if key not in known:
            raise InputError(f'pipeline: {kind} has no argument {key!r}; {nearest(key, known)}')
        if kind == 'TopDownGenerateTarget' and _is_for_stages(key, value):
            raise InputError(f'pipeline: {kind}: the list {key} is for networks of several outputs, one target '
                             f'each (MSPN, RSN); a Lite-HRNet has one: give the last, {value[-1]!r}, alone')
        if not isinstance(value, _ACCEPTED[known[key].type]) or isinstance(value, bool) != (known[key].type == 'bool'):
            raise InputError(f'pipeline: {kind}: {key}={value!r} is no {known[key].type}')
        if 'prob' in key and not 0 <= value <= 1:
            raise InputError(f'pipeline: {kind}: {key}={value!r} is no probability; give 0 to 1')
    missing = [key for key, item in known.items()
               if item.default is item.default_factory is MISSING and key not in arguments]
    if missing:
        raise InputError(f'pipeline: {kind} needs the argument {missing[0]!r}')
    try:
        return TRANSFORMS[kind](**arguments)
    except ValueError as error:
        raise InputError(str(error) if isinstance(error, InputError) else f'pipeline: {spec}: {error}') from error


def _is_for_stages(key: str, value: Any) -> bool:
    several = isinstance(value, (list, tuple)) and len(value) > 0
    return several and (key in ('sigma', 'valid_radius_factor')
                        or (key == 'kernel' and any(isinstance(item, (list, tuple)) for item in value)))
