"""The annotations of a COCO keypoint file: read once; every entry is taken, mended, omitted or refused by name.

Loading, scoring and the report take their persons from here, so all three agree on who is one, with what box and area.
The format is that of https://cocodataset.org/#format-data. The rules, where files of other tools depart from it:

- Persons are the annotations of the categories whose keypoints are the model's; others are omitted.
- How many keypoints are labelled is counted from the labels, whatever num_keypoints says.
- A person whose box is absent or empty, or lies outside the image, gets that of the labelled keypoints; one whose area
  is absent or not positive gets 0.53 of its box, as xtcocotools has it for data sets without areas; where the model's
  keypoints say that areas do not count, everyone does.
- People without labelled keypoints, and crowds, are no persons to find: as in COCO's scoring, who is found there is
  neither right nor wrong. Without a box they are omitted. The same goes in CrowdPose's files for people of whom no
  keypoint is in view, whose num_keypoints is 0 there.
- Where the model's keypoints are those of parts of COCO-WholeBody (hands, say), and the file has these, each part that
  it says is valid takes the place of a person.
- Ids may be any numbers or texts. Images and annotations have numbers of our own, from 1, for the scoring backends,
  which take the file's ids for truth values, array entries and sort keys.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json, numbers
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.geometry import clip_box
from src.mmpose.sides import split_name

PERSON = 1
MAX_COORDINATE = 1e9  # pixels; float32 arithmetic holds well beyond it
AREA_PER_BOX = 0.53


@dataclass(frozen=True)
class Image:
    """An image of the file."""
    number: int  # ours, from 1
    file_name: str  # below the image folder, with slashes
    size: tuple[float, float] | None  # (width, height) in pixels; None where the file does not say
    crowd_index: float | None = None  # CrowdPose's measure of how crowded it is, in [0, 1]; None in other files


@dataclass(frozen=True)
class Annotation:
    """A person, or people who are not to be found."""
    number: int  # ours, from 1
    id: Any  # the file's, as image_id and category_id are; of a part with its name
    image_id: Any
    category_id: Any
    keypoints: np.ndarray  # float64 (K, 3) x, y in pixels, label (0: not labelled)
    box: np.ndarray  # float64 (4,) x, y, width, height in pixels, as the file has it: not cut to the image
    area: float  # in square pixels
    crowd: bool  # whether it stands for several people


@dataclass
class Annotations:
    """What a COCO keypoint file holds for a model."""
    file: Path  # the file
    images: dict[Any, Image]  # by the file's ids, in its order
    categories: list[Any]  # ids of those whose annotations are persons
    persons: list[Annotation] = field(default_factory=list)  # annotations with labelled keypoints, in the file's order
    ignored: list[Annotation] = field(default_factory=list)  # crowds, and people without labelled keypoints
    mended: Counter[str] = field(default_factory=Counter)  # how many entries were mended, by what was done
    omitted: Counter[str] = field(default_factory=Counter)  # how many entries were omitted, by their kind

    @property
    def remarks(self) -> str:
        """One line about what was mended and omitted; '' where nothing was."""
        return remark(self.file, mended=self.mended, omitted=self.omitted)

    def check_size(self, image_id: Any, image: np.ndarray, path: str) -> None:
        """Compare an image (H, W, 3) as it was read from `path` with what the file says of it.

        Raises:
            InputError: its size is another, so that coordinates may be of another image or of it turned.
        """
        size, (height, width) = self.images[image_id].size, image.shape[:2]
        if size and size != (width, height):
            raise InputError(
                f'{path}: {width} x {height} pixels, but {size[0]:g} x {size[1]:g} by {self.file}; correct width and '
                'height there, or, if its coordinates are of the image without its EXIF rotation, give '
                "LoadImageFromFile color_type='color_ignore_orientation'")


def remark(file: Path, **counts: Counter[str]) -> str:
    """Return 'file: mended 2 boxes; omitted 3 images' of counters by verb; '' where they are empty."""
    parts = [f'{verb} ' + ', '.join(f'{count} {kind}' for kind, count in counter.items() if count)
             for verb, counter in counts.items() if sum(counter.values())]
    return f'{file}: {"; ".join(parts)}' if parts else ''


def read_annotations(file: Path, info: DatasetInfo) -> Annotations:
    """Read a COCO keypoint file, or an image_info file without annotations.

    Args:
        file: COCO JSON.
        info: the model's keypoints.

    Raises:
        InputError: the file is missing, of another kind, contradicts itself, or has no category with these keypoints.
    """
    content = load_json(file)
    if isinstance(content, list):
        raise InputError(f"{file}: a list, as MPII's annotations are; give keypoint annotations in COCO's format")
    with as_input_error(file, 'the file'):
        images = _by_id(file, 'image', content['images'])
        whole = _by_id(file, 'annotation', content.get('annotations', ()))
        entries = _split(whole, info.parts)
        # The categories' keypoints are those of whole persons.
        categories = content.get('categories', ()) if entries is whole else ()
        found = Annotations(file, {}, _person_categories(file, categories, entries, info))
    # COCO's scoring goes by the ids where scores are equal; texts have no order but the file's.
    ids = sorted(images) if all(type(image_id) is int for image_id in images) else images
    order = {image_id: number for number, image_id in enumerate(ids, 1)}
    for image_id, entry in images.items():
        with as_input_error(file, f'image {image_id}'):
            found.images[image_id] = _read_image(entry, order[image_id], found.mended)
    for number, (name, entry) in enumerate(entries.items(), 1):
        with as_input_error(file, f'annotation {name}'):
            _add_annotation(found, number, entry, info)
    return found


def _by_id(file: Path, kind: str, entries: Iterable[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    with as_input_error(file, f'an {kind}'):
        for entry in entries:
            if entry['id'] in found:
                raise InputError(f'{file}: duplicate {kind} id {entry["id"]!r}; give each an id of its own')
            found[entry['id']] = entry
    return found


def _split(entries: dict[Any, dict[str, Any]], parts: Sequence[str]) -> dict[Any, dict[str, Any]]:
    """Return an entry for each valid part of each person; the entries themselves where none of them has such parts."""
    if not any(f'{part}_kpts' in entry for entry in entries.values() for part in parts):
        return entries
    return {f'{name} {part}': dict({key: entry[key] for key in ('image_id', 'category_id', 'iscrowd') if key in entry},
                                   id=f'{name} {part}', keypoints=entry[f'{part}_kpts'], bbox=entry.get(f'{part}_box'))
            for name, entry in entries.items() for part in parts
            if f'{part}_kpts' in entry and entry.get(f'{part}_valid', True)}


def _person_categories(file: Path, categories: Sequence[dict[str, Any]], entries: dict[Any, dict[str, Any]],
                       info: DatasetInfo) -> list[Any]:
    """Return the ids of the categories that have the model's keypoints.

    They are known by the names of their keypoints, or else by the number of them. Where no category lists any, they
    are those whose annotations have that many, some labelled; without annotations COCO's person.
    """
    listed = {category['id']: category['keypoints'] for category in categories if category.get('keypoints')}
    if not listed:
        return (_labelled_categories(file, entries, info.num_joints)
                or [category['id'] for category in categories if category.get('name') == 'person'] or [PERSON])
    model, names = _spellings(info.joint_names), {key: _spellings(values) for key, values in listed.items()}
    same = [key for key, found in names.items() if found == model]
    for key, found in names.items():
        if not same and sorted(found) == sorted(model):
            raise InputError(f"{file}: category {key!r} has the model's keypoints in another order; give them in the "
                             f'order {", ".join(info.joint_names)}')
    same = same or [key for key, found in names.items() if len(found) == len(model)]
    if not same:
        counts = ', '.join(f'{key!r} has {len(found)}' for key, found in names.items())
        raise InputError(f'{file}: no category has the {len(model)} keypoints of the model ({counts}); choose the '
                         '--model_config or --data.info that is for these annotations')
    return same


def _labelled_categories(file: Path, entries: dict[Any, dict[str, Any]], count: int) -> list[Any]:
    """Return the ids of the categories that have annotations of `count` keypoints, some of them labelled."""
    found: list[Any] = []
    for name, entry in entries.items():
        with as_input_error(file, f'annotation {name}'):
            category, values = entry.get('category_id', PERSON), entry.get('keypoints') or ()
            if (category not in found and np.shape(values) in ((3 * count,), (count, 3))
                    and (read_keypoints(values, count)[:, 2] > 0).any()):
                found.append(category)
    return found


def _spellings(names: Iterable[Any]) -> list[list[str]]:
    """Return the words of each name in an order of ours: L_Eye, eye-left and leftEye are the same."""
    return [sorted(split_name(str(name))) for name in names]


def _read_image(entry: dict[str, Any], number: int, mended: Counter[str]) -> Image:
    name = entry['file_name']
    if not isinstance(name, str):
        raise TypeError(f'its file_name is {name!r}')
    if '\\' in name:
        name = name.replace('\\', '/')
        mended['file names (backslashes)'] += 1
    width, height = (float(entry.get(key) or 0) for key in ('width', 'height'))
    known = 0 < width < math.inf and 0 < height < math.inf
    if not known:
        mended['image sizes (taken from the images)'] += 1
    crowd_index = entry.get('crowdIndex')
    return Image(number, name, (width, height) if known else None, None if crowd_index is None else float(crowd_index))


def _add_annotation(found: Annotations, number: int, entry: dict[str, Any], info: DatasetInfo) -> None:
    """Read an annotation into the persons or those ignored, or count it among the omitted."""
    if entry['image_id'] not in found.images:
        raise InputError(f'{found.file}: annotation {entry["id"]!r}: image {entry["image_id"]!r} is not in the file')
    category = entry.get('category_id', found.categories[0])
    if category not in found.categories:
        found.omitted['annotations of other categories'] += 1
        return
    keypoints, image = read_keypoints(entry.get('keypoints'), info.num_joints), found.images[entry['image_id']]
    labelled, crowd, listed = keypoints[:, 2] > 0, bool(int(entry.get('iscrowd') or 0)), entry.get('num_keypoints')
    in_crowdpose, size = image.crowd_index is not None, image.size  # there only keypoints in view are listed
    person = bool(labelled.any()) and not crowd and not (in_crowdpose and listed == 0)
    box, area = read_box(entry.get('bbox')), float(entry.get('area') or 0)
    if labelled.any() and not _is_inside(box, size):
        low, high = keypoints[labelled, :2].min(0), keypoints[labelled, :2].max(0)
        box = read_box([*low, *(high - low)])
        box = box if _is_inside(box, size) else None
        found.mended['boxes (taken from the labelled keypoints)'] += box is not None
    if box is None:
        found.omitted['annotations without a usable box'] += 1
        return
    if not (info.use_area and 0 < area < math.inf):
        area = AREA_PER_BOX * box[2] * box[3]
        found.mended['areas (0.53 of the box)'] += person and info.use_area and not info.parts  # parts have none
    found.mended['values of num_keypoints (counted from the labels)'] += not in_crowdpose and listed not in (
        None, labelled.sum())
    annotation = Annotation(number, entry['id'], entry['image_id'], category, keypoints, box, area, crowd)
    (found.persons if person else found.ignored).append(annotation)


def _is_inside(box: np.ndarray | None, size: tuple[float, float] | None) -> bool:
    """Return whether there is a box and some of it lies in an image of that size, if that is known."""
    return box is not None and (size is None or clip_box(box.tolist(), *size) is not None)


def read_keypoints(values: Any, count: int) -> np.ndarray:
    """Return `count` keypoints, given flat, as (count, 3), or not at all, as float64 (count, 3) x, y, label.

    Where nothing is labelled, coordinates may be null or not-a-number; they become 0.

    Raises:
        TypeError, ValueError: they are something else.
    """
    if values is None or len(values) == 0:
        return np.zeros((count, 3))
    array = np.array(values, np.float64)
    if array.shape not in ((3 * count,), (count, 3)):
        raise ValueError(f'{3 * count} numbers expected where there are {array.size}')
    array = array.reshape(count, 3)
    usable, labels = np.abs(array) < MAX_COORDINATE, array[:, 2]
    if usable.all():
        return array
    usable = usable[:, :2]
    if (np.isnan(labels) & usable.any(1)).any():
        raise ValueError('a keypoint has coordinates and no label')
    labels[np.isnan(labels)] = 0
    if not (usable.all(1) | (labels <= 0)).all():
        raise ValueError(f'its labelled keypoints are not all finite and below {MAX_COORDINATE:.0e}')
    array[:, :2][~usable] = 0
    return array


def read_box(values: Any) -> np.ndarray | None:
    """Return x, y, width, height as float64 (4,), None where it is absent, empty, negative or not finite.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if values is None or (isinstance(values, (list, tuple)) and not values):
        return None
    if np.shape(values) == (2, 2):
        raise ValueError('its bbox is two corners; give [x, y, width, height]')
    box = numbers(values, 4)
    return box if (np.abs(box) <= MAX_COORDINATE).all() and box[2] > 0 and box[3] > 0 else None
