"""A COCO root of drawn figures: images, exact keypoints, and the boxes that a person detector might find.

The keypoints are COCO's seventeen, with visibility 2 where seen, 1 where hidden and 0 outside the image.
"""
from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from configs.coco_base import dataset_info
from src.common.errors import InputError
from src.synthetic.scene import Person, random_scene

MARKER = 'synthetic.json'  # lies in every data set made here; a folder without it is never overwritten
DETECTIONS = 'person_detection_results/COCO_val2017_detections_AP_H_56_person.json'
CONTENT = {MARKER, 'annotations', 'person_detection_results', 'train2017', 'val2017'}
CATEGORY = dict(supercategory='person', id=1, name='person', keypoints=list(dataset_info['joint_names']),
                skeleton=[[start + 1, end + 1] for start, end in dataset_info['skeleton']])


def _annotation(person: Person, number: int, image_id: int) -> dict:
    return dict(id=number, image_id=image_id, category_id=1, iscrowd=0, area=person.area, bbox=list(person.box),
                num_keypoints=int(np.count_nonzero(person.keypoints[:, 2])),
                keypoints=[round(value, 2) for value in person.keypoints.ravel().tolist()])


def _make_split(folder: Path, name: str, first_id: int, count: int, seed: list[int], image_size: tuple[int, int],
                max_persons: int) -> dict:
    """Write the images and the annotation file of one split; return the content of the file."""
    (folder / name).mkdir()
    images, annotations = [], []
    for image_id in tqdm(range(first_id, first_id + count), name, unit='image', disable=None):
        image, persons = random_scene(np.random.default_rng([*seed, image_id]), image_size, max_persons)
        file_name = f'{image_id:012d}.jpg'
        if not cv2.imwrite(str(folder / name / file_name), image):
            raise InputError(f'{folder / name / file_name}: cannot be written; is the disk full?')
        images.append(dict(id=image_id, file_name=file_name, width=image_size[0], height=image_size[1]))
        annotations += [_annotation(person, first_id + len(annotations) + number, image_id)
                        for number, person in enumerate(persons)]
    content = dict(info=dict(description='drawn figures, made by tools/make_synthetic_coco.py'), licenses=[],
                   categories=[CATEGORY], images=images, annotations=annotations)
    (folder / 'annotations' / f'person_keypoints_{name}.json').write_text(json.dumps(content))
    return content


def _detections(content: dict, rng: np.random.Generator) -> list[dict]:
    """Return the boxes of an imagined detector: one near every person, a second near some, some around nothing."""
    detections = []

    def report(image_id: int, box: np.ndarray, score: float) -> None:
        detections.append(dict(image_id=image_id, category_id=1, bbox=np.round(box, 2).tolist(), score=round(score, 4)))

    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        extent = np.array([width, height, width, height])
        for spread, low, high, chance in ((0.03, 0.7, 0.999, 1.), (0.08, 0.05, 0.5, 0.3)):
            if rng.random() < chance:
                left, top, right, bottom = (x, y, x + width, y + height) + rng.normal(0, spread, 4) * extent
                box = np.array([left, top, max(right - left, 0.3 * width), max(bottom - top, 0.3 * height)])
                report(annotation['image_id'], box, rng.uniform(low, high))
    for image in content['images']:
        if rng.random() < 0.3:
            size = rng.uniform(0.2, 0.5, 2) * (image['width'], image['height'])
            corner = rng.uniform(0, 1, 2) * ((image['width'], image['height']) - size)
            report(image['id'], np.concatenate([corner, size]), rng.uniform(0.01, 0.3))
    return detections


def make_dataset(output: Path, train: int, val: int, seed: int, image_size: tuple[int, int] = (256, 256),
                 max_persons: int = 3, overwrite: bool = False) -> None:
    """Write a whole data set; it appears under its name only when it is complete.

    Args:
        output: folder to make; it may exist if it is empty.
        val: number of validation images; these get a detection file too.
        seed: not negative; equal arguments give equal files.
        image_size: width and height of the images in pixels.
        max_persons: persons per image are drawn from 1 to this number.
        overwrite: replace a data set that was made here before.

    Raises:
        InputError: `output` is in use, holds files of others, or cannot be written.
    """
    output = Path(output).resolve()
    used = output.exists() and not (output.is_dir() and not any(output.iterdir()))
    if used and not (output / MARKER).is_file():
        raise InputError(f'{output}: exists and was not made by this tool; choose another folder')
    if used and not overwrite:
        raise InputError(f'{output}: exists; choose another folder or pass --overwrite')
    others = sorted({path.name for path in output.iterdir()} - CONTENT) if used else []
    if others:
        raise InputError(f'{output}: holds {others[0]}, which this tool did not make; move it or choose another folder')
    stage = output.with_name(f'.{output.name}.{os.getpid()}.part')
    try:
        (stage / 'annotations').mkdir(parents=True)
        (stage / DETECTIONS).parent.mkdir()
        _make_split(stage, 'train2017', 1, train, [seed, 0], image_size, max_persons)
        content = _make_split(stage, 'val2017', 100_001, val, [seed, 1], image_size, max_persons)
        (stage / DETECTIONS).write_text(json.dumps(_detections(content, np.random.default_rng([seed, 2]))))
        (stage / MARKER).write_text(json.dumps(dict(train=train, val=val, seed=seed, image_size=list(image_size),
                                                    max_persons=max_persons)))
        if used:
            shutil.rmtree(output)
        stage.rename(output)
    except OSError as error:
        raise InputError(f'{output}: cannot be written ({error.strerror}); choose another folder') from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
