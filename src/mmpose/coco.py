"""COCO keypoint annotations and detector boxes as records for the top-down pipeline.

How the persons are numbered, and what a record holds, follows MMPose 0.29's TopDownCocoDataset; which annotations are
persons is decided in annotations.py.
"""
from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import InputError
from src.common.inputs import as_input_error, load_json, require_exists
from src.mmpose import distance_metrics
from src.mmpose.annotations import Annotation, read_annotations, read_box, remark
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import Predictions, evaluate
from src.mmpose.geometry import clip_box
from src.mmpose.pipeline import Compose


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
        records: dicts with image_file, image_id, category_id, bbox_id, rotation, bbox_score, joints_3d and
            joints_3d_visible (float32 (K, 3): x, y, 0 and label, label, 0) and ann_info, plus bbox or center and scale.
        annotated: whether there is ground truth to evaluate with.
        remarks: one line about what was mended and omitted; '' where nothing was.
        compose: the pipeline.
    """

    def __init__(self, info: DatasetInfo, image_size: tuple[int, int], heatmap_size: tuple[int, int],
                 pipeline: list[dict[str, Any]], seed: int = 0) -> None:
        """Make an empty data set; arguments as for `CocoDataset`."""
        self.info = info
        self.compose = Compose(_ensure_center_scale(pipeline))
        self.records: list[dict[str, Any]] = []
        self.remarks, self.annotated = '', True
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

    def flip_index(self, settings: dict[str, Any]) -> np.ndarray | None:
        """Return the permutation of keypoints for the flip test; None where `eval.flip_test` or the names forbid it."""
        return self.info.flip_index if settings['flip_test'] and self.info.can_flip else None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of a training sample's image (3, H, W), targets (K, h, w) and weights (K, 1)."""
        (width, height), (w, h) = (self._ann_info[key].tolist() for key in ('image_size', 'heatmap_size'))
        joints = self.info.num_joints
        return {'img': (3, height, width), 'target': (joints, h, w), 'target_weight': (joints, 1)}

    def sample(self, index: int, epoch: int = 0) -> dict[str, Any]:
        """Return the pipeline's output for a record, which depends on seed, epoch and index alone.

        Raises:
            InputError: the image can't be read, or is not of the annotated size.
        """
        results = self.load(index)
        return self.compose.rest({**results, 'rng': _streams.start(self._seed, epoch, index)})

    def load(self, index: int, image: np.ndarray | None = None) -> dict[str, Any]:
        """Return a copy of a record with its image in `img`, which is read where it is not given.

        Raises:
            InputError: the image can't be read, or is not of the annotated size.
        """
        record = self.records[index]
        return self.compose.load(dict(record)) if image is None else {**record, 'img': image}

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
    """Persons of a COCO keypoint file: annotated ones, or the boxes of a detector.

    Attributes:
        annotations: what the file holds.
    """

    def __init__(self, info: DatasetInfo, annotation_file: Path, image_dir: Path, image_size: tuple[int, int],
                 heatmap_size: tuple[int, int], pipeline: list[dict[str, Any]], *, detection_file: Path | None = None,
                 score_threshold: float = 0.0, seed: int = 0) -> None:
        """Read and check the files; images are read by `sample` only.

        Args:
            info: what the keypoints mean.
            annotation_file: COCO keypoint JSON; with a `detection_file` it need not have annotations.
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
        self.annotations = read_annotations(Path(annotation_file), info)
        self._image_dir = require_exists(Path(image_dir))
        self.remarks, self.annotated = self.annotations.remarks, bool(self.annotations.persons)
        # MMPose cuts the boxes of persons to the image, and takes those of hands and faces as they are.
        self._cut = detection_file is None and not info.parts
        if detection_file is None:
            self._add_persons()
        else:
            self._add_detections(Path(detection_file), score_threshold)

    def load(self, index: int, image: np.ndarray | None = None) -> dict[str, Any]:
        """Return a copy of a record with its image, see `TopDownDataset.load`; the image's size is checked."""
        results = super().load(index, image)
        if 'img' in results:
            self.annotations.check_size(results['image_id'], results['img'], results['image_file'])
            if self._cut and self.annotations.images[results['image_id']].size is None:
                height, width = results['img'].shape[:2]
                results['bbox'] = np.array(clip_box(results['bbox'], width, height) or results['bbox'], np.float64)
                self.records[index]['bbox'] = results['bbox']  # the metrics' unit
        return results

    def evaluate(self, predictions: Predictions, results: list[dict[str, Any]],
                 settings: dict[str, Any]) -> dict[str, float]:
        """Return the figures that `eval.metrics` asks for, AP's first; {} where nobody is annotated.

        Args:
            predictions: of all records; these are annotated persons where other metrics than AP are asked for.
            results: COCO results made of the predictions, for AP, which stands for all of COCO's scores.
            settings: the `eval` section of a configuration.
        """
        metrics = settings['metrics'] if self.annotated else ()
        scores = evaluate(results, self.annotations, sigmas=np.array(self.info.sigmas),
                          backend=settings['backend']) if 'AP' in metrics else {}
        if set(metrics) - {'AP'}:
            joints, visible, boxes = (np.stack([record[key] for record in self.records])
                                      for key in ('joints_3d', 'joints_3d_visible', 'bbox'))
            found = distance_metrics.evaluate(
                predictions.keypoints[..., :2], joints[..., :2], visible[..., 0], boxes,
                pck_threshold=settings['pck_threshold'], nme_keypoints=settings['nme_keypoints'])
            scores.update((metric, found[metric]) for metric in metrics if metric != 'AP')
        return scores

    def _add_persons(self) -> None:
        """Add the annotated persons, ordered by image and then as in the file; boxes, unless of parts, cut to it."""
        groups: dict[Any, list[Annotation]] = {image_id: [] for image_id in self.annotations.images}
        for person in self.annotations.persons:
            groups[person.image_id].append(person)
        for image_id, group in groups.items():
            size = self.annotations.images[image_id].size
            for number, person in enumerate(group):
                box = clip_box(person.box.tolist(), *size) if size and self._cut else person.box
                joints, visible = np.zeros((2, self.info.num_joints, 3), np.float32)
                joints[:, :2], visible[:, :2] = person.keypoints[:, :2], np.clip(person.keypoints[:, 2:], 0, 1)
                self._add(image_id, person.category_id, number, box, 1.0, joints, visible)
        if not self.records:
            raise InputError(f'{self.annotations.file}: no person with labelled keypoints; is it a person_keypoints '
                             f'file?{self.remarks and f" ({self.remarks})"}')

    def _add(self, image_id: Any, category_id: Any, bbox_id: int, box: Sequence[float], score: float,
             joints: np.ndarray, visible: np.ndarray) -> None:
        image_file = str(self._image_dir / self.annotations.images[image_id].file_name)
        self.records.append(dict(
            image_file=image_file, image_id=image_id, category_id=category_id, bbox_id=bbox_id,
            bbox=np.array(box, np.float64), bbox_score=score, rotation=0.0, joints_3d=joints, joints_3d_visible=visible,
            ann_info=self._ann_info))

    def _add_detections(self, file: Path, threshold: float) -> None:
        """Add a detector's boxes of our categories in file order, as they are: not cut to the image."""
        joints, visible = np.zeros((2, self.info.num_joints, 3), np.float32)
        visible += 1
        detections, omitted = load_json(file), Counter()
        if not isinstance(detections, list):
            raise InputError(f'{file}: not a list of detections; give a COCO result file')
        categories = self.annotations.categories
        for number, detection in enumerate(detections):
            with as_input_error(file, f'detection {number}'):
                image_id, score = detection['image_id'], float(detection['score'])
                box, category_id = read_box(detection['bbox']), detection.get('category_id', categories[0])
                if image_id not in self.annotations.images:
                    raise InputError(f'{file}: detection {number}: image {image_id!r} is not in '
                                     f'{self.annotations.file}')
                if not np.isfinite(score):
                    raise ValueError(f'its score is {score}')
                if category_id not in categories:
                    omitted['boxes of other categories'] += 1
                elif box is None:
                    omitted['boxes without extent'] += 1
                elif score >= threshold:
                    self._add(image_id, category_id, len(self.records), box, score, joints, visible)
        self.remarks = '; '.join(filter(None, (self.remarks, remark(file, omitted=omitted))))
        if not self.records:
            raise InputError(f'{file}: no box of category {", ".join(map(repr, categories))} with a score of '
                             f'{threshold} or more{self.remarks and f" ({self.remarks})"}')
