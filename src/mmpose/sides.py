"""Left and right, told by the names of keypoints."""
from __future__ import annotations

import re
from collections.abc import Sequence

SIDES = {'left': 'left', 'l': 'left', 'right': 'right', 'r': 'right'}


def split_name(name: str) -> tuple[str, ...]:
    """Return the words of a name, sides spelt out: L_Eye, leftEye and 'left eye' are all ('left', 'eye')."""
    words = re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+', name)
    return tuple(SIDES.get(word.lower(), word.lower()) for word in words)


def side_of(name: str) -> str | None:
    """Return 'left' or 'right' where a keypoint's name says so, else None."""
    return next((word for word in split_name(name) if word in ('left', 'right')), None)


def mirror_pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the (left, right) numbers of the keypoints whose names differ in their side alone."""
    numbers = {split_name(name): number for number, name in enumerate(names)}
    pairs = []
    for words, left in numbers.items():
        mirrored = tuple('right' if word == 'left' else word for word in words)
        if mirrored != words and mirrored in numbers:
            pairs.append((left, numbers[mirrored]))
    return pairs
