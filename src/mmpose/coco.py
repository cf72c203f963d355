"""COCO keypoint annotations and detector boxes as records for the top-down pipeline.

Which persons count, and how they are numbered, follows MMPose 0.29's TopDownCocoDataset; the file formats are
those of https://cocodataset.org/#format-data and of its keypoint results.
"""
from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json, numbers, require_exists
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import Predictions, evaluate
from src.mmpose.geometry import clip_box
from src.mmpose.transforms import Compose

PERSON = 1
MAX_COORDINATE = 1e9  # pixels; float32 arithmetic holds well beyond it


def _ensure_center_scale(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # In older MMPose 0.x the data set made centre and scale of the box, and pipelines had no step for it.
    types = [step.get('type') for step in pipeline if isinstance(step, dict)]
    if 'TopDownAffine' not in types or 'TopDownGetBboxCenterScale' in types:
        return pipeline
    at = int(types[0] == 'LoadImageFromFile')
    return [*pipeline[:at], dict(type='TopDownGetBboxCenterScale'), *pipeline[at:]]


class _Streams(threading.local):
    """Random numbers of samples: each (seed, epoch, index) has a stream of its own, by a counter-based generator.

    One generator per thread is set to the stream's start, which takes a fifth of the time of making a new one.
    """

    def __init__(self) -> None:
        self._rng = np.random.Generator(np.random.Philox(key=0))
        self._state = self._rng.bit_generator.state

    def start(self, seed: int, epoch: int, index: int) -> np.random.Generator:
        """Return the generator Philox(key=seed, counter=(0, index, epoch, 0)), good until this thread's next call."""
        self._state['state'] = {'key': np.array((seed, 0), np.uint64),
                                'counter': np.array((0, index, epoch, 0), np.uint64)}
        self._rng.bit_generator.state = self._state
        return self._rng


_streams = _Streams()


class TopDownDataset:
    """Records of one person each, and the pipeline that makes samples of them.

    Attributes:
        info: what the keypoints mean.
        records: dicts with image_file, image_id, bbox_id, rotation, bbox_score, joints_3d and joints_3d_visible
            (float32 (K, 3): x, y, 0 and label, label, 0) and ann_info, plus bbox or center and scale.
        categories: ids of the categories that have these keypoints (1, a person, unless the file says otherwise).
        skipped: number of persons or boxes omitted because their box is empty, negative or not finite.
        compose: the pipeline.
    """

    def __init__(self, info: DatasetInfo, image_size: tuple[int, int], heatmap_size: tuple[int, int],
                 pipeline: list[dict[str, Any]], seed: int = 0) -> None:
        """Make an empty data set; arguments as for `CocoDataset`."""
        self.info = info
        self.compose = Compose(_ensure_center_scale(pipeline))
        self.records: list[dict[str, Any]] = []
        self.categories, self.skipped = [PERSON], 0
        self._seed = seed
        # glibc hands memory back to the system according to the largest block freed so far. Without a big one, each
        # sample faults its pages in anew, which can cost as much as all steps but decoding.
        np.empty(2 ** 24, np.uint8)
        self._ann_info = dict(image_size=np.array(image_size), heatmap_size=np.array(heatmap_size),
                              num_joints=info.num_joints, flip_pairs=info.flip_pairs,
                              flip_index=info.flip_index if info.can_flip else None, upper_body_ids=info.upper_body)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def sample(self, index: int, epoch: int = 0) -> dict[str, Any]:
        """Return the pipeline's output for a record, which depends on seed, epoch and index alone.

        Raises:
            InputError: the image can't be read.
        """
        return self.compose({**self.records[index], 'rng': _streams.start(self._seed, epoch, index)})

    def crop(self, image: np.ndarray, box: Sequence[float], score: float = 1.0) -> dict[str, Any]:
        """Return the output of the pipeline, but for its reading step, for a box of an image in memory.

        Args:
            image: (H, W, 3) uint8, BGR.
            box: x, y, width, height in pixels.
            score: of the box.
        """
        joints = np.zeros((self.info.num_joints, 3), np.float32)
        return self.compose.rest(dict(img=image, image_file='', image_id=0, bbox_id=0, rotation=0.0, joints_3d=joints,
                                      bbox=np.asarray(box, np.float64), bbox_score=float(score),
                                      joints_3d_visible=joints, ann_info=self._ann_info))

    def groups(self) -> list[list[int]]:
        """Return the numbers of the records of each image, images in the order of their first record."""
        groups: dict[Any, list[int]] = {}
        for index, record in enumerate(self.records):
            groups.setdefault(record['image_id'], []).append(index)
        return list(groups.values())


class CocoDataset(TopDownDataset):
    """Persons of a COCO keypoint file: annotated ones, or the boxes of a detector."""

    def __init__(self, info: DatasetInfo, annotation_file: Path, image_dir: Path, image_size: tuple[int, int],
                 heatmap_size: tuple[int, int], pipeline: list[dict[str, Any]], *, detection_file: Path | None = None,
                 score_threshold: float = 0.0, seed: int = 0) -> None:
        """Read and check the files; images are read by `sample` only.

        Args:
            info: what the keypoints mean.
            annotation_file: COCO keypoint JSON.
            image_dir: folder of its images.
            image_size: (width, height) of the network's input in pixels.
            heatmap_size: (width, height) of the heatmaps.
            pipeline: steps of `Compose`.
            detection_file: JSON list of boxes to use in place of the annotated persons; these have no keypoints.
            score_threshold: boxes of a lower score are omitted.
            seed: start of all random numbers.

        Raises:
            InputError: a file or folder is missing, no such format, contradicts itself, or leaves nothing to do.
        """
        super().__init__(info, image_size, heatmap_size, pipeline, seed)
        self._file, self._image_dir = Path(annotation_file), Path(image_dir)
        content = load_json(self._file)
        with as_input_error(self._file, 'the file'):
            images, annotations = content['images'], content['annotations']
            self.categories = [category['id'] for category in content.get('categories', ())
                               if category.get('keypoints')] or [PERSON]
        require_exists(self._image_dir)
        self._images = self._by_id('image', images)
        annotations = self._by_id('annotation', annotations)
        if detection_file is None:
            self._add_annotations(annotations.values())
        else:
            self._add_detections(Path(detection_file), score_threshold)

    def evaluate(self, predictions: Predictions, results: list[dict[str, Any]], backend: str) -> dict[str, float]:
        """Return COCO's ten scores of the results made of the predictions, see `evaluation.evaluate`."""
        return evaluate(results, self._file, sigmas=np.array(self.info.sigmas), backend=backend)

    def _by_id(self, what: str, items: Sequence[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
        found: dict[Any, dict[str, Any]] = {}
        with as_input_error(self._file, f'an {what}'):
            for item in items:
                if item['id'] in found:
                    raise InputError(f'{self._file}: duplicate {what} id {item["id"]}; give each a number of its own')
                found[item['id']] = item
        return found

    def _add_annotations(self, annotations: Iterable[dict[str, Any]]) -> None:
        """Add the persons, ordered by image and then as in the file."""
        persons: dict[Any, list[dict[str, Any]]] = {image_id: [] for image_id in self._images}
        for annotation in annotations:
            what = f'annotation {annotation["id"]}'
            with as_input_error(self._file, what):
                if annotation['image_id'] not in persons:
                    raise InputError(f'{self._file}: {what}: image {annotation["image_id"]!r} is not in the file')
                person = self._person(annotation)
                if person:
                    person['bbox_id'] = len(persons[annotation['image_id']])
                    persons[annotation['image_id']].append(person)
        self.records = [person for group in persons.values() for person in group]
        if not self.records:
            raise InputError(f'{self._file}: no person with a box and labelled joints; is it a person_keypoints file?')

    def _person(self, annotation: dict[str, Any]) -> dict[str, Any] | None:
        """Return an annotation's record without bbox_id, None where it is a crowd, unlabelled or without box."""
        if annotation.get('iscrowd', 0) or not {'bbox', 'keypoints'} <= annotation.keys():
            return None
        if annotation.get('category_id', self.categories[0]) not in self.categories:
            return None
        image = self._images[annotation['image_id']]
        keypoints = numbers(annotation['keypoints'], 3 * self.info.num_joints).reshape(-1, 3)
        if not (np.abs(keypoints) < MAX_COORDINATE).all():
            raise ValueError(f'its keypoints are not all finite and below {MAX_COORDINATE:.0e}')
        box = numbers(annotation['bbox'], 4)
        box = clip_box(box.tolist(), image['width'], image['height']) if np.isfinite(box).all() else None
        if not box or not annotation.get('area', 1) > 0:
            self.skipped += 1
            return None
        labelled = np.clip(keypoints[:, 2], 0, 1)
        if not (labelled > 0).any() or annotation.get('num_keypoints') == 0:
            return None
        joints, visible = np.zeros((2, self.info.num_joints, 3), np.float32)
        joints[:, :2], visible[:, :2] = keypoints[:, :2], labelled[:, None]
        return self._record(annotation['image_id'], box, 1.0, joints, visible)

    def _record(self, image_id: Any, box: Sequence[float], score: float, joints: np.ndarray,
                visible: np.ndarray) -> dict[str, Any]:
        return dict(image_file=str(self._image_dir / self._images[image_id]['file_name']), image_id=image_id,
                    bbox=np.array(box, np.float64), bbox_score=score, rotation=0.0, joints_3d=joints,
                    joints_3d_visible=visible, ann_info=self._ann_info)

    def _add_detections(self, file: Path, threshold: float) -> None:
        """Add a detector's boxes of our categories in file order, as they are: not cut to the image."""
        joints, visible = np.zeros((2, self.info.num_joints, 3), np.float32)
        visible += 1
        detections = load_json(file)
        if not isinstance(detections, list):
            raise InputError(f'{file}: not a list of detections; give a COCO result file')
        for number, detection in enumerate(detections):
            with as_input_error(file, f'detection {number}'):
                box, score = numbers(detection['bbox'], 4), float(detection['score'])
                if detection['image_id'] not in self._images:
                    raise InputError(f'{file}: detection {number}: image {detection["image_id"]!r} '
                                     f'is not in {self._file}')
                if not np.isfinite(score):
                    raise ValueError(f'its score is {score}')
                if detection['category_id'] not in self.categories or score < threshold:
                    continue
                if not (np.isfinite(box).all() and box[2] > 0 and box[3] > 0):
                    self.skipped += 1
                    continue
                self.records.append(self._record(detection['image_id'], box, score, joints, visible))
                self.records[-1]['bbox_id'] = len(self.records) - 1
        if not self.records:
            raise InputError(f'{file}: no box of category {self.categories} with a score of {threshold} or more')
