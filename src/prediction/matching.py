"""Which source a file name means that stands in a JSON file."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from src.common.errors import InputError
from src.prediction.sources import Source, split_path

Parts = tuple[str, ...]


def _common(one: Parts, other: Parts) -> int:
    """Return the number of equal parts at the ends of two paths."""
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count


def match_names(names: Iterable[str], sources: Sequence[Source], file: Path) -> dict[str, list[Source]]:
    """Return the sources that file names mean: several where a file was given several times.

    A name fits a source if it is the end of its path. It may also begin with folders that are not here, if what the
    source is called (its path below the folder that was given) is the end of the name, and no other name's folders
    are closer to the source's. The longest common end decides between several. Names that fit nothing are omitted.

    Args:
        names: paths, or ends of them, with slashes or backslashes.

    Raises:
        InputError: a name means two sources, or two names one.
    """
    split = {name: split_path(name) for name in names}
    namesakes: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        namesakes[source.parts[-1]].append(source)
    folders: dict[Parts, set[Parts]] = defaultdict(set)
    for parts in split.values():
        folders[parts[-2:-1]].add(parts[:-1])
    closest = {folder: max((_common(folder, other) for other in folders[folder[-1:]]), default=0)
               for folder in {source.parts[:-1] for source in sources}}

    ranks: dict[tuple[str, Source], tuple[int, bool, bool]] = {}
    for name, parts in split.items():
        for source in namesakes.get(parts[-1] if parts else '', ()):
            own, folder, common = split_path(source.name), source.parts[:-1], _common(parts[:-1], source.parts[:-1])
            if common == len(parts) - 1 or closest[folder] == common >= len(own) - 1:
                ranks[name, source] = common, common == len(parts) - 1, own == parts
    best: dict[object, tuple[int, bool, bool]] = {}
    for pair, rank in ranks.items():
        for end in pair:
            best[end] = max(rank, best.get(end, rank))
    found: dict[str, list[Source]] = defaultdict(list)
    chosen: dict[Parts, str] = {}
    for (name, source), rank in ranks.items():
        if rank == best[name] == best[source]:
            first, other = found[name][:1], chosen.setdefault(source.parts, name)
            if first and first[0].parts != source.parts:
                raise InputError(f'{file}: {name} may be {first[0]} or {source}; give more of its path')
            if split[other] != split[name]:
                raise InputError(f'{file}: {other} and {name} may both be {source}; give an input whose folder tells')
            found[name].append(source)
    return dict(found)


def match_ids(names: dict[Any, str], sources: Sequence[Source], file: Path) -> dict[Source, Any]:
    """Return the image ids of the sources that an annotation file has, whose names by image id are given.

    Raises:
        InputError: a name means two sources, or two names or ids one.
    """
    matches, found = match_names(names.values(), sources, file), {}
    for image_id, name in names.items():
        for source in matches.get(name, ()):
            if source in found:
                raise InputError(f'{file}: {source} is image {found[source]!r} and image {image_id!r}; give each image '
                                 'one id')
            found[source] = image_id
    return found
