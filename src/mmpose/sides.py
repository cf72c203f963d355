"""Left and right, by the names of keypoints.

Users name the two sides in many ways: left_ear, LEar, earL, lear, leftear, FL_paw, linkes Ohr, oreille gauche, 左耳. A
side that is missed, or seen in a word that only looks like one, trains a network on mirrored images with wrong labels.
So two keypoints are a pair only where both names exist and differ in the side alone, and names that speak of a side
but have no partner are returned, for the caller not to mirror anything.
"""
from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

Words = tuple[str, ...]

# Alone, at the start of a longer word, or behind three letters of it (not in upright). In this order: English, German
# and Dutch, French, Spanish, Italian, Portuguese, Latin, Russian; then Chinese and Japanese, Korean, anywhere.
_RUSSIAN = '(?:ый|ая|ое|ые|ого|ой|ому|ую|ым|ых)'
LEFT = f'left(?!over)|links|linke[mnrs]?|gauche|izquierd[ao]|sinistr[ao]|esquerd[ao]|sinister|лев{_RUSSIAN}'
RIGHT = f'right|rechts|rechte(?!ck)[mnrs]?|droite?|derech[ao]|destr[ao]|direit[ao]|dexter|прав{_RUSSIAN}'
LEFT_CHARACTERS, RIGHT_CHARACTERS = '左|ひだり|왼쪽?|좌측', '右|みぎ|오른쪽?|우측'
_SIDE = re.compile(rf'(?:^|(?<=\w\w\w))(?:({LEFT})|({RIGHT}))|({LEFT_CHARACTERS})|({RIGHT_CHARACTERS})')
# Too short, or too common otherwise, to be a side unless the other name exists.
ABBREVIATIONS = {'lft': 'rgt', 'li': 're', 'izq': 'der', 'izqda': 'dcha', 'izqdo': 'dcho', 'sx': 'dx', 'esq': 'dir',
                 'g': 'd'}
OTHER = {'left': 'right', 'right': 'left'}


def split_name(name: str) -> Words:
    """Return the words of a name, sides as 'left' and 'right': LEar, l_ear and 'Left ear' are all ('left', 'ear').

    A letter L or R is a side beside another word, not beside numbers alone (L5 is a vertebra).
    """
    words: list[str] = []
    for word in re.findall(r'[^\W\d_]\d+|[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+', unicodedata.normalize('NFKC', name)):
        word, start = word.lower(), 0
        for side in _SIDE.finditer(word):
            words += [word[start:side.start()], 'left' if side[1] or side[3] else 'right']
            start = side.end()
        words.append(word[start:])
    words = [word for word in words if word]
    letters = {'l': 'left', 'r': 'right'} if sum(not word.isdigit() for word in words) > 1 else {}
    return tuple(letters.get(word, word) for word in words)


def side_of(name: str) -> str | None:
    """Return 'left' or 'right' where a keypoint's name says so by itself, else None."""
    return next((word for word in split_name(name) if word in OTHER), None)


def mirror_pairs(names: Sequence[str]) -> tuple[list[tuple[int, int]], list[str]]:
    """Return the mirror pairs of keypoints, and the names that lack theirs.

    Returns:
        (left, right) numbers of the keypoints whose names differ in their side alone, in ascending order; and the
        names with a side that has no partner, or more than one. All other keypoints are their own mirror image.
    """
    words = [split_name(name) for name in names]
    numbers = {entry: number for number, entry in enumerate(words)}
    letters = {word for entry in words for word in entry if len(word) == 1}
    free = {number for number, entry in enumerate(words) if words.count(entry) == 1}
    pairs, lacking = [], {number for number, entry in enumerate(words) if not OTHER.keys().isdisjoint(entry)}
    for reflections in (_all_exchanged, _one_exchanged, lambda entry: _letter_exchanged(entry, letters)):
        edges = [(left, numbers[entry]) for left in sorted(free) for entry in reflections(words[left])
                 if numbers.get(entry) in free]
        degree = Counter(number for edge in edges for number in edge)
        found = [edge for edge in edges if degree[edge[0]] == degree[edge[1]] == 1]
        pairs += found
        lacking |= degree.keys()
        free.difference_update(*found)
        lacking.difference_update(*found)
    return sorted(pairs), [names[number] for number in sorted(lacking)]


def _all_exchanged(words: Words) -> Iterator[Words]:
    """Yield a left name with all its sides exchanged: left_eye_left_corner is mirrored to right_eye_right_corner."""
    if next((word for word in words if word in OTHER), None) == 'left':
        yield tuple(OTHER.get(word, word) for word in words)


def _one_exchanged(words: Words) -> Iterator[Words]:
    """Yield a left name with one of several sides exchanged: l_knee_l may be the lateral side of the left knee."""
    for at, word in enumerate(words):
        if word == 'left':
            yield (*words[:at], 'right', *words[at + 1:])


def _letter_exchanged(words: Words, letters: set[str]) -> Iterator[Words]:
    """Yield a name without a side word with an abbreviation exchanged, or one l: lear, FL_paw, earL1.

    Args:
        letters: All words of one letter; where those between l and r are there too, it is an alphabet.
    """
    if not OTHER.keys().isdisjoint(words):
        return
    for at, word in enumerate(words):
        mirrored = [word[:i] + 'r' + word[i + 1:] for i, letter in enumerate(word) if letter == 'l']
        mirrored += [ABBREVIATIONS[word]] if word in ABBREVIATIONS else []
        for other in mirrored:
            between = map(chr, range(ord(min(word, other)[0]) + 1, ord(max(word, other)[0])))
            if len(word) > 1 or not letters.issuperset(between):
                yield (*words[:at], other, *words[at + 1:])
