"""Chooses, reorders and derives joints of a COCO-format annotation file: a set of joints of one's own from another's.

    python tools/select_joints.py --annotations train17.json --output train14.json --name lsp \
        --joints right_ankle right_knee neck=left_shoulder+right_shoulder head_top=

`neck=a+b` is the middle of two joints, labelled where both are; `head_top=` is a joint that nobody labelled yet.
Persons left without a labelled joint are left out; limbs between chosen joints stay.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, run
from src.common.files import atomic_path
from src.common.inputs import as_input_error, load_json, numbers
from src.mmpose.own_data import read_category


def parse_joints(words: list[str], known: list[str]) -> dict[str, list[int]]:
    """`name`, `name=a+b` or `name=` to numbers of the joints that each new joint is the middle of.

    Raises:
        InputError: a joint is not among the known, or a name is given twice.
    """
    joints: dict[str, list[int]] = {}
    for word in words:
        name, equals, parts = word.partition('=')
        sources = parts.split('+') if parts else [] if equals else [name]
        for source in sources:
            if source not in known:
                raise InputError(f'--joints {word}: {source!r} is not among {", ".join(known)}')
        if name in joints:
            raise InputError(f'--joints: {name} is given twice')
        joints[name] = [known.index(source) for source in sources]
    return joints


def derive(keypoints: np.ndarray, sources: list[list[int]]) -> np.ndarray:
    """New joints (J, 3) of a person's (K, 3): means of their sources, labelled as the worst labelled of them."""
    result = np.zeros((len(sources), 3))
    for row, chosen in zip(result, sources):
        if chosen and (keypoints[chosen, 2] > 0).all():
            row[:2], row[2] = keypoints[chosen, :2].mean(0), keypoints[chosen, 2].min()
    return result


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--annotations', required=True, metavar='FILE', help='COCO keypoint annotations')
    parser.add_argument('--output', required=True, metavar='FILE', help='annotation file to write')
    parser.add_argument('--joints', required=True, nargs='+', metavar='JOINT', help='name, name=a+b or name=')
    parser.add_argument('--name', metavar='NAME', help="the category's new name (default: the old one)")
    options = parser.parse_args(argv)
    file = Path(options.annotations)
    content, category = load_json(file), read_category(file)
    joints = parse_joints(options.joints, category['joint_names'])
    numbers_of = {sources[0]: number for number, sources in enumerate(joints.values(), 1) if len(sources) == 1}
    limbs = [[numbers_of[a], numbers_of[b]] for a, b in category['skeleton'] if a in numbers_of and b in numbers_of]
    persons: list[dict[str, Any]] = []
    for annotation in content['annotations']:
        with as_input_error(file, f'annotation {annotation.get("id")}'):
            if annotation.get('keypoints'):
                old = numbers(annotation['keypoints'], 3 * len(category['joint_names'])).reshape(-1, 3)
                new = derive(old, list(joints.values()))
                if new[:, 2].any():
                    persons.append({**annotation, 'keypoints': np.round(new, 3).ravel().tolist(),
                                    'num_keypoints': int((new[:, 2] > 0).sum())})
    content['categories'] = [{**entry, 'keypoints': list(joints), 'skeleton': limbs,
                              'name': options.name or entry.get('name', 'own')}
                             for entry in content['categories'] if entry.get('keypoints')]
    with atomic_path(options.output) as path:
        path.write_text(json.dumps({**content, 'annotations': persons}))
    print(f'{options.output}: {len(persons)} of {len(content["annotations"])} annotations, {len(joints)} joints, '
          f'{len(limbs)} limbs')
    return 0


if __name__ == '__main__':
    run(main)
