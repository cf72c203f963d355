"""Predict, draw and write the persons in all frames of all sources."""
from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.common.errors import InputError
from src.mmpose.annotations import PERSON
from src.mmpose.evaluation import Predictions, select, write_results
from src.prediction.boxes import Detector
from src.prediction.drawing import draw_poses
from src.prediction.output import OutputFolder
from src.prediction.pose_model import PoseModel
from src.prediction.sources import Frame, Source, count_frames, read_frames


class PredictionRun:
    """A model at work on sources of frames.

    Attributes:
        results: persons so far in COCO's result format, with `file_name` and, in videos, `frame`.
        frames: number of frames written so far.
        failures: number of sources that could not be read.
    """

    def __init__(self, model: PoseModel, sources: Sequence[Source], detect: Detector, folder: OutputFolder, *,
                 image_ids: dict[str, Any], nms: str | None, min_score: float) -> None:
        """Prepare a run; nothing is read or written before `run`.

        Args:
            model: the network.
            sources: what to look at.
            detect: gives the boxes of a frame's persons.
            folder: for the drawn images and videos and `results.json`.
            image_ids: file names (without folders) to image ids; other images are numbered.
            nms: among the persons of an image; None: as the model's configuration says.
            min_score: keypoints of a lower score are not drawn.
        """
        self._model, self._sources, self._detect, self._folder = model, sources, detect, folder
        self._image_ids, self._min_score = image_ids, min_score
        self._nms = nms or model.config['eval']['nms']
        self._pending: deque[Frame] = deque()
        self.results: list[dict[str, Any]] = []
        self.frames = self.failures = 0

    def run(self) -> None:
        """Go through all sources; what was found is written also when that is interrupted.

        An unreadable source is named on stderr, counted and omitted.
        """
        counts = [count_frames(source) for source in self._sources]
        next_id = max([0, *(i for i in self._image_ids.values() if isinstance(i, int))]) + 1
        with self._folder, tqdm(total=None if None in counts else sum(counts), unit='frame', disable=None) as bar:
            try:
                for keypoints, windows in self._model.predict_many(self._images()):
                    frame = self._pending.popleft()
                    image_id = self._image_ids.get(Path(frame.source.name).name) if frame.number is None else None
                    if image_id is None:
                        image_id, next_id = next_id, next_id + 1
                    self._write(frame, self._persons(frame, image_id, keypoints, windows))
                    bar.update()
            finally:
                if self.frames:
                    write_results(self.results, self._folder.path / 'results.json')

    def _images(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (image, boxes) of each frame."""
        for source in self._sources:
            try:
                for frame in read_frames(source):
                    self._pending.append(frame)
                    yield frame.image, self._detect(frame)
            except InputError as error:
                self.failures += 1
                tqdm.write(f'omitted: {error}', file=sys.stderr)

    def _persons(self, frame: Frame, image_id: Any, keypoints: np.ndarray, windows: np.ndarray) -> list[dict[str, Any]]:
        """Return a frame's persons after NMS as results."""
        settings = self._model.config['eval']
        count = len(keypoints)
        predictions = Predictions(keypoints, windows, [image_id] * count, [PERSON] * count, np.arange(count))
        persons = select(predictions, sigmas=np.array(self._model.info.sigmas),
                         visibility_threshold=settings['visibility_threshold'],
                         oks_threshold=settings['oks_threshold'], nms=self._nms)
        place = {} if frame.number is None else {'frame': frame.number}
        return [{**person, 'file_name': frame.source.name, **place} for person in persons]

    def _write(self, frame: Frame, persons: list[dict[str, Any]]) -> None:
        info = self._model.info
        keypoints = np.array([person['keypoints'] for person in persons], np.float32).reshape(-1, info.num_joints, 3)
        self._folder.add(frame, draw_poses(frame.image, keypoints, info.skeleton, info.joint_names, self._min_score))
        self.results += persons
        self.frames += 1
