"""Predict, draw and write the persons in all frames of all sources."""
from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from src.common.errors import InputError
from src.common.files import require_writable
from src.common.progress_bar import ProgressBar
from src.mmpose.evaluation import Predictions, select, write_results
from src.prediction.boxes import Boxes, Detector
from src.prediction.drawing import draw_poses
from src.prediction.output import OutputFolder
from src.prediction.pose_model import PoseModel
from src.prediction.sources import Frame, Source, count_frames, read_frames


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the block has ended, and raise KeyboardInterrupt then."""
    received: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: received.append(number))
                for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            raise KeyboardInterrupt


class PredictionRun:
    """A model at work on sources of frames.

    Attributes:
        results: persons so far in COCO's result format, with `file_name` and, in videos, `frame`.
        frames: number of frames written so far.
        completed: sources that were read to their end.
        failed: sources that could not be read, processed or written.
    """

    def __init__(self, model: PoseModel, sources: Sequence[Source], detect: Detector, folder: OutputFolder, *,
                 image_ids: dict[Source, Any], category_id: Any, nms: str | None, min_score: float) -> None:
        """Prepare a run; nothing is read or written before `run`.

        Args:
            model: the network.
            sources: what to look at.
            detect: gives the boxes of a frame's persons.
            folder: for the drawn images and videos and `results.json`.
            image_ids: of images; others are numbered.
            category_id: of persons whose box has none.
            nms: among the persons of an image; None: as the model's configuration says.
            min_score: keypoints of a lower score are not drawn.
        """
        self._model, self._sources, self._detect, self._folder = model, sources, detect, folder
        self._image_ids, self._category_id, self._min_score = image_ids, category_id, min_score
        self._next_id = max([0, *(i for i in image_ids.values() if isinstance(i, int))]) + 1
        self._nms = nms or model.config['eval']['nms']
        self._pending: deque[tuple[Frame, Boxes]] = deque()
        self._open: Source | None = None
        self._unwritable: set[Source] = set()
        self.results: list[dict[str, Any]] = []
        self.frames = 0
        self.completed: set[Source] = set()
        self.failed: set[Source] = set()

    def run(self) -> None:
        """Go through all sources; what was found is written also when that is interrupted.

        A source that can't be read, processed or written is named on stderr and omitted.

        Raises:
            InputError: nothing can be written to the folder.
        """
        file = self._folder.path / 'results.json'
        require_writable(file)
        counts = [count_frames(source) for source in self._sources]
        with ProgressBar(None if None in counts else sum(counts), 'frame') as bar:
            try:
                for keypoints, windows in self._model.predict_crops(self._crops()):
                    frame, boxes = self._pending.popleft()
                    self._write(frame, self._persons(frame, boxes, keypoints, windows))
                    bar.update()
            finally:
                with deferred_interrupts():
                    self._close_video()
                    if self.frames:
                        write_results(self.results, file)

    @contextmanager
    def _omit_on_error(self, source: Source) -> Iterator[None]:
        try:
            yield
        except (InputError, cv2.error, MemoryError) as error:
            self.failed.add(source)
            reason = str(error) if isinstance(error, InputError) else (
                f'{source}: OpenCV cannot process it ({getattr(error, "err", None) or type(error).__name__}); convert '
                'it or scale it down')
            tqdm.write(f'omitted: {reason}', file=sys.stderr)

    def _crops(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the network's inputs for each frame."""
        for source in self._sources:
            with self._omit_on_error(source):
                for frame in read_frames(source):
                    if source in self._unwritable:
                        break
                    boxes = self._detect(frame)
                    crops = self._model.crop(frame.image, boxes.values)
                    self._pending.append((frame, boxes))
                    yield crops
                else:
                    self.completed.add(source)

    def _persons(self, frame: Frame, boxes: Boxes, keypoints: np.ndarray, windows: np.ndarray) -> list[dict[str, Any]]:
        """Return a frame's persons after NMS as results."""
        image_id = self._image_ids.get(frame.source) if frame.number is None else None
        if image_id is None:
            image_id, self._next_id = self._next_id, self._next_id + 1
        categories = [self._category_id if category is None else category for category in boxes.categories]
        predictions = Predictions(keypoints, windows, [image_id] * len(keypoints), categories,
                                  np.arange(len(keypoints)))
        settings = self._model.config['eval']
        persons = select(predictions, sigmas=np.array(self._model.info.sigmas), nms=self._nms,
                         visibility_threshold=settings['visibility_threshold'],
                         oks_threshold=settings['oks_threshold'])
        place = {} if frame.number is None else {'frame': frame.number}
        return [{**person, 'file_name': frame.source.name, **place} for person in persons]

    def _write(self, frame: Frame, persons: list[dict[str, Any]]) -> None:
        """Write a frame and note its persons: both or, when that fails, none."""
        info = self._model.info
        keypoints = np.array([person['keypoints'] for person in persons], np.float32).reshape(-1, info.num_joints, 3)
        with deferred_interrupts():
            if frame.source is not self._open:
                self._close_video()
                self._open = frame.source
            if frame.source in self._unwritable:
                return
            with self._omit_on_error(frame.source):
                image = draw_poses(frame.image, keypoints, info.skeleton, info.joint_names, self._min_score)
                self._folder.add(frame, image)
                self.results += persons
                self.frames += 1
                return
            self._unwritable.add(frame.source)

    def _close_video(self) -> None:
        if self._open:
            with self._omit_on_error(self._open):
                self._folder.close()
